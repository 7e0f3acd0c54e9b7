"""Tables as people have them, held against what pandas and scikit-learn make of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from optrial.data import Dataset, load_dataset
from optrial.errors import DataError
from optrial.target_kinds import Targets
from tests.tolerance import STATISTICS_FLOAT32

RANDOM = np.random.default_rng(0)


def written(folder: Path, content: str | bytes, name: str = "data.csv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def loaded(folder: Path, content: str | bytes, name: str = "data.csv", **arguments: Any) -> Dataset:
    targets = arguments.pop("wanted", "classes")
    validation = arguments.pop("validation", False)
    arguments.setdefault("target", "y")
    arguments.setdefault("scale", "none")
    path = written(folder, content, name)
    return load_dataset(path, arguments, targets=targets, validation=validation)


def inputs_of(dataset: Dataset) -> np.ndarray:
    """All inputs, in the order of the rows of the file."""
    splits = dataset.splits.values()
    together = np.concatenate([split.inputs for split in splits])
    order = np.argsort(np.concatenate(train_test_split(np.arange(len(together)), test_size=0.2,
                                                       random_state=0)))  # fmt: skip
    return together[order]


def used(dataset: Dataset) -> dict[str, str]:
    return {column.name: column.use for column in dataset.summary.columns}


FRAME = pd.DataFrame(
    {
        "a": RANDOM.normal(0, 1000, 40).round(3),
        "b": RANDOM.integers(0, 50, 40),
        "y": np.arange(40) % 3,
    }
)
VALUES = FRAME[["a", "b"]].to_numpy(np.float32)


@pytest.mark.parametrize(
    ("options", "arguments", "notes"),
    [
        ({}, {}, []),
        ({"sep": ";"}, {}, ["fields are separated by ';'"]),
        ({"sep": "\t"}, {}, ["fields are separated by tabs"]),
        ({"sep": "|"}, {}, ["fields are separated by '|'"]),
        ({"sep": " "}, {}, ["fields are separated by spaces"]),
        ({"sep": "#"}, {"separator": "#"}, []),
        ({"sep": ";", "decimal": ","}, {}, ["fields are separated by ';'",
                                            "numbers have the decimal mark ','"]),
        ({"decimal": ","}, {}, ["numbers have the decimal mark ','"]),  # quoted
        ({"sep": ";", "decimal": ","}, {"decimal": ",", "separator": ";"}, []),
    ],
)  # fmt: skip
def test_separators_and_decimal_commas(
    options: dict[str, Any], arguments: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    text = FRAME.to_csv(index=False, **options)
    if options.get("decimal") and "sep" not in options:
        text = "a,b,y\n" + "".join(
            f'"{a}",{b},{y}\n' for a, b, y in zip(
                FRAME.a.map(lambda a: str(a).replace(".", ",")), FRAME.b, FRAME.y, strict=True
            )
        )  # fmt: skip
    dataset = loaded(tmp_path, text, **arguments)
    assert np.array_equal(inputs_of(dataset), VALUES)
    assert list(dataset.notes) == notes


def spaced(frame: pd.DataFrame) -> str:
    """Numbers between spaces, and a tab before the text at the end, as auto-mpg.data has them."""
    return "".join(f"{a:.3f}   {b:<6d}{y}\t\"car  {y}\"\n" for a, b, y in zip(
        frame.a, frame.b, frame.y, strict=True))  # fmt: skip


def test_numbers_between_spaces_and_tabs(tmp_path: Path) -> None:
    arguments = {"header": False, "target": "3", "drop": ["4"]}
    dataset = loaded(tmp_path, spaced(FRAME), "auto.data", **arguments)
    assert np.array_equal(inputs_of(dataset), VALUES)
    assert "fields are separated by spaces" in dataset.notes
    missing = spaced(FRAME).replace("   ", "   ? ", 1).replace(f" {FRAME.b[0]:<6d}", "  ", 1)
    assert loaded(tmp_path, missing, "auto.data", **arguments).input_shape == (3,)
    commas = "".join(f"{a:.3f} {b:.1f} {y:.1f}\n" for a, b, y in FRAME.to_numpy())
    dataset = loaded(tmp_path, commas.replace(".", ","), header=False, target="3")
    assert np.array_equal(inputs_of(dataset), VALUES)
    texts = "".join(f"{a}\tnew york {y:.0f}\t{y:.0f}\n" for a, _, y in FRAME.to_numpy())
    assert loaded(tmp_path, texts, header=False, target="3").input_shape == (4,)
    with pytest.raises(DataError, match=r"can be divided by '\\t' and by '\\\\s\+'"):
        loaded(tmp_path, "1 234\t0\n2 345\t1\n" * 20, header=False, target="2")


def test_rows_that_end_with_a_separator(tmp_path: Path) -> None:
    text = rows("a,b,y", *(f"{a},{b},{y}," for a, b, y in FRAME.to_numpy()))
    assert np.array_equal(inputs_of(loaded(tmp_path, text)), VALUES)


def test_row_names_without_a_header_are_named(tmp_path: Path) -> None:
    text = rows('"a" "b" "y"', *(f'"{i}" {a} {b} {y}' for i, a, b, y in FRAME.itertuples()))
    with pytest.raises(DataError, match=r"names: \[row, ...\] with header: true"):
        loaded(tmp_path, text)
    named = loaded(tmp_path, text, header=True, names=["row", "a", "b", "y"])
    assert np.array_equal(inputs_of(named), VALUES)


def test_comments(tmp_path: Path) -> None:
    text = "# by the lab\n# of 2020, in mm\n" + FRAME.to_csv(index=False)
    with pytest.raises(DataError, match="skipped by comment: '#'"):
        loaded(tmp_path, text)
    assert np.array_equal(inputs_of(loaded(tmp_path, text, comment="#")), VALUES)


@pytest.mark.parametrize(
    ("cells", "arguments", "values"),
    [
        (["1,234.5", "12,000.25", "7", "1,234,567"] * 10, {}, [1234.5, 12000.25, 7, 1234567]),
        (["1.234,5", "12.000,25", "7", "3,5"] * 10, {}, [1234.5, 12000.25, 7, 3.5]),
        (["1,234", "12,000", "7", "8"] * 10, {"thousands": ","}, [1234, 12000, 7, 8]),
        (["1,234", "12,000", "7", "8"] * 10, {"decimal": ","}, [1.234, 12, 7, 8]),
        (["1.234", "12.000", "7", "8,5"] * 10, {"decimal": ","}, [1234, 12000, 7, 8.5]),
        (["1 234", "12 000", "7", "8"] * 10, {"thousands": " "}, [1234, 12000, 7, 8]),
        (["1e3", "-2.5E-1", "+7", ".5"] * 10, {}, [1000, -0.25, 7, 0.5]),
    ],
)
def test_thousands(
    cells: list[str], arguments: dict[str, Any], values: list[float], tmp_path: Path
) -> None:
    text = rows("x;y", *(f"{cell};{index % 2}" for index, cell in enumerate(cells)))
    dataset = loaded(tmp_path, text, **arguments)
    assert np.array_equal(inputs_of(dataset)[:, 0], np.float32(values * 10))


@pytest.mark.parametrize(
    ("cell", "arguments"),
    [
        ("0,41", {"thousands": ","}),
        ("0.047", {"thousands": "."}),
        ("1,2345", {"thousands": ","}),
        ("1,23,4567.5", {"thousands": ","}),
        ("-12.5", {"thousands": ".", "decimal": ","}),
    ],
)
def test_marks_that_do_not_separate_thousands_are_refused(
    cell: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """pandas would leave the mark out, and read 0,41 as 41."""
    text = rows("x;y", *["7;0", f"{cell};1"] * 10)
    with pytest.raises(DataError, match=f"{re.escape(cell)}' .data row 2., in which"):
        loaded(tmp_path, text, **arguments)


def test_groups_of_two_digits_and_missing_values(tmp_path: Path) -> None:
    text = rows("x;y", *["12,34,567;0", ",;1", "-,;0", "8;1"] * 10)
    dataset = loaded(tmp_path, text, thousands=",", na_values=[",", "-,"], impute="mean")
    assert inputs_of(dataset)[0, 0] == 1234567


def test_comma_that_is_open_is_asked_for(tmp_path: Path) -> None:
    text = rows("x;y", *["1,234;0", "12,000;1"] * 10)
    with pytest.raises(DataError, match=r"'1,234', .* give decimal: ',' or thousands: ','"):
        loaded(tmp_path, text)


@pytest.mark.parametrize(
    ("separator", "cells"),
    [(";", ["1.234", "12.000"]), (";", ["1.234", "987"]), ("\t", ["1.234", "987"])],
)
def test_point_that_is_open_is_asked_for(separator: str, cells: list[str], tmp_path: Path) -> None:
    lines = [f"{cell}{separator}{label}" for label, cell in enumerate(cells)]
    text = rows(f"x{separator}y", *lines * 10)
    with pytest.raises(DataError, match=r"'1\.234', .* give decimal: '.' or thousands: '.'"):
        loaded(tmp_path, text)
    for argument, factor in (("decimal", 1), ("thousands", 1000)):
        values = [float(cell) * (factor if "." in cell else 1) for cell in cells]
        dataset = loaded(tmp_path, text, **{argument: "."})
        assert np.array_equal(inputs_of(dataset)[:, 0], np.float32(values * 10))
    settled = rows(f"w{separator}{text.partition(chr(10))[0]}",
                   *(f"0.5{separator}{row}" for row in text.splitlines()[1:]))  # fmt: skip
    expected = [float(cell) for cell in cells] * 10
    assert np.array_equal(inputs_of(loaded(tmp_path, settled))[:, 1], np.float32(expected))


@pytest.mark.parametrize("cells", [["0.5", "1.234"], ["0.5", "1.25"], ["1,5", "0.5"]])
def test_decimal_points_beside_decimal_commas_are_refused(cells: list[str], tmp_path: Path) -> None:
    text = rows("p;q;y", *(f"2,{i + 10};{cells[i % 2]};{i % 2}" for i in range(40)))
    with pytest.raises(DataError, match=r"column 'q' holds numbers such as .* write all numbers"):
        loaded(tmp_path, text)
    assert loaded(tmp_path, text, drop="q").input_shape == (1,)


@pytest.mark.parametrize(
    ("encode", "arguments"),
    [
        (lambda text: text.encode("utf-8-sig"), {}),
        (lambda text: text.encode("utf-8-sig"), {"encoding": "utf-8"}),
        (lambda text: text.encode("utf-16"), {}),
        (lambda text: text.encode("utf-16-be"), {"encoding": "utf-16-be"}),
        (lambda text: text.encode("latin-1"), {"encoding": "latin-1"}),
        (lambda text: text.replace("\n", "\r\n").encode(), {}),
        (lambda text: text.replace("\n", "\r").encode(), {}),
        (lambda text: text.replace("\n", "\n\n  \n").encode(), {}),
        (lambda text: text.replace(";", " ; ").encode(), {}),
        (lambda text: f"sep=;\r\n{text}".encode("utf-8-sig"), {}),
    ],
)
def test_encodings_and_line_ends(
    encode: Callable[[str], bytes], arguments: dict[str, Any], tmp_path: Path
) -> None:
    text = rows("größe;x;y", *(f"{a};{b};{y}" for a, b, y in FRAME.to_numpy()))
    dataset = loaded(tmp_path, encode(text), features=["größe", "x"], **arguments)
    assert np.array_equal(inputs_of(dataset), VALUES)


@pytest.mark.parametrize(
    ("name", "compress"),
    [("data.csv.gz", gzip.compress), ("data.tsv.bz2", bz2.compress), ("d.txt.xz", lzma.compress)],
)
def test_compressed_files(name: str, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = FRAME.to_csv(index=False).encode()
    assert np.array_equal(inputs_of(loaded(tmp_path, compress(content), name)), VALUES)
    with pytest.raises(DataError, match="cannot be read"):
        loaded(tmp_path, compress(content)[:-9], name)
    for other in (content, compress(content)):  # whatever the name says
        for suffix in ("data.csv", name):
            assert np.array_equal(inputs_of(loaded(tmp_path, other, suffix)), VALUES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("größe,y\n1,0\n".encode("latin-1"), "is not text in utf-8 .* encoding: latin-1, cp1252"),
        ("x,y\n1,0\n".encode("utf-16-le"), "holds the character NUL,.* encoding: utf-16"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
    ],
)
def test_other_encodings_are_asked_for(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, content)


def test_quoted_newlines_and_separators(tmp_path: Path) -> None:
    cells = ["one,\ntwo", 'three "quoted"', "four"]
    frame = pd.DataFrame({"text": [cells[i % 3] for i in range(30)], "y": np.arange(30) % 2})
    dataset = loaded(tmp_path, frame.to_csv(index=False))
    expected = np.stack([frame.text == cell for cell in sorted(cells)], axis=1)
    assert np.array_equal(inputs_of(dataset), expected)


@pytest.mark.parametrize(
    ("lines", "arguments", "columns"),
    [
        (["5.1,3.5,a", "4.9,3.0,b"] * 10, {"header": False, "target": "3"}, ["1", "2", "3"]),
        (["5.1,3.5,a", "4.9,3.0,b"] * 10, {"header": False, "target": 3}, ["1", "2", "3"]),
        (["5.1,3.5,a", "4.9,3.0,b"] * 10, {"names": ["u", "v", "y"]}, ["u", "v", "y"]),
        (["u,v,w", *["5.1,3.5,a", "4.9,3.0,b"] * 10],
         {"names": ["p", "q", "y"], "header": True}, ["p", "q", "y"]),
        (["2015,2016,y", *["5.1,3.5,a", "4.9,3.0,b"] * 10], {}, ["2015", "2016", "y"]),
        (["2015,2016,2017", *["5.1,3.5,1", "4.9,3.0,0"] * 10],
         {"header": True, "target": 2017}, ["2015", "2016", "2017"]),
    ],
)  # fmt: skip
def test_headers(
    lines: list[str], arguments: dict[str, Any], columns: list[str], tmp_path: Path
) -> None:
    dataset = loaded(tmp_path, rows(*lines), "iris.data", **arguments)
    assert [column.name for column in dataset.summary.columns] == columns
    expected = np.float32([[5.1, 3.5], [4.9, 3.0]] * 10)
    assert np.array_equal(inputs_of(dataset), expected)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["5.1,3.5,a", "4.9,3.0,b", "5.1,3.5,a"], "seems to have no header: .* give header: false"),
        (["39, State-gov,0", "50, Private,1", "38, State-gov,0"], "seems to have no header"),
        (["2,8,3", "5,12,3", "4,11,6"], "seems to have no header: its first row is '2, 8, 3'"),
        (["x,x,y", "1,2,0"], r"several columns named 'x'; rename them"),
        (
            ["a:b", "1:0"],
            "no column 'y' for target. Allowed: a:b. It has one column; name the separator",
        ),
        (["x,y", "1,0,5", "2,1,5"], "2 rows without the 2 fields .* row 2 with 3"),
        (["x,z,y", "1,3,0", "2,1"], "1 row without the 3 fields .* row 3 with 2"),
        (["x,y", '1,"0', "2,1"], "cannot be read|do not have"),
        (["x,y"], "0 rows"),
        (["y", "1", "0"], "0 features"),
        (["x,yy", "1,0"], "no column 'y' for target. Did you mean 'yy'"),
    ],
)
def test_bad_tables_are_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, rows(*lines))


def test_several_separators_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="divided by ',' and by ';'; name its separator"):
        loaded(tmp_path, rows("a;b,y", *["1;2,0", "3;4,1"] * 10))


def mixed(samples: int = 200) -> pd.DataFrame:
    """Numbers, text and booleans, the first two with gaps, in an order that shuffles them."""
    frame = pd.DataFrame(
        {
            "height ": RANDOM.normal(170, 10, samples).round(1),
            " city": np.array(["Rome", "Bonn", "Oslo"])[RANDOM.integers(0, 3, samples)],
            "member": RANDOM.integers(0, 2, samples).astype(bool),
            "age": RANDOM.integers(18, 90, samples),
            "y": RANDOM.integers(0, 2, samples),
        }
    )
    frame.loc[RANDOM.choice(samples, 30, replace=False), "height "] = np.nan
    frame.loc[RANDOM.choice(samples, 20, replace=False), " city"] = np.nan
    return frame


@pytest.mark.parametrize("strategy", ["median", "mean", "most_frequent"])
def test_columns_are_encoded_by_training_rows_as_by_scikit_learn(
    strategy: str, tmp_path: Path
) -> None:
    frame = mixed()
    dataset = loaded(
        tmp_path, frame.to_csv(index=False), impute=strategy, scale="standardize", validation=True
    )
    rest, test = train_test_split(frame, test_size=0.2, random_state=0)
    held = dataset.splits["validation"]
    # Which rows were held out is told by their ages and targets; numbers come first.
    ages = rest.age.to_numpy()
    train = rest.iloc[held_in(ages, rest.y.to_numpy(), dataset)]
    one_hot: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if strategy == "most_frequent":
        one_hot = make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot)
    numbers = make_pipeline(SimpleImputer(strategy=strategy), StandardScaler())
    expected = ColumnTransformer(
        [("n", numbers, ["height ", "age"]), ("b", "passthrough", ["member"]),
         ("t", one_hot, [" city"])]
    ).fit(train)  # fmt: skip
    width = len(expected.get_feature_names_out())
    for split, part in (("train", train), ("test", test)):
        inputs = dataset.splits[split].inputs
        encoded = expected.transform(part).astype(float)
        assert inputs[:, :width] == pytest.approx(encoded, abs=STATISTICS_FLOAT32)
        assert np.array_equal(inputs[:, width], part["height "].isna())
        if strategy == "most_frequent":
            assert np.array_equal(inputs[:, width + 1], part[" city"].isna())
    assert dataset.input_shape == (width + 1 + (strategy == "most_frequent"),)
    assert len(held.inputs) == 16


def held_in(ages: np.ndarray, targets: np.ndarray, dataset: Dataset) -> list[int]:
    """Places of the rows that stayed in the training split, which keeps their order."""
    from optrial.data.splits import held_out

    arguments = load_arguments(dataset)
    chosen = held_out("t", {"train": (ages, targets)}, None, arguments, wanted=True)
    assert chosen is not None
    return list(np.flatnonzero(~chosen))


def load_arguments(dataset: Dataset) -> Any:
    from optrial.data.arguments import TextTableArguments

    return TextTableArguments.model_validate(dataset.arguments)


def test_encoding_does_not_see_validation_and_test_rows(tmp_path: Path) -> None:
    frame = mixed()
    first = loaded(tmp_path, frame.to_csv(index=False), scale="standardize", validation=True)
    rest, _ = train_test_split(np.arange(len(frame)), test_size=0.2, random_state=0)
    stayed = rest[held_in(rest, frame.y.to_numpy()[rest], first)]
    others = np.setdiff1d(np.arange(len(frame)), stayed)
    frame.loc[others, "age"] *= 1000
    frame.loc[others, " city"] = "Lima"
    second = loaded(tmp_path, frame.to_csv(index=False), scale="standardize", validation=True)
    assert np.array_equal(first.splits["train"].inputs, second.splits["train"].inputs)
    cities = second.splits["test"].inputs[:, 3:7]
    assert (cities == 0).all()  # an unseen category is none of them


def test_summary_of_a_table(tmp_path: Path) -> None:
    frame = mixed()
    frame["constant"], frame["copy"] = 1.5, frame.age
    dataset = loaded(tmp_path, frame.to_csv())
    details = {column.name: (column.kind, column.use, column.detail)
               for column in dataset.summary.columns}  # fmt: skip
    assert details == {
        "Unnamed: 0": ("number", "dropped", "without a name, as a saved index"),
        "height": ("number", "feature", "30 missing: median + indicator"),
        "city": ("text", "feature", "one-hot, 3 categories + missing (20)"),
        "member": ("boolean", "feature", "0 and 1"),
        "age": ("number", "feature", ""),
        "y": ("number", "target", "classes"),
        "constant": ("number", "feature", ""),
        "copy": ("number", "feature", ""),
    }
    assert dataset.notes == (
        "column 'Unnamed: 0' is dropped: without a name, as a saved index; name it in features to "
        "use it",
        "'constant' has the same value in every row",
        "'copy' repeats 'age'",
        "missing values become the median of the training rows: height (30)",
        "missing text becomes an extra category: city (20)",
    )
    counted = {one.name: one.counts for one in dataset.summary.classes}
    for split, part in dataset.splits.items():
        assert [counted[name][split] for name in ("0", "1")] == list(np.bincount(part.targets))


@pytest.mark.parametrize("start", [10**18, 2**63])
def test_classes_of_many_digits_stay_apart(start: int, tmp_path: Path) -> None:
    """float64 would take them as one."""
    labels = [start + number % 3 for number in range(40)]
    dataset = loaded(tmp_path, FRAME.assign(y=labels).to_csv(index=False))
    assert [one.name for one in dataset.summary.classes] == [str(start + n) for n in range(3)]


@pytest.mark.parametrize(
    ("cells", "pair"),
    [
        (["1", "2", "1.0"], "'1' and '1.0'"),
        (["+3", "2", "3"], "'+3' and '3'"),
        (["10", "2", "1e1"], "'10' and '1e1'"),
        (["1", "2", "1 "], "'1' and '1 '"),
        (["TRUE", "FALSE", "True"], "'TRUE' and 'True'"),
        (["cat", "dog", "cat "], "'cat' and 'cat '"),
        (["1", "2", "3"], ""),
        (["1.0", "2.0"], ""),
        (["01", "02"], ""),
        (["true", "false"], ""),
        (["True", "False", "maybe"], ""),
    ],
)
def test_a_class_that_is_written_in_several_ways_is_noted(
    cells: list[str], pair: str, tmp_path: Path
) -> None:
    labels = [cells[row % len(cells)] for row in range(40)]
    dataset = loaded(tmp_path, FRAME.assign(y=labels).to_csv(index=False))
    words = f"target 'y' holds {pair}, which count as the same class"
    assert any(note.startswith(words) for note in dataset.notes) == bool(pair)
    assert len(dataset.summary.classes) == len(cells) - bool(pair)


@pytest.mark.parametrize("other", ["1", "+1", "001"])
def test_codes_that_are_one_number_are_refused(other: str, tmp_path: Path) -> None:
    labels = [("01", "02", other)[row % 3] for row in range(40)]
    with pytest.raises(DataError) as refused:
        loaded(tmp_path, FRAME.assign(y=labels).to_csv(index=False))
    assert f"target 'y' holds '01' and '{other}', which are one number" in str(refused.value)
    as_text = FRAME.assign(y=[f"c{label}" for label in labels]).to_csv(index=False)
    assert len(loaded(tmp_path, as_text).summary.classes) == 3


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.arange(40), "it numbers the rows"),
        (np.arange(1, 41), "it numbers the rows"),
        (RANDOM.permutation(40), "it numbers the rows"),
        (np.arange(40) * 3 + 1000, "whole numbers in order, as an index"),
        (np.arange(40)[::-1] * 5, "whole numbers in order, as an index"),
        ([f"Doe, Mr. {i}" for i in range(40)], "40 different texts in 40 rows"),
        ([None] * 40, "all values are missing"),
        (RANDOM.normal(size=40), ""),
        (np.sort(RANDOM.normal(size=40)), ""),
        (np.arange(40) // 2, ""),
        (RANDOM.permutation(40) * 7, ""),
    ],
)
def test_columns_that_number_or_name_the_rows(column: Any, reason: str, tmp_path: Path) -> None:
    frame = FRAME.assign(z=column)
    dataset = loaded(tmp_path, frame.to_csv(index=False))
    assert used(dataset)["z"] == ("dropped" if reason else "feature")
    assert any(f"'z' is dropped: {reason}" in note for note in dataset.notes) == bool(reason)
    if reason and reason != "all values are missing":
        kept = loaded(tmp_path, frame.to_csv(index=False), features=["a", "b", "z"])
        assert used(kept)["z"] == "feature"
        assert kept.input_shape == ((34,) if isinstance(column[0], str) else (3,))


def test_identifiers_are_told_by_their_name(tmp_path: Path) -> None:
    identifiers = RANDOM.permutation(40) * 7
    for name in ("id", "ID", "patient_id", "PassengerId"):
        text = FRAME.rename(columns={"b": name}).assign(**{name: identifiers}).to_csv(index=False)
        assert used(loaded(tmp_path, text))[name] == "dropped"
    for name in ("paid", "width"):
        text = FRAME.rename(columns={"b": name}).assign(**{name: identifiers}).to_csv(index=False)
        assert used(loaded(tmp_path, text))[name] == "feature"


@pytest.mark.parametrize(
    ("arguments", "features"),
    [
        ({"drop": ["b"]}, ["a"]),
        ({"drop": "b"}, ["a"]),
        ({"features": ["b"]}, ["b"]),
        ({"index": "b"}, ["a"]),
        ({"split": {"grouped": "b"}}, ["a"]),
        ({"split": {"grouped": "b"}, "features": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_chosen_columns(arguments: dict[str, Any], features: list[str], tmp_path: Path) -> None:
    dataset = loaded(tmp_path, FRAME.to_csv(index=False), **arguments)
    assert [name for name, use in used(dataset).items() if use == "feature"] == features


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": ["c"]}, "no column 'c' for drop"),
        ({"features": ["aa"]}, "no column 'aa' for features. Did you mean"),
        ({"index": "c"}, "no column 'c' for index"),
        ({"split": {"grouped": "c"}}, "no column 'c' for split"),
        ({"drop": ["y"]}, "'y' cannot be both target and drop"),
        ({"features": ["a", "y"]}, "'y' cannot be both target and features"),
        ({"drop": ["a"], "features": ["a"]}, "'a' cannot be both features and drop"),
        ({"drop": ["a", "b"]}, "0 features and 40 rows .*\n  'a': as asked\n  'b': as asked"),
        ({"target": ["a", "a"], "wanted": "values"}, "target names a column twice"),
        ({"names": ["p", "y"], "header": True}, "3 columns; names has 2"),
    ],
)
def test_bad_choices_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, FRAME.to_csv(index=False), **arguments)


@pytest.mark.parametrize(
    ("cell", "note"),
    [("?", "'?' in a is a missing value"), (" ?", "'?' in a is a missing value"),
     ("-", "'-' in a is a missing value"), ("unknown", "'unknown' in a is a missing value"),
     ("\\N", "'\\\\N' in a is a missing value"), ("NA", ""), ("", ""), ("n/a", ""), ("null", "")],
)  # fmt: skip
def test_missing_values_are_recognised(cell: str, note: str, tmp_path: Path) -> None:
    frame = FRAME.assign(a=FRAME.a.astype(str))
    frame.loc[[3, 5], "a"] = cell
    dataset = loaded(tmp_path, frame.to_csv(index=False))
    median = FRAME.a.drop([3, 5])[train_test_split(FRAME.index, test_size=0.2, random_state=0)[0]
                                  .difference([3, 5])].median()  # fmt: skip
    inputs = inputs_of(dataset)
    assert np.array_equal(inputs[[3, 5], 0], np.float32([median, median]))
    assert np.array_equal(np.flatnonzero(inputs[:, 2]), [3, 5])
    assert (note in dataset.notes) == bool(note)
    plain = loaded(tmp_path, frame.to_csv(index=False), add_indicator=False)
    assert np.array_equal(inputs_of(plain), inputs[:, :2])


def test_missing_values_are_named(tmp_path: Path) -> None:
    frame = FRAME.assign(b=FRAME.b.where(FRAME.index > 5, -999))
    dataset = loaded(tmp_path, frame.to_csv(index=False), na_values=-999, impute="mean")
    assert "missing values become the mean of the training rows: b (6)" in dataset.notes
    kept = FRAME.assign(b=np.where(FRAME.b > 25, "NA", "EU"))
    assert loaded(tmp_path, kept.to_csv(index=False), keep_default_na=False).input_shape == (3,)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.date_range("2020-01-31", periods=40), "holds dates such as '2020-01-31'; derive"),
        (pd.date_range("2020-01-31", periods=40, freq="h"), "holds dates"),
        ([f"1949-{month % 12 + 1:02}" for month in range(40)], r"drop: \[z\]; split: chronolog"),
        ([f"{day % 28 + 1}/{day % 12 + 1}/2020" for day in range(40)], "holds dates"),
        ([f"{day % 28 + 1}.{day % 12 + 1}.20" for day in range(40)], "holds dates"),
        ([f"March {day % 28 + 1}, 2020" for day in range(40)], "holds dates"),
        ([f"3 Mar {1990 + day}" for day in range(40)], "holds dates"),
        ([f"{hour % 24}:30" for hour in range(40)], "holds dates"),
        ([f"${1200 + price:,}" for price in range(40)], r"numbers written as text.*plain numbers"),
        ([f"{share}%" for share in range(40)], "numbers written as text"),
        ([f"{length} cm" for length in range(40)], "numbers written as text"),
        ([*map(str, range(38)), "three", "four"], r"text in 2 rows .*row 39.*na_values: \['three'"),
        (["[m]", *["1.5", "2.5", "2.5"] * 13], r"text in 1 row such as '\[m\]' \(data row 1\)"),
        ([f"{10 * (i % 4)}%" for i in range(40)], "numbers written as text"),
        ([f"\u2212{i % 4}" for i in range(40)], "numbers written as text, such as '\u22120'"),
        ([f"1\u202f{i % 4}00" for i in range(40)], "signs, units or spaces, or leave"),
        ([f"1 {i % 4}00,5" for i in range(40)], "or give thousands: ' ', decimal: ',', or leave"),
        (["unknown", *pd.date_range("2020-01-31", periods=39)], "holds dates such as '2020-"),
        ([20_230_101 + i % 30 for i in range(40)], "20230101, which float32 .* standardize"),
        ([np.inf, *range(39)], "column 'z' holds inf in data row 1"),
    ],
)
def test_columns_that_are_no_features_are_refused(cells: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, FRAME.assign(z=cells).to_csv(index=False))
    dropped = loaded(tmp_path, FRAME.assign(z=cells).to_csv(index=False), drop=["z"])
    assert np.array_equal(inputs_of(dropped), VALUES)


def test_whole_numbers_beyond_64_bits(tmp_path: Path) -> None:
    cells = [10**25 + int(i) * 10**20 for i in RANDOM.integers(0, 1000, 40)]
    dataset = loaded(tmp_path, FRAME.assign(a=cells).to_csv(index=False), scale="standardize")
    train, _ = train_test_split(np.array(cells, float), test_size=0.2, random_state=0)
    expected = (train - train.mean()) / train.std()
    assert dataset.splits["train"].inputs[:, 0] == pytest.approx(expected, abs=STATISTICS_FLOAT32)


@pytest.mark.parametrize("impute", ["median", "most_frequent"])
@pytest.mark.parametrize("cell", ["1.5", "True", "word"])
def test_columns_without_values_in_training_rows_are_dropped(
    cell: str, impute: str, tmp_path: Path
) -> None:
    text = FRAME.assign(late=[""] * 32 + [cell] * 8).to_csv(index=False)
    dataset = loaded(tmp_path, text, split="chronological", impute=impute)
    assert used(dataset)["late"] == "dropped"
    assert "'late' is dropped: all values are missing in the training rows" in dataset.notes[0]
    assert np.array_equal(np.concatenate([s.inputs for s in dataset.splits.values()]), VALUES)


def test_notes_on_missing_values(tmp_path: Path) -> None:
    frame = FRAME.assign(c=["", "True", "False", "True"] * 10, d=["", "u", "v", "u"] * 10)
    frame.loc[3, "a"] = np.nan
    notes = loaded(tmp_path, frame.to_csv(index=False)).notes
    assert list(notes) == [
        "missing values become the median of the training rows: a (1)",
        "missing booleans become the most frequent one: c (10)",
        "missing text becomes an extra category: d (10)",
    ]


def test_words_with_numbers_are_categories(tmp_path: Path) -> None:
    cells = [f"{20 + 10 * (i % 4)}-{29 + 10 * (i % 4)}" for i in range(40)]
    for column in (cells, ["3+" if i % 4 == 3 else str(i % 4) for i in range(40)]):
        dataset = loaded(tmp_path, FRAME.assign(z=column).to_csv(index=False))
        assert dataset.input_shape == (6,)
        expected = OneHotEncoder(sparse_output=False).fit_transform(np.reshape(column, (-1, 1)))
        assert np.array_equal(inputs_of(dataset)[:, 2:], expected)


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (
            ["4 kg", "5 kg"],
            "'z' holds numbers with a unit, such as '4 kg', which become categories",
        ),
        (["yes", "Yes"], "'z' holds 'yes' and 'Yes', which count as different; write them alike"),
        (["p", "q", "r"], ""),
    ],
)
def test_categories_that_may_be_a_mistake_are_noted(
    cells: list[str], note: str, tmp_path: Path
) -> None:
    z = [cells[(row * 7) % 5 % len(cells)] for row in range(40)]
    dataset = loaded(tmp_path, FRAME.assign(z=z).to_csv(index=False))
    assert any(line.startswith(note) for line in dataset.notes) if note else not dataset.notes


@pytest.mark.parametrize(
    ("give_away", "z"),
    [
        (True, FRAME.y.map({0: "no", 1: "yes", 2: "maybe"})),
        (True, 5 - FRAME.y),
        (False, FRAME.y * 0 + FRAME.a % 3 // 2),
    ],
)
def test_a_feature_that_gives_the_target_away_is_noted(
    give_away: bool, z: Any, tmp_path: Path
) -> None:
    dataset = loaded(tmp_path, FRAME.assign(z=z).to_csv(index=False))
    assert any("'z' gives the target 'y' away" in note for note in dataset.notes) is give_away


def test_large_numbers_that_are_equal_as_floats_do_not_vary(tmp_path: Path) -> None:
    frame = FRAME.assign(z=[10**20 + row % 7 for row in range(40)])
    dataset = loaded(tmp_path, frame.to_csv(index=False), scale="standardize")
    assert "'z' has the same value in every row" in dataset.notes


def test_rare_categories_share_a_column(tmp_path: Path) -> None:
    cells = [f"word {int(np.sqrt(i))}" for i in range(400)]
    frame = pd.DataFrame({"word": cells, "y": np.arange(400) % 2})
    dataset = loaded(tmp_path, frame.to_csv(index=False), max_categories=5)
    train, test = train_test_split(frame, test_size=0.2, random_state=0)
    encoder = OneHotEncoder(max_categories=5, handle_unknown="ignore", sparse_output=False)
    assert np.array_equal(dataset.splits["train"].inputs, encoder.fit_transform(train[["word"]]))
    assert np.array_equal(dataset.splits["test"].inputs, encoder.transform(test[["word"]]))
    assert dataset.summary.columns[0].detail == "one-hot, 20 categories, the 16 rarest as one"


def test_scaling_leaves_encoded_columns_alone(tmp_path: Path) -> None:
    text = mixed().to_csv(index=False)
    plain = loaded(tmp_path, text)
    for arguments in ({"scale": "standardize"}, {"scale": "unit"}, {"scale": None, "mean": 1.0,
                      "std": [2.0, 4.0]}):  # fmt: skip
        scaled = loaded(tmp_path, text, **arguments)
        for split in plain.splits:
            before, after = plain.splits[split].inputs, scaled.splits[split].inputs
            assert np.array_equal(before[:, 2:], after[:, 2:])
            assert not np.array_equal(before[:, :2], after[:, :2])
    only = loaded(tmp_path, mixed()[["member", "y"]].to_csv(index=False), scale="standardize")
    assert set(np.unique(only.splits["train"].inputs)) == {0, 1}


@pytest.mark.parametrize("targets", ["classes", "any", "values"])
@pytest.mark.parametrize("number", ["1" * 400, "9" * 5000, "-" + "9" * 400])
def test_whole_numbers_beyond_floats_are_refused(
    tmp_path: Path, number: str, targets: Targets
) -> None:
    for column in range(2):
        rows = [[str(i % 7), str(i * i % 3)] for i in range(30)]
        rows[3][column] = number
        lines = ["a,b", *map(",".join, rows)]
        (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(DataError, match=r"column 'a'|target|'b'") as error:
            load_dataset(str(tmp_path / "table.csv"), {"target": "b"}, targets=targets)
        assert len(str(error.value)) < 400


def test_large_numbers_are_standardized_precisely(tmp_path: Path) -> None:
    seconds = 1_700_000_000 + RANDOM.integers(0, 1000, 40)
    frame = FRAME.assign(a=seconds)
    dataset = loaded(tmp_path, frame.to_csv(index=False), scale="standardize")
    train, _ = train_test_split(frame[["a", "b"]].to_numpy(float), test_size=0.2, random_state=0)
    expected = StandardScaler().fit_transform(train)
    assert dataset.splits["train"].inputs == pytest.approx(expected, abs=STATISTICS_FLOAT32)


@pytest.mark.parametrize(
    ("target", "wanted", "regression"),
    [
        ([3, 4, 5], "values", True),
        ([3, 4, 5], "classes", False),
        ([0.5, 1.5, 2.0], "values", True),
        ([0.5, 1.5, 2.0], "any", True),
        ([1.0, 2.0, 3.0], "classes", False),
        ([True, False, True], "values", True),
        ([True, False, True], "classes", False),
        (["a", "b", "c"], "classes", False),
        (["a", "b", "c"], "any", False),
    ],
)
def test_targets(target: list[Any], wanted: Any, regression: bool, tmp_path: Path) -> None:
    frame = FRAME.assign(y=[target[i % 3] for i in range(40)])
    dataset = loaded(tmp_path, frame.to_csv(index=False), wanted=wanted)
    assert dataset.regression is regression
    train, _ = train_test_split(frame.y.to_numpy(), test_size=0.2, random_state=0)
    targets = dataset.splits["train"].targets
    if regression:
        assert np.array_equal(targets[:, 0], train.astype(np.float32))
        (scale,) = dataset.summary.values
        expected = train.astype(float)
        statistics = (expected.mean(), expected.std(), expected.min(), expected.max())
        assert (scale.mean, scale.std, scale.minimum, scale.maximum) == pytest.approx(statistics)
    else:
        assert np.array_equal(targets, np.unique(frame.y, return_inverse=True)[1][
            train_test_split(np.arange(40), test_size=0.2, random_state=0)[0]])  # fmt: skip


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (["a", "b", "c"], {"wanted": "values"}, "text such as 'a'.*cross_entropy, or targets: lab"),
        ([0.5, 1, 2], {}, "holds 0.5 in data row 1, which is not a class; .* such as mse"),
        ([1, 2, 3], {"wanted": "any"}, "give targets: labels or targets: values"),
        (["a", "None", "b"], {}, "fill them in, .* keep_default_na: false makes classes"),
        ([1, None, 3], {}, "'y' has 13 missing values, in data rows 2, 5, 8, 11, 14, ...; fill"),
        ([f"${value},500" for value in range(100, 140)], {"wanted": "values"}, "written as text"),
        (["2020-01-01", "2020-01-02", "2021-02-03"], {}, "target 'y' holds dates"),
        ([np.inf, 1, 2], {"wanted": "values"}, "first inf at sample"),
    ],
)
def test_bad_targets_are_refused(
    target: list[Any], arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    frame = FRAME.assign(y=[target[i % len(target)] for i in range(40)])
    with pytest.raises(DataError, match=message) as caught:
        loaded(tmp_path, frame.to_csv(index=False), **arguments)
    assert "drop:" not in str(caught.value)  # a target cannot be left out


def test_targets_as_the_user_says(tmp_path: Path) -> None:
    text = FRAME.to_csv(index=False)
    assert not loaded(tmp_path, text, wanted="any", targets="labels").regression
    assert loaded(tmp_path, text, wanted="any", targets="values").regression
    assert not loaded(tmp_path, text, wanted="values", targets="labels").regression


@pytest.mark.parametrize("target", [["a"], ["a", "b"]])
def test_several_targets_are_values(target: list[str], tmp_path: Path) -> None:
    dataset = loaded(
        tmp_path, FRAME.assign(c=VALUES[:, 0]).to_csv(index=False), target=target, wanted="values"
    )
    train, _ = train_test_split(FRAME[target].to_numpy(np.float32), test_size=0.2, random_state=0)
    assert np.array_equal(dataset.splits["train"].targets, train)
    assert [value.name for value in dataset.summary.values] == target


def test_parquet(tmp_path: Path) -> None:
    frame = mixed().rename(columns=str.strip)
    frame["age"] = frame.age.astype("Int64").where(frame.age > 20)
    frame["city"] = frame.city.astype("category")
    path = tmp_path / "data.parquet"
    frame.to_parquet(path)
    arguments = {"target": "y", "scale": "none"}
    from_parquet = load_dataset(str(path), arguments)
    from_text = loaded(tmp_path, frame.to_csv(index=False))
    assert from_parquet.sha256 == from_text.sha256
    frame.assign(when=pd.Timestamp("2020-01-01")).to_parquet(path)
    with pytest.raises(DataError, match="column 'when' holds dates"):
        load_dataset(str(path), arguments)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), arguments)


def test_columns_of_lists_in_parquet_files_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    FRAME.assign(lists=[[1.0, 2.0]] * len(FRAME), mapped=[{"q": 1}] * len(FRAME)).to_parquet(path)
    with pytest.raises(DataError, match="column 'lists' holds a list"):
        load_dataset(str(path), {"target": "y"})
    dropped = load_dataset(str(path), {"target": "y", "drop": ["lists", "mapped"]})
    FRAME.to_parquet(path)
    assert dropped.sha256 == load_dataset(str(path), {"target": "y"}).sha256


def test_a_parquet_file_of_damaged_types_is_refused(tmp_path: Path) -> None:
    """pyarrow ends the process when it reads the metadata of a column of such a file."""
    path = tmp_path / "data.parquet"
    pd.DataFrame({"a": [0, 1] * 12, "b": ["p", "q"] * 12, "y": [0, 1] * 12}).to_parquet(path)
    content, refused = path.read_bytes(), 0
    text, number = 12, 8  # types of texts and of numbers, in the footer
    for place in range(len(content) - 1500, len(content)):
        if content[place] == text:
            path.write_bytes(content[:place] + bytes([number]) + content[place + 1 :])
            try:
                load_dataset(str(path), {"target": "y"})
            except DataError:
                refused += 1
    assert refused


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FRAME.to_parquet(tmp_path / "data.parquet")
    monkeypatch.delitem(sys.modules, "optrial.data.sources.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install 'optrial\[parquet\]'"):
        load_dataset(str(tmp_path / "data.parquet"), {"target": "y"})


def test_splits_of_a_table(tmp_path: Path) -> None:
    frame = FRAME.assign(g=np.arange(40) // 4, place=np.arange(40) / 2)
    text = frame.to_csv(index=False)

    def rows_of(**arguments: Any) -> dict[str, list[int]]:
        dataset = loaded(tmp_path, text, features=["place"], validation=True, **arguments)
        return {split: (2 * part.inputs[:, 0]).astype(int).tolist()
                for split, part in dataset.splits.items()}  # fmt: skip

    late = rows_of(split="chronological")
    assert late == {
        "train": list(range(28)), "validation": list(range(28, 32)), "test": list(range(32, 40))
    }  # fmt: skip
    even = rows_of(split="stratified", random_state=3)
    train, test = train_test_split(np.arange(40), test_size=0.2, random_state=3, stratify=frame.y)
    assert even["test"] == test.tolist()
    assert sorted(even["train"] + even["validation"]) == sorted(train)
    together = rows_of(split={"grouped": "g"})
    division = GroupShuffleSplit(n_splits=1, test_size=0.2, random_state=0)
    assert together["test"] == next(division.split(frame, groups=frame.g))[1].tolist()
    groups = {split: {row // 4 for row in rows} for split, rows in together.items()}
    assert not groups["train"] & groups["validation"]
    assert not groups["test"] & (groups["train"] | groups["validation"])
    assert sum(map(len, together.values())) == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "stratified", "wanted": "values"}, "stratified needs classes"),
        ({"split": {"grouped": "b"}, "nan": True}, "column 'b' for split has 1 missing value;"),
        ({"split": {"grouped": "one"}}, "cannot divide the samples"),
    ],
)
def test_bad_splits_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    frame = FRAME.assign(one="same")
    if arguments.pop("nan", False):
        frame["b"] = frame.b.where(frame.index > 0)
    with pytest.raises(DataError, match=message):
        loaded(tmp_path, frame.to_csv(index=False), **arguments)


def test_everything_that_changes_the_arrays_is_in_the_hash(tmp_path: Path) -> None:
    frame = mixed()
    text = pd.concat([frame, frame[:5]]).to_csv(index=False)
    choices: list[dict[str, Any]] = [
        {}, {"impute": "mean"}, {"add_indicator": False}, {"drop": ["age"]}, {"scale": "unit"},
        {"split": "chronological"}, {"split": {"grouped": "member"}}, {"max_categories": 2},
        {"random_state": 1}, {"na_values": "Rome"}, {"drop_duplicates": True},
    ]  # fmt: skip
    hashes = {loaded(tmp_path, text, **choice).sha256 for choice in choices}
    assert len(hashes) == len(choices)


def test_file_read_by_pandas_alone_gives_the_same_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame(RANDOM.normal(size=(60, 3)) * 10.0 ** RANDOM.integers(-8, 8, (60, 3)))
    text = frame.assign(y=np.arange(60) % 2).to_csv(index=False)
    dataset = loaded(tmp_path, text, header=True)
    expected = pd.read_csv(io.StringIO(text))[["0", "1", "2"]].to_numpy(np.float32)
    assert np.array_equal(inputs_of(dataset), expected)
