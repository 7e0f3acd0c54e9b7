"""What is said of a dataset before it is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from optrial.data import DATASETS, check_dataset, load_dataset
from optrial.errors import DataError

SCALES = dict.fromkeys(("diabetes", "breast-cancer", "wine"), "standardize")
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("mnits", {}, "name", "'mnits' is not a dataset. Did you mean 'mnist'"),
    ("", {}, "name", "is not a dataset"),
    ("no/such.npz", {}, "name", "there is no file 'no/such.npz'"),
    ("no/such.csv", {"target": "y"}, "name", "there is no file"),
    ("no/such.csv", {}, "target", "is required and missing"),
    ("module:", {}, "name", "must be module:function"),
    ("my module:load", {}, "name", "must be module:function"),
    (":load", {}, "name", "must be module:function"),
    ("a:b:c", {}, "name", "must be module:function"),
    ("moons", {"nois": 0.1}, "nois", "unknown key. Did you mean 'noise'"),
    ("moons", {"factor": 0.1}, "factor", "unknown key"),
    ("mnist", {"test_fraction": 0.1}, "test_fraction", "unknown key"),
    ("blobs", {"return_centers": True}, "return_centers", "unknown key"),
    ("moons", {"noise": "0.1"}, "noise", "'0.1': must be a number"),
    ("moons", {"noise": -0.1}, "noise", "greater than or equal to 0"),
    ("moons", {"noise": float("nan")}, "noise", "finite number"),
    ("moons", {"n_samples": 0}, "n_samples", "a whole number from 1 to 2,000,000"),
    ("moons", {"n_samples": 10.0}, "n_samples", "a whole number from 1 to 2,000,000"),
    ("moons", {"n_samples": True}, "n_samples", "a whole number from 1 to 2,000,000"),
    ("moons", {"n_samples": [1, 2, 3]}, "n_samples", "or two of them"),
    ("moons", {"shuffle": 1}, "shuffle", "must be true or false"),
    ("moons", {"random_state": None}, "random_state", "must be a whole number"),
    ("moons", {"random_state": -1}, "random_state", "greater than or equal to 0"),
    ("moons", {"test_fraction": 0}, "test_fraction", "greater than 0"),
    ("moons", {"test_fraction": 1}, "test_fraction", "less than 1"),
    ("circles", {"factor": 1.0}, "factor", "less than 1"),
    ("blobs", {"centers": 0}, "centers", "a whole number from 1 to 10,000, or a list of points"),
    ("blobs", {"centers": [[1, 2], [3]]}, "centers", "same number of coordinates"),
    ("blobs", {"centers": 2, "n_samples": [3, 4]}, "centers", "2 points"),
    ("blobs", {"cluster_std": [1, 2]}, "cluster_std", "or 3, one per cluster"),
    ("blobs", {"cluster_std": -1}, "cluster_std", "a number from 0"),
    ("blobs", {"center_box": [1]}, "center_box", "two numbers"),
    ("blobs", {"center_box": [1, 0]}, "center_box", "must begin with the lower end"),
    ("blobs", {"center_box": [-1e308, 1e308]}, "center_box", "must be narrower"),
    ("mnist", {"validation_fraction": 0}, "validation_fraction", "greater than 0"),
    ("mnist", {"validation_fraction": 1.0}, "validation_fraction", "less than 1"),
    ("mnist", {"split_seed": -1}, "split_seed", "greater than or equal to 0"),
    ("mnist", {"scale": "unti"}, "scale", "Did you mean 'unit'"),
    ("mnist", {"scale": "unit", "mean": 0, "std": 1}, "mean", "mean and std replace scale"),
    ("mnist", {"mean": 0.5}, "std", "mean and std come together"),
    ("mnist", {"std": 0.5}, "std", "mean and std come together"),
    ("mnist", {"mean": 0.5, "std": 0}, "std", "a number above 0"),
    ("cifar-10", {"mean": 0, "std": [1, 1, -1]}, "std", "a number above 0"),
    ("cifar-10", {"mean": [0, 0], "std": 1}, "mean", "must be one number, or 3, one per channel"),
    ("mnist", {"mean": [], "std": 1}, "mean", "a number, or a list"),
    ("cifar-10", {"augment": True}, "augment", "must be a mapping of keys"),
    ("cifar-10", {"augment": {"flipp": True}}, "augment.flipp", "unknown key. Did you mean 'flip'"),
    ("cifar-10", {"augment": {"flip": 1}}, "augment.flip", "must be true or false"),
    ("cifar-10", {"augment": {"crop": -1}}, "augment.crop", "greater than or equal to 0"),
    ("cifar-10", {"augment": {"crop": 4.0}}, "augment.crop", "must be a whole number"),
    ("cifar-10", {"augment": {"crop": 32}}, "augment.crop", "32: images are 32x32 pixels and"),
    ("digits", {"augment": {"crop": 8}}, "augment.crop", "8: images are 8x8 pixels and"),
    ("moons", {"augment": {"flip": True}}, "augment", "unknown key"),
    ("palindrome", {"length": 1}, "length", "greater than or equal to 2"),
    ("palindrome", {"n_samples": 9}, "n_samples", "greater than or equal to 10"),
    ("palindrome", {"test_samples": 9}, "test_samples", "greater than or equal to 10"),
    ("palindrome", {"test_fraction": 0.1}, "test_fraction", "Did you mean 'validation_fraction'"),
    ("palindrome", {"one_hot": "yes"}, "one_hot", "must be true or false"),
    ("diabetes", {}, "name", "has values to predict, no classes; use a loss for values, such as"),
    ("my.data:load", {"standardize_targets": True}, "standardize_targets", "are not scaled"),
    ("no/such.csv", {"target": ["a", "b"]}, "target", "['a', 'b']: a list of columns holds values"),
    ("no/such.csv", {"target": []}, "target", "the name of a column, or a list of names"),
    ("no/such.csv", {"target": 3.5}, "target", "the name of a column, or a list of names"),
    ("no/such.tsv.gz", {"target": "y"}, "name", "there is no file"),
    ("no/such.parquet", {"target": "y", "separator": ";"}, "separator", "unknown key"),
    ("no/such.csv", {"target": "y", "separator": "::"}, "separator", "must be one character"),
    ("no/such.csv", {"target": "y", "decimal": ",,"}, "decimal", "at most 1 character"),
    ("no/such.csv", {"target": "y", "encoding": "utf-99"}, "encoding", "is not an encoding"),
    (
        "no/such.csv",
        {"target": "y", "impute": "zero"},
        "impute",
        "'zero' is not one of the choices",
    ),
    ("no/such.csv", {"target": "y", "split": "shuffled"}, "split", "or {grouped: COLUMN}"),
    ("no/such.csv", {"target": "y", "split": {"groups": "a"}}, "split", "or {grouped: COLUMN}"),
    ("no/such.csv", {"target": "y", "targets": "values"}, "targets", "takes class labels; use a"),
    ("no/such.csv", {"target": "y", "drop": 3.5}, "drop", "a list of column names"),
    ("no/such.npz", {"layout": "hwc"}, "layout", "'hwc' is not one of the choices"),
    ("no/such.npz", {"split": {"grouped": "a"}}, "split", "is not one of the choices"),
    ("my.data:load", {"value": object()}, "value", "JSON"),
    ("my.data:load", {"scale": "unti"}, "scale", "Did you mean 'unit'"),
]


@pytest.mark.parametrize(("name", "arguments", "path", "message"), BAD)
def test_a_bad_argument_is_refused_without_loading(
    name: str, arguments: dict[str, Any], path: str, message: str
) -> None:
    problems = check_dataset(name, arguments)
    assert path in [problem.path for problem in problems]
    assert message in next(problem.message for problem in problems if problem.path == path)
    with pytest.raises(DataError, match=re.escape(message)):
        load_dataset(name, arguments)


def test_all_problems_come_at_once() -> None:
    problems = check_dataset("moons", {"noise": -1, "n_samples": 0, "nois": 1, "scale": "all"})
    assert [p.path for p in problems] == ["scale", "n_samples", "noise", "nois"]
    missing = check_dataset("no.csv", {"random_state": "x"})
    assert [p.path for p in missing] == ["name", "random_state", "target"]


@pytest.mark.parametrize("name", [None, 3, ["mnist"]])
def test_name_that_is_not_text(name: Any) -> None:
    assert [problem.path for problem in check_dataset(name, {})] == ["name"]


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"text"}))  # which needs files
def test_catalogue_entries_are_whole_and_good_without_arguments(name: str) -> None:
    entry = DATASETS[name]
    assert entry.name == name
    assert entry.summary
    assert "\n" not in entry.summary
    assert entry.source
    assert entry.licence
    assert (entry.megabytes > 0) == (entry.published is not None)
    assert check_dataset(name, {}, targets="values") == []
    assert bool(check_dataset(name, {})) == entry.values
    assert all(field.description for field in entry.arguments.model_fields.values())


LOCAL = [name for name, entry in DATASETS.items() if entry.published is None and name != "text"]


@pytest.mark.parametrize("name", LOCAL)
def test_recorded_arguments_are_json_and_load_the_same_data(name: str) -> None:
    targets: Any = "values" if DATASETS[name].values else "classes"
    loaded = load_dataset(name, {}, targets=targets)
    recorded = dict(loaded.arguments)
    assert json.loads(json.dumps(recorded)) == recorded
    again = load_dataset(name, recorded, targets=targets)
    assert (again.arguments, again.sha256) == (recorded, loaded.sha256)
    images = DATASETS[name].pixel_maximum is not None
    assert recorded["scale"] == ("unit" if images else SCALES.get(name, "none"))


def test_targets_that_no_loss_takes_are_refused() -> None:
    (problem,) = check_dataset("moons", {}, targets="value")  # type: ignore[arg-type]
    assert problem.message.startswith("'value'. Did you mean 'values'? Allowed: classes, binary,")


def test_recorded_arguments_keep_given_values() -> None:
    arguments = {"n_samples": (30, 40), "mean": 0.5, "std": [1, 2], "test_fraction": 0.5}
    recorded = load_dataset("moons", arguments).arguments
    assert recorded["n_samples"] == [30, 40]
    assert (recorded["mean"], recorded["std"], recorded["scale"]) == (0.5, [1, 2], None)
    assert recorded["random_state"] == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("data.zip", "is an archive; unpack it and name a file or folder of it"),
        ("table.csv.zip", "is an archive"),
        ("table.xlsx", "is a file of a kind that cannot be read; convert it to .csv, .parquet or"),
    ],
)
def test_files_that_cannot_be_read(
    file: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).touch()
    (problem,) = check_dataset(file, {})
    assert message in problem.message


def test_paths_are_told_by_their_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Data.NPZ").touch()
    (tmp_path / "table.csv").touch()
    assert check_dataset("Data.NPZ", {}) == []
    assert check_dataset(str(tmp_path / "table.csv"), {"target": "y"}) == []
