"""The user's own data: what is read, and what every bad input is answered with."""

from __future__ import annotations

import importlib
import itertools
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from optrial.data import load_dataset
from optrial.errors import DataError

X = np.arange(40, dtype=np.float64).reshape(20, 2)
Y = np.arange(20) % 3


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def csv(folder: Path, text: str) -> str:
    path = folder / "data.csv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("style", ["{}_inputs {}_targets", "x_{} y_{}"])
@pytest.mark.parametrize("splits", [["train"], ["train", "test"], ["train", "validation", "test"]])
def test_npz_with_splits(style: str, splits: list[str], tmp_path: Path) -> None:
    arrays = {}
    for offset, split in enumerate(splits):
        inputs, targets = style.format(split, split).split()
        arrays |= {inputs: X + offset, targets: Y}
    loaded = load_dataset(npz(tmp_path, **arrays), {})
    assert list(loaded.splits) == splits
    for offset, split in enumerate(splits):
        part = loaded.splits[split]
        assert np.array_equal(part.inputs, (X + offset).astype(np.float32))
        assert np.array_equal(part.targets, Y)
    assert (loaded.classes, loaded.input_shape) == (3, (2,))


@pytest.mark.parametrize("names", [("inputs", "targets"), ("x", "y")])
def test_npz_without_splits_is_divided_by_scikit_learn(
    names: tuple[str, str], tmp_path: Path
) -> None:
    path = npz(tmp_path, **dict(zip(names, (X, Y), strict=True)))
    for arguments in ({}, {"test_fraction": 0.5, "random_state": 3}):
        loaded = load_dataset(path, arguments)
        size, seed = arguments.get("test_fraction", 0.2), arguments.get("random_state", 0)
        train, test, *_ = train_test_split(X, Y, test_size=size, random_state=seed)
        assert np.array_equal(loaded.splits["train"].inputs, train)
        assert np.array_equal(loaded.splits["test"].inputs, test)


def test_npz_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path, x=X, y=Y)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("data.npz", {}).name == "data.npz"
    assert load_dataset("./data.npz", {}).sizes == {"train": 16, "test": 4}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X, "labels": Y}, "holds the arrays images, labels; name them train_inputs"),
        ({"train_inputs": X}, "name them"),
        ({"test_inputs": X, "test_targets": Y}, "name them"),
        ({"train_inputs": X, "train_targets": Y, "test_input": X, "test_targets": Y}, "test_input"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "name them"),
        ({"x": X, "y": Y[:-1]}, r"inconsistent numbers of samples: \[20, 19\]"),
        ({"x": np.float64(1), "y": Y}, "cannot divide"),
    ],
)
def test_npz_with_other_arrays_is_refused(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(npz(tmp_path, **arrays), {})


def test_npz_with_splits_takes_no_test_fraction(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=X, y_train=Y)
    with pytest.raises(DataError, match=r"splits of its own, so test_fraction 0\.3 has no use"):
        load_dataset(path, {"test_fraction": 0.3})


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    objects = np.empty(20, dtype=object)
    objects[:] = Bomb()
    np.savez(path, x=objects, y=Y)
    with pytest.raises(DataError, match=r"cannot be read .*allow_pickle=False"):
        load_dataset(str(path), {})
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_damaged_npz_is_refused(kept: int, tmp_path: Path) -> None:
    path = Path(npz(tmp_path, x=X, y=Y))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"data\.npz cannot be read"):
        load_dataset(str(path), {})


def test_flipped_bytes_in_a_compressed_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 4)), y=Y)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


def test_single_array_under_the_name_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def test_csv_classes_are_sorted_names(tmp_path: Path) -> None:
    kinds = ["setosa", "virginica", "versicolor", "setosa"] * 5
    text = rows("a,kind,b", *(f"{i}.5,{kind},{-i}" for i, kind in enumerate(kinds)))
    loaded = load_dataset(csv(tmp_path, text), {"target": "kind", "random_state": 2})
    x = np.array([[i + 0.5, -i] for i in range(20)], np.float32)
    y = np.array([["setosa", "versicolor", "virginica"].index(kind) for kind in kinds])
    train, test, train_y, test_y = train_test_split(x, y, test_size=0.2, random_state=2)
    assert np.array_equal(loaded.splits["train"].inputs, train)
    assert np.array_equal(loaded.splits["train"].targets, train_y)
    assert np.array_equal(loaded.splits["test"].inputs, test)
    assert np.array_equal(loaded.splits["test"].targets, test_y)
    assert loaded.classes == 3


