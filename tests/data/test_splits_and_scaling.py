"""Validation held out, and scaling by statistics of what is left for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from optrial.data import Dataset, load_dataset
from optrial.data.arguments import Arguments, AugmentableArguments
from optrial.data.scaling import scaled
from optrial.data.splits import carved, held_out
from optrial.errors import DataError
from tests.tolerance import STATISTICS_FLOAT32

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal([3, -100, 0.01], [1, 50, 0.001], (300, 3))
IMAGES = RANDOM.normal(5, 2, (3000, 2, 4, 3)) * np.array([1.0, 10.0]).reshape(2, 1, 1)
LABELS = np.arange(300) % 4


def with_validation(
    name: str, raw: dict[str, Any], arguments: Arguments, wanted: bool
) -> dict[str, Any]:
    return carved(raw, held_out(name, raw, None, arguments, wanted))


@given(st.integers(2, 300), st.floats(0.001, 0.999), st.integers(0, 2**40), st.sampled_from([1, 2]))
def test_validation_is_disjoint_complete_and_of_the_right_size(
    samples: int, fraction: float, seed: int, extra: int
) -> None:
    numbers = np.arange(samples)
    raw = {"train": (numbers[:, None], numbers), "test": (numbers[:extra, None], numbers[:extra])}
    arguments = Arguments(validation_fraction=fraction, split_seed=seed)
    size = max(1, round(fraction * samples))
    if size == samples:
        with pytest.raises(DataError, match="too few to hold out"):
            with_validation("mine", raw, arguments, wanted=False)
        return
    divided = with_validation("mine", raw, arguments, wanted=False)
    assert list(divided) == ["train", "validation", "test"]
    train, held = divided["train"][1], divided["validation"][1]
    assert len(held) == size
    assert sorted([*train, *held]) == list(numbers)
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    for inputs, targets in divided.values():
        assert np.array_equal(inputs[:, 0], targets)


def validation_rows(**arguments: Any) -> tuple[int, ...]:
    raw = {"train": (VECTORS, np.arange(300))}
    divided = with_validation("mine", raw, Arguments(**arguments), wanted=True)
    return tuple(divided["validation"][1].tolist())


def test_validation_depends_on_its_seed_alone() -> None:
    assert validation_rows() == validation_rows(split_seed=0)
    assert len({validation_rows(split_seed=seed) for seed in range(20)}) == 20
    assert set(validation_rows(validation_fraction=0.1)) < set(
        validation_rows(validation_fraction=0.2)
    )


def test_validation_is_a_tenth_where_it_is_wanted() -> None:
    raw = {"train": (VECTORS, LABELS)}
    assert set(with_validation("mine", raw, Arguments(), wanted=False)) == {"train"}
    assert len(with_validation("mine", raw, Arguments(), wanted=True)["validation"][1]) == 30
    quarter = with_validation("mine", raw, Arguments(validation_fraction=0.25), wanted=True)
    assert len(quarter["validation"][1]) == 75


def test_validation_of_the_source_is_used_as_it_is() -> None:
    raw = {"train": (VECTORS, LABELS), "validation": (VECTORS[:7], LABELS[:7])}
    assert with_validation("mine", raw, Arguments(), wanted=True) == raw
    with pytest.raises(DataError, match="already has a validation split"):
        with_validation("mine", raw, Arguments(validation_fraction=0.1), wanted=True)


def scale(values: np.ndarray, arguments: Arguments, **others: Any) -> np.ndarray:
    raw = {"train": (values, np.zeros(len(values), int)), "test": (values[:5], np.zeros(5, int))}
    splits = scaled("mine", raw, arguments, **others)
    assert np.array_equal(splits["test"].inputs, splits["train"].inputs[:5])
    assert splits["train"].inputs.dtype == np.float32
    assert splits["train"].inputs.flags.c_contiguous
    assert splits["train"].targets.dtype == np.int64
    return splits["train"].inputs


@pytest.mark.parametrize(
    ("choice", "scaler"), [("standardize", StandardScaler), ("unit", MinMaxScaler)]
)
@pytest.mark.parametrize("shape", ["vectors", "images"])
def test_scaling_is_that_of_scikit_learn(choice: Any, scaler: Any, shape: str) -> None:
    values = VECTORS if shape == "vectors" else IMAGES
    columns = np.moveaxis(np.float32(values), 1, -1).reshape(-1, values.shape[1])
    scaled = np.moveaxis(scale(values, Arguments(scale=choice)), 1, -1).reshape(columns.shape)
    expected = scaler().fit_transform(np.float64(columns))
    assert scaled == pytest.approx(expected, abs=STATISTICS_FLOAT32)


def test_other_shapes_share_one_statistic() -> None:
    scaled = scale(IMAGES[:, 0], Arguments(scale="unit"))
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert (scaled[:, 0].min(), scaled[:, 0].max()) != (0, 1)


@pytest.mark.parametrize("choice", ["standardize", "unit"])
def test_constant_features_become_zero(choice: Any) -> None:
    values = np.column_stack([VECTORS[:, 0], np.full(300, 0.1), np.full(300, -1e20)])
    scaled = scale(values, Arguments(scale=choice))
    assert (scaled[:, 1:] == 0).all()
    assert scaled[:, 0].std() > 0


def test_no_scaling_is_the_default_and_changes_nothing() -> None:
    assert np.array_equal(scale(VECTORS, Arguments()), np.float32(VECTORS))
    assert np.array_equal(scale(VECTORS, Arguments(scale="none")), np.float32(VECTORS))


def test_pixels_are_divided_by_their_known_range() -> None:
    pixels = np.arange(3 * 256, dtype=np.uint8).reshape(256, 3, 1, 1) // 2
    scaled = scale(pixels, AugmentableArguments(), pixel_maximum=255)
    assert np.array_equal(scaled, np.float32(pixels) / np.float32(255))
    raw = scale(pixels, AugmentableArguments(scale="none"), pixel_maximum=255)
    assert np.array_equal(raw, pixels)


def test_mean_and_std_of_images_come_after_unit_scaling() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    scaled = scale(pixels, AugmentableArguments(mean=0.5, std=0.25), pixel_maximum=255)
    unit = np.float32(pixels) / np.float32(255)
    assert np.array_equal(scaled, (unit - np.float32(0.5)) / np.float32(0.25))


def test_mean_and_std_per_feature_and_channel() -> None:
    for values, axes in ((VECTORS, ()), (IMAGES, (1, 1))):
        mean = [float(number) for number in range(values.shape[1])]
        scaled = scale(values, Arguments(mean=mean, std=[2.0]))
        shift = np.float32(mean).reshape(-1, *axes)
        exact = values if values is VECTORS else np.float32(values)
        assert np.array_equal(scaled, np.float32((exact - shift) / np.float32(2)))
    with pytest.raises(DataError, match="mean has 2 numbers; give one, or 3"):
        scale(VECTORS, Arguments(mean=[1, 2], std=1))


def test_scaling_beyond_float32_is_refused() -> None:
    with pytest.raises(DataError, match="beyond float32"):
        scale(VECTORS, Arguments(mean=0, std=1e-40))
    with pytest.raises(DataError, match="beyond float32"):
        scale(VECTORS, Arguments(mean=0, std=1e-60))


def test_the_source_arrays_are_not_changed() -> None:
    values = np.float32(VECTORS)
    before = values.copy()
    scale(values, Arguments(scale="standardize"))
    assert np.array_equal(values, before)


def with_outliers(folder: Path, split: str, scaling: str) -> Dataset:
    """A file whose validation or test samples, and no others, are far away."""
    path = folder / f"{split}.npz"
    train, other = np.float64(VECTORS), np.float64(VECTORS[:50])
    if split == "test":
        other = other * 1000
    np.savez(path, x_train=train, y_train=LABELS, x_test=other, y_test=LABELS[:50])
    return load_dataset(str(path), {"scale": scaling}, validation=True)


@pytest.mark.parametrize("scaling", ["standardize", "unit"])
def test_statistics_are_of_the_training_split_after_validation_is_held_out(
    scaling: str, tmp_path: Path
) -> None:
    near, far = (with_outliers(tmp_path, split, scaling) for split in ("none", "test"))
    for split in ("train", "validation"):
        assert np.array_equal(near.splits[split].inputs, far.splits[split].inputs)
    held = list(validation_rows())
    moved = VECTORS.copy()
    moved[held] *= 1000
    path = tmp_path / "moved.npz"
    np.savez(path, x_train=moved, y_train=LABELS)
    loaded = load_dataset(str(path), {"scale": scaling}, validation=True)
    assert np.array_equal(loaded.splits["train"].inputs, near.splits["train"].inputs)
    assert not np.array_equal(loaded.splits["validation"].inputs, near.splits["validation"].inputs)
    train = loaded.splits["train"].inputs
    if scaling == "standardize":
        np.testing.assert_allclose(train.mean(0, np.float64), 0, atol=STATISTICS_FLOAT32)
        np.testing.assert_allclose(train.std(0, np.float64), 1, atol=STATISTICS_FLOAT32)
    else:
        assert (train.min(0) == 0).all()
        assert (train.max(0) == 1).all()
