"""The published MNIST, Fashion-MNIST and CIFAR-10, where OPTRIAL_DATA has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from optrial.data import DATASETS, Dataset, FileStatus, load_dataset, verify
from tests.tolerance import STATISTICS_FLOAT32

DATA = os.environ.get("OPTRIAL_DATA", "")
pytestmark = pytest.mark.skipif(
    not DATA, reason="OPTRIAL_DATA is not set: it names the folder with the published files"
)

FIRST_LABELS = {
    "mnist": ([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
    "fashion-mnist": ([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
    "cifar-10": ([6, 9, 9, 4, 1, 1, 2, 7, 8, 3], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
}
CLASS_COUNTS = {
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion-mnist": ([6000] * 10, [1000] * 10),
    "cifar-10": ([5000] * 10, [1000] * 10),
}
# Mean and standard deviation of the unit-scaled training pixels, as the field quotes them.
STATISTICS = {
    "mnist": ([0.1307], [0.3081]),
    "fashion-mnist": ([0.2860], [0.3530]),
    "cifar-10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
}
IMAGES = ["mnist", "fashion-mnist", pytest.param("cifar-10", marks=pytest.mark.slow)]


@cache
def unscaled(name: str) -> Dataset:
    return load_dataset(name, {"scale": "none"})


@pytest.fixture(scope="module", autouse=True)
def _release_memory() -> Iterator[None]:
    yield
    unscaled.cache_clear()


@pytest.mark.parametrize("name", IMAGES)
def test_shapes_labels_and_class_counts_are_the_published_ones(name: str) -> None:
    loaded, entry = unscaled(name), DATASETS[name]
    assert loaded.input_shape == entry.input_shape
    assert loaded.sizes == {"train": sum(CLASS_COUNTS[name][0]), "test": sum(CLASS_COUNTS[name][1])}
    assert loaded.classes == 10
    for split, first, counts in zip(
        ("train", "test"), FIRST_LABELS[name], CLASS_COUNTS[name], strict=True
    ):
        part = loaded.splits[split]
        assert (part.inputs.dtype, part.targets.dtype) == (np.float32, np.int64)
        assert part.inputs.flags.c_contiguous
        assert part.targets[:10].tolist() == first
        assert np.bincount(part.targets).tolist() == counts
        assert (part.inputs.min(), part.inputs.max()) == (0, 255)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mnist", ["5", "0", "4", "1", "9"]),
        ("fashion-mnist", ["Ankle boot", "T-shirt/top", "T-shirt/top", "Dress", "T-shirt/top"]),
        pytest.param(
            "cifar-10",
            ["frog", "truck", "truck", "deer", "automobile"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_classes_have_their_names(name: str, first: list[str]) -> None:
    loaded = unscaled(name)
    names = [entry.name for entry in loaded.summary.classes]
    assert [names[label] for label in loaded.splits["train"].targets[:5]] == first
    assert len(set(names)) == 10


def test_pixels_lie_where_they_should() -> None:
    mnist = unscaled("mnist").splits["train"].inputs[0, 0]
    assert mnist[5, 12:16].tolist() == [3, 18, 18, 18]
    frog = unscaled("cifar-10").splits["train"].inputs[0]
    assert frog[:, 0, 0].tolist() == [59, 62, 63]
    assert frog[:, 0, 1].tolist() == [43, 46, 45]


@pytest.mark.parametrize("name", IMAGES)
def test_statistics_are_the_ones_the_field_quotes(name: str) -> None:
    inputs = unscaled(name).splits["train"].inputs
    mean, std = STATISTICS[name]
    unit = inputs.swapaxes(0, 1).reshape(len(mean), -1) / 255
    assert np.round(unit.mean(1, dtype=np.float64), 4).tolist() == mean
    assert np.round(unit.std(1, dtype=np.float64), 4).tolist() == std


@pytest.mark.slow
def test_scaling_is_bit_equal_to_torchvision() -> None:
    """As ToTensor and Normalize compute: to float32, div(255), sub_(mean), div_(std)."""
    pixels = torch.from_numpy(unscaled("cifar-10").splits["train"].inputs[:2000]).to(torch.uint8)
    mean, std = STATISTICS["cifar-10"]
    unit = pixels.to(torch.float32).div(255)
    normalized = unit.clone()
    normalized.sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(std).view(-1, 1, 1))
    for arguments, expected in (({}, unit), ({"mean": mean, "std": std}, normalized)):
        inputs = load_dataset("cifar-10", arguments).splits["train"].inputs[:2000]
        assert inputs.tobytes() == expected.numpy().tobytes()


@pytest.mark.slow
def test_standardizing_cifar_uses_the_quoted_statistics_of_each_channel() -> None:
    """The exact mean and deviation of each channel, of which the field quotes four digits."""
    pixels = unscaled("cifar-10").splits
    loaded = load_dataset("cifar-10", {"scale": "standardize", "augment": {"crop": 4}})
    assert loaded.augmentation is not None
    mean, std = (np.array(numbers).reshape(3, 1, 1) for numbers in STATISTICS["cifar-10"])
    for channel in range(3):
        inputs = loaded.splits["train"].inputs[:, channel]
        assert abs(inputs.mean(dtype=np.float64)) < STATISTICS_FLOAT32
        assert abs(inputs.std(dtype=np.float64) - 1) < STATISTICS_FLOAT32
    # Four digits of mean and deviation leave an error of half a unit of the last one.
    error = 0.5e-4 / std.min() * (1 + np.abs(loaded.splits["train"].inputs).max())
    for split, part in loaded.splits.items():
        expected = (pixels[split].inputs[:5000] / 255.0 - mean) / std
        assert np.abs(part.inputs[:5000] - expected).max() < error
    assert np.abs(loaded.augmentation.fill + mean / std).max() < error  # black: (0 - mean) / std


def test_unit_scaling_is_the_default_of_images() -> None:
    assert load_dataset("mnist", {}).sha256 == load_dataset("mnist", {"scale": "unit"}).sha256


def test_validation_is_a_tenth_and_the_test_split_stays() -> None:
    whole = unscaled("mnist")
    divided = load_dataset("mnist", {"scale": "none"}, validation=True)
    assert divided.sizes == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert np.array_equal(divided.splits["test"].inputs, whole.splits["test"].inputs)
    both = np.concatenate(
        [divided.splits[s].inputs.sum((1, 2, 3)) for s in ("train", "validation")]
    )
    assert np.array_equal(np.sort(both), np.sort(whole.splits["train"].inputs.sum((1, 2, 3))))


@pytest.mark.parametrize("name", IMAGES)
def test_files_are_verified(name: str) -> None:
    assert set(verify(name, Path(DATA)).values()) == {FileStatus.OK}
