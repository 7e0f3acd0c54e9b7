"""Datasets of scikit-learn, against scikit-learn called as a user's script would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.model_selection import train_test_split

from optrial.data import Dataset, load_dataset
from optrial.errors import DataError

CASES: list[tuple[str, dict[str, Any]]] = [
    ("moons", {}),
    ("moons", {"n_samples": 1000, "noise": 0.08, "random_state": 1}),
    ("moons", {"n_samples": [30, 50], "shuffle": False, "random_state": 7}),
    ("circles", {}),
    ("circles", {"n_samples": 201, "noise": 0.1, "factor": 0.3, "random_state": 2}),
    ("circles", {"n_samples": (20, 30), "factor": 0, "shuffle": False}),
    ("blobs", {}),
    ("blobs", {"n_samples": 300, "centers": 5, "n_features": 4, "cluster_std": 2}),
    ("blobs", {"n_samples": [30, 40, 50], "cluster_std": [0.5, 1.0, 2.0], "random_state": 3}),
    ("blobs", {"centers": [[0.0, 0, 1], [5, 5, 5]], "n_samples": [20, 30], "shuffle": False}),
    ("blobs", {"centers": 2, "center_box": [0, 1], "random_state": 4}),
    ("blobs", {"centers": [[0, 1], [5, 5]], "n_samples": 31, "cluster_std": [0, 2]}),
    ("blobs", {"centers": 7, "n_samples": 90, "n_features": 3, "random_state": 2**32 - 1}),
]


def assert_splits(loaded: Dataset, expected: list[np.ndarray]) -> None:
    train, test, train_targets, test_targets = expected
    assert list(loaded.splits) == ["train", "test"]
    assert np.array_equal(loaded.splits["train"].inputs, train.astype(np.float32))
    assert np.array_equal(loaded.splits["train"].targets, train_targets)
    assert np.array_equal(loaded.splits["test"].inputs, test.astype(np.float32))
    assert np.array_equal(loaded.splits["test"].targets, test_targets)


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("test_fraction", [None, 0.3])
def test_draws_and_split_are_those_of_scikit_learn(
    name: str, arguments: dict[str, Any], test_fraction: float | None
) -> None:
    seed = arguments.get("random_state", 0)
    # scikit-learn wants tuples where a study file has lists.
    tuples = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
    x, y = getattr(datasets, f"make_{name}")(**{**tuples, "random_state": seed})
    expected = train_test_split(x, y, test_size=test_fraction or 0.2, random_state=seed)
    keys = arguments if test_fraction is None else {**arguments, "test_fraction": test_fraction}
    loaded = load_dataset(name, keys)
    assert_splits(loaded, expected)
    assert loaded.classes == max(y) + 1
    assert loaded.input_shape == x.shape[1:]


def test_digits_are_those_of_scikit_learn() -> None:
    x, y = datasets.load_digits(return_X_y=True)
    x = x.reshape(-1, 1, 8, 8)
    loaded = load_dataset("digits", {"scale": "none"})
    assert_splits(loaded, train_test_split(x, y, test_size=0.2, random_state=0, stratify=y))
    assert (loaded.input_shape, loaded.classes) == ((1, 8, 8), 10)
    assert sum(loaded.sizes.values()) == 1797
    unit = load_dataset("digits", {})
    assert np.array_equal(unit.splits["train"].inputs, loaded.splits["train"].inputs / 16)


@pytest.mark.parametrize("name", ["digits", "moons", "circles", "blobs"])
def test_same_arguments_same_bits_other_seed_other_bits(name: str) -> None:
    first, again = (load_dataset(name, {}, validation=True).sha256 for _ in range(2))
    assert first == again
    assert load_dataset(name, {"random_state": 1}, validation=True).sha256 != first
    assert load_dataset(name, {"split_seed": 1}, validation=True).sha256 != first
    recorded = load_dataset(name, {}).arguments
    assert load_dataset(name, recorded, validation=True).sha256 == first


def test_global_generators_are_neither_used_nor_moved() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = load_dataset("moons", {"noise": 0.1}, validation=True).sha256
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    assert load_dataset("moons", {"noise": 0.1}, validation=True).sha256 == first


def test_too_few_samples_to_divide_are_refused() -> None:
    with pytest.raises(DataError, match=r"test_fraction 0\.2: 1 sample cannot be divided"):
        load_dataset("moons", {"n_samples": 1})


def test_class_without_training_sample_is_refused() -> None:
    with pytest.raises(DataError, match="test targets hold 1 bad of"):
        load_dataset("blobs", {"n_samples": [20, 1], "random_state": 0, "test_fraction": 0.5,
                               "shuffle": False})  # fmt: skip


@pytest.mark.parametrize(("name", "key"), [("moons", "noise"), ("blobs", "cluster_std")])
def test_deviation_of_minus_zero_is_zero(name: str, key: str) -> None:
    minus, plus = (load_dataset(name, {key: value}) for value in (-0.0, 0.0))
    assert minus.sha256 == plus.sha256
    assert minus.arguments == plus.arguments