def test_csv_numbers_are_classes_as_they_are(tmp_path: Path) -> None:
    text = rows("x,flag,label", *(f"{i},{i % 4 == 0},{i % 3}" for i in range(20)))
    loaded = load_dataset(csv(tmp_path, text), {"target": "label"})
    for split in loaded.splits.values():
        assert np.array_equal(split.targets, split.inputs[:, 0] % 3)
        assert np.array_equal(split.inputs[:, 1], split.inputs[:, 0] % 4 == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows("x,clas", "1,0"), "no column 'class' for target. Did you mean 'clas'"),
        (rows("x,city,class", "1,Rome,0", "2,Bonn,1"), "column 'city' holds text such as 'Rome'"),
        (rows("x,class", "1,0", ",1", ",1"), "'x' has 2 missing values, the first in data row 2"),
        (rows("x,class", "1,a", "2,"), "'class' has 1 missing values, the first in data row 2"),
        (rows("class", "1", "0"), "0 features and 2 rows"),
        (rows("x,class"), "1 features and 0 rows"),
        (rows("x,class", "1,0,5", "2,1,5"), "cannot be read .*Length of header"),
        (rows("x,class", "1,0", "2,1,5,6"), "cannot be read"),
        ("", "cannot be read"),
        (rows("x,class", *["1,-1", "2,1"] * 5), "bad of .* values, the first -1"),
        (rows("x,class", *["1,0.5", "2,1"] * 5), r"bad of .* values, the first 0\.5"),
        (rows("x,class", *["inf,0", "2,1"] * 5), "the first inf at sample"),
        (rows("x,class", "1,0"), "train set will be empty"),
    ],
)
def test_bad_csv_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(csv(tmp_path, text), {"target": "class"})


def test_csv_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"x,class\n\xff\xfe\x00,1\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {"target": "class"})


MODULE_NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into the current folder; gives its name, new each time."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        name = f"user_data_{next(MODULE_NUMBERS)}"
        Path(f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return name

    return write


LOAD = """
import numpy, torch
def load(size=6, kind="numpy", **others):
    x, y = numpy.arange(2.0 * size).reshape(size, 2), numpy.arange(size) % 2
    if kind == "torch":
        x, y = torch.from_numpy(x), torch.from_numpy(y)
    return {"test": (x[:2], y[:2]), "train": [x, y]}
class Sets:
    load = staticmethod(load)
"""


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_function_gets_its_arguments(kind: str, module: Callable[[str], str]) -> None:
    path_before = list(sys.path)
    loaded = load_dataset(f"{module(LOAD)}:load", {"size": 8, "kind": kind, "scale": "unit"})
    assert loaded.sizes == {"train": 8, "test": 2}
    expected = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert np.array_equal(loaded.splits["train"].inputs * 14, expected - np.float32([0, 1]))
    assert sys.path == path_before


def test_function_of_a_class(module: Callable[[str], str]) -> None:
    assert load_dataset(f"{module(LOAD)}:Sets.load", {}).sizes == {"train": 6, "test": 2}


def test_arrays_of_the_function_are_left_alone(module: Callable[[str], str]) -> None:
    source = """
import numpy
x, y = numpy.arange(12, dtype=numpy.float32).reshape(6, 2), numpy.arange(6) % 2
def load():
    return {"train": (x, y)}
"""
    name = module(source)
    load_dataset(f"{name}:load", {"scale": "standardize"})
    assert np.array_equal(sys.modules[name].x, np.arange(12).reshape(6, 2))


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("import no_such_module", {}, "cannot be imported .*no_such_module"),
        ("def load(:", {}, "cannot be imported .SyntaxError"),
        ("1 / 0", {}, "cannot be imported .ZeroDivisionError"),
        ("def other(): ...", {}, "cannot be imported .AttributeError"),
        ("load = 3", {}, "cannot be called"),
        ("def load(): ...", {"size": 3}, "cannot be called: got an unexpected keyword .*'size'"),
        ("def load(size): ...", {}, "cannot be called: missing a required argument: 'size'"),
        ("def load(): raise KeyError('lost')", {}, "raised KeyError: 'lost'"),
        ("def load(): return 3", {}, "gives a int; it must give"),
        ("def load(): return {}", {}, "gives the splits none; it must give"),
        ("def load(): return {'test': (1, 2)}", {}, "gives the splits test;"),
        ("def load(): return {'train': (1, 2), 'tets': (1, 2)}", {}, "the splits train, tets;"),
        ("def load(): return {'train': (1, 2, 3)}", {}, "gives no pair for train;"),
        ("def load(): return {'train': (1, 2)}", {}, r"train inputs have shape \(\)"),
        (
            "import torch\n"
            "def load(): return {'train': (torch.ones(3, 2, requires_grad=True), [0, 1, 0])}",
            {},
            "train holds cannot be read as an array",
        ),
        ("def load(): return {'train': ([[1], [2, 3]], [0, 1])}", {}, "cannot be read as an array"),
    ],
)
def test_bad_function_is_refused(
    source: str, arguments: dict[str, Any], message: str, module: Callable[[str], str]
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(f"{module(source)}:load", arguments)


def test_missing_module_is_refused() -> None:
    with pytest.raises(DataError, match="No module named 'no_such_package'"):
        load_dataset("no_such_package.data:load", {})
