"""Targets that are values to predict: what is taken, what is refused, and their scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from optrial.data import load_dataset
from optrial.errors import DataError
from tests.data.objects import load_objects
from tests.tolerance import STATISTICS_FLOAT32

X = np.arange(40, dtype=np.float64).reshape(20, 2)
Y = np.sin(np.arange(20.0))


@pytest.mark.parametrize(
    ("targets", "outputs"),
    [(Y, 1), (Y[:, None], 1), (np.stack([Y, -Y, Y], axis=1), 3), (np.float16(Y), 1)],
)
def test_floating_point_targets_are_values(targets: np.ndarray, outputs: int) -> None:
    raw = {"train": (X, targets), "test": (X[:5], targets[:5])}
    loaded = load_objects(raw, targets="values", validation=True)
    assert loaded.regression
    assert loaded.classes == outputs
    assert loaded.sizes == {"train": 18, "validation": 2, "test": 5}
    for part in loaded.splits.values():
        assert part.targets.dtype == np.float32
        assert part.targets.shape == (len(part.inputs), outputs)
        assert part.targets.flags.c_contiguous
    assert np.array_equal(
        loaded.splits["test"].targets, np.float32(targets[:5]).reshape(5, outputs)
    )


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_whole_targets_are_values_where_the_loss_takes_values(dtype: Any) -> None:
    whole = (np.arange(20) % 2).astype(dtype)
    loaded = load_objects({"train": (X, whole)}, targets="values")
    assert (loaded.regression, loaded.classes) == (True, 1)
    assert np.array_equal(loaded.splits["train"].targets, np.float32(whole)[:, None])
    labels = load_objects({"train": (X, whole)}, arguments={"targets": "labels"}, targets="values")
    assert (labels.regression, labels.classes) == (False, 2)
    assert labels.sha256 == load_objects({"train": (X, whole)}).sha256


@pytest.mark.parametrize(
    ("targets", "regression"), [(np.arange(20) % 3, False), (np.arange(20) % 3 / 2, True)]
)
def test_type_decides_where_the_loss_takes_either(targets: Any, regression: bool) -> None:
    assert load_objects({"train": (X, targets)}, targets="any").regression is regression


def test_floating_point_labels_are_labels_where_the_loss_takes_classes() -> None:
    labels = np.arange(20.0) % 4
    loaded = load_objects({"train": (X, labels)})
    assert (loaded.regression, loaded.classes) == (False, 4)
    values = load_objects({"train": (X, labels)}, targets="values")
    assert (values.regression, values.classes) == (True, 1)


def test_whole_numbers_among_the_values_of_another_split_are_values() -> None:
    loaded = load_objects({"train": (X, Y), "test": (X, np.arange(20))}, targets="values")
    assert loaded.splits["test"].targets.dtype == np.float32


WRONG = Y.copy()
WRONG[[3, 7]] = np.nan, np.inf


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"train": (X, WRONG)}, "train targets hold 2 bad of 20 values, the first nan at sample 3; "
         "each must be finite as float32"),
        ({"train": (X, Y * 1e39)}, "float32"),
        ({"train": (X, np.empty((20, 0)))}, r"\(20, 0\); they must be"),
        ({"train": (X, Y[:-1])}, "train has 20 inputs and 19 targets"),
        ({"train": (X, Y), "test": (X, np.stack([Y, Y], 1))}, r"test targets have shape \(2,\) per "
         r"sample, train targets \(1,\)"),
        ({"train": (X, Y), "test": (X, Y.astype(str))}, "test targets are of type <U.*real number"),
        ({"train": (X, Y.astype(complex))}, "complex128; they must be real numbers"),
    ],
)  # fmt: skip
def test_bad_values_are_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"dataset 'data' cannot be used: .*{message}"):
        load_objects(raw, targets="values")


def test_values_are_refused_where_the_loss_takes_classes() -> None:
    with pytest.raises(DataError, match="numbers to predict need a loss for them, such as mse"):
        load_objects({"train": (X, Y)})
    with pytest.raises(DataError, match="numbers to predict need a loss for them, such as mse"):
        load_objects({"train": (X, Y[:, None])})


def test_standardized_targets_are_those_of_scikit_learn() -> None:
    targets = np.stack([3 + Y, -5 * Y**2], axis=1)
    raw = {"train": (X, targets), "test": (X[:7], 2 * targets[:7])}
    loaded = load_objects(raw, arguments={"standardize_targets": True}, targets="values")
    scaler = StandardScaler().fit(targets)
    for split, (_, raw_targets) in raw.items():
        expected = scaler.transform(raw_targets)
        assert loaded.splits[split].targets == pytest.approx(expected, abs=STATISTICS_FLOAT32)
    assert np.array_equal(loaded.splits["train"].inputs, X)


def test_labels_are_not_standardized() -> None:
    raw, arguments = {"train": (X, np.arange(20) % 2)}, {"standardize_targets": True}
    with pytest.raises(DataError, match="standardize_targets: class labels are not scaled"):
        load_objects(raw, arguments=arguments)
    with pytest.raises(DataError, match="standardize_targets cannot scale class labels"):
        load_objects(raw, arguments=arguments, targets="any")
    with pytest.raises(DataError, match="standardize_targets: class labels are not scaled"):
        load_objects(raw, arguments=arguments | {"targets": "labels"}, targets="values")


def test_diabetes_is_that_of_scikit_learn_standardized_by_its_training_split() -> None:
    x, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    train, test, of_train, of_test = train_test_split(x, y, test_size=0.2, random_state=0)
    loaded = load_dataset("diabetes", {}, targets="values")
    assert (loaded.regression, loaded.classes, loaded.input_shape) == (True, 1, (10,))
    assert sum(loaded.sizes.values()) == 442
    for split, inputs, targets in (("train", train, of_train), ("test", test, of_test)):
        part = loaded.splits[split]
        expected = StandardScaler().fit(train).transform(inputs)
        assert part.inputs == pytest.approx(expected, abs=STATISTICS_FLOAT32)
        expected = StandardScaler().fit(of_train[:, None]).transform(targets[:, None])
        assert part.targets == pytest.approx(expected, abs=STATISTICS_FLOAT32)
    raw = load_dataset("diabetes", {"scale": "none", "standardize_targets": False},
                       targets="values")  # fmt: skip
    assert np.array_equal(raw.splits["test"].inputs, test.astype(np.float32))
    assert np.array_equal(raw.splits["test"].targets, of_test[:, None].astype(np.float32))
    fits = [
        LinearRegression().fit(*vars(dataset.splits["train"]).values()).score(
            *vars(dataset.splits["test"]).values()
        )
        for dataset in (loaded, raw)
    ]  # fmt: skip
    assert np.round(fits, 2).tolist() == [0.33, 0.33]  # as scikit-learn's users know it


def test_diabetes_has_no_classes() -> None:
    with pytest.raises(DataError, match="'diabetes' has values to predict, no classes"):
        load_dataset("diabetes", {})


def test_npz_holds_values(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:3], y_test=Y[:3])
    loaded = load_dataset(str(path), {}, targets="values")
    assert (loaded.regression, loaded.classes) == (True, 1)
    assert np.array_equal(loaded.splits["test"].targets[:, 0], np.float32(Y[:3]))
