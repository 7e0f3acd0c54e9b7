"""Random flips and crops: what they do to a picture, how often, and alike in every library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from optrial.data import augment, load_dataset
from optrial.errors import DataError
from optrial.keyed import draw32, hash32, mask_key
from tests.data.objects import load_objects
from tests.tolerance import SAMPLING_SIGMAS, STATISTICS_FLOAT32

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(4, 10, 3, 7, 6)).astype(np.float32)  # seeds, batch, channels, ...
KEYS = np.array([mask_key(seed, 12) for seed in range(4)])
FILL = np.array([0.5, -1, 2], np.float32).reshape(3, 1, 1)


def lowbias32(value: int) -> int:
    """Wellons' hash, as its author writes it in C, on unsigned 32-bit integers."""
    x = np.array(value, np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return int(x)


def drawn(key: int, stream: int, position: int) -> int:
    stream_key = lowbias32((key + stream * 0x9E3779B9) % 2**32)
    return lowbias32((lowbias32(position ^ stream_key) + key) % 2**32)


def by_hand(images: np.ndarray, key: int, flip: bool, crop: int, fill: np.ndarray) -> np.ndarray:
    """Pad, cut and mirror one picture after the other."""
    height, width = images.shape[-2:]
    result = np.empty_like(images)
    for position, image in enumerate(images):
        padded = np.empty((3, height + 2 * crop, width + 2 * crop), images.dtype)
        padded[:] = fill
        padded[:, crop : crop + height, crop : crop + width] = image
        top, left = (drawn(key, stream, position) * (2 * crop + 1) // 2**32 for stream in (-2, -3))
        cut = padded[:, top : top + height, left : left + width]
        mirrored = flip and drawn(key, -1, position) >= 2**31
        result[position] = cut[:, :, ::-1] if mirrored else cut
    return result


OPTIONS = [(True, 4), (True, 0), (False, 2), (True, 6)]


@pytest.mark.parametrize(("flip", "crop"), OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_picture_is_padded_cut_and_mirrored(flip: bool, crop: int, dtype: Any) -> None:
    for images, key in zip(IMAGES.astype(dtype), KEYS.tolist(), strict=True):
        augmented = augment(images, key, flip=flip, crop=crop, fill=FILL.astype(dtype))
        assert augmented.dtype == dtype
        assert np.array_equal(augmented, by_hand(images, key, flip, crop, FILL))


@pytest.mark.parametrize(("flip", "crop"), OPTIONS)
@pytest.mark.parametrize("fill", [0.0, FILL])
def test_libraries_and_stacks_agree_to_the_bit(flip: bool, crop: int, fill: Any) -> None:
    before = IMAGES.copy()
    stacked = augment(IMAGES, KEYS, flip=flip, crop=crop, fill=fill)
    alone = [
        augment(images, key, flip=flip, crop=crop, fill=fill)
        for images, key in zip(IMAGES, KEYS.tolist(), strict=True)
    ]
    tensor_fill = torch.from_numpy(fill) if isinstance(fill, np.ndarray) else fill
    tensors = augment(
        torch.from_numpy(IMAGES), torch.from_numpy(KEYS), flip=flip, crop=crop, fill=tensor_fill
    )
    assert stacked.dtype == np.float32
    assert tensors.dtype == torch.float32
    assert stacked.tobytes() == np.stack(alone).tobytes() == tensors.numpy().tobytes()
    assert np.array_equal(IMAGES, before)


def test_arrays_need_not_be_contiguous() -> None:
    turned = np.moveaxis(np.ascontiguousarray(np.moveaxis(IMAGES, 2, -1)), -1, 2)
    assert not turned.flags.c_contiguous
    expected = augment(IMAGES, KEYS, flip=True, crop=3)
    assert np.array_equal(augment(turned, KEYS, flip=True, crop=3), expected)
    tensors = augment(torch.from_numpy(turned), torch.from_numpy(KEYS), flip=True, crop=3)
    assert np.array_equal(tensors.numpy(), expected)


def shifts_and_flips(keys: np.ndarray, batch: int, crop: int) -> np.ndarray:
    """Find what was done to pictures that number their own pixels: (3, pictures)."""
    side = 2 * (2 * crop) + 1
    middle = 2 * crop
    image = np.arange(side * side, dtype=np.float32).reshape(side, side)
    images = np.broadcast_to(image, (len(keys), batch, 1, side, side))
    augmented = augment(images, keys, flip=True, crop=crop, fill=-1.0)[..., 0, middle, :].reshape(
        -1, side
    )
    rows, columns = np.divmod(augmented[:, middle].astype(int), side)
    mirrored = augmented[:, middle + 1] < augmented[:, middle]
    return np.stack([rows - middle, columns - middle, mirrored])


@pytest.mark.parametrize(("keys", "batch"), [(1, 20_000), (20_000, 1), (200, 100)])
def test_all_shifts_and_flips_are_equally_frequent(keys: int, batch: int) -> None:
    crop = 2
    draws = shifts_and_flips(np.array([mask_key(3, step) for step in range(keys)]), batch, crop)
    assert draws.min(axis=1).tolist() == [-crop, -crop, 0]
    assert draws.max(axis=1).tolist() == [crop, crop, 1]
    _, counts = np.unique(draws, axis=1, return_counts=True)
    share, samples = 1 / (2 * (2 * crop + 1) ** 2), keys * batch
    assert len(counts) == 1 / share
    errors = (counts - samples * share) / np.sqrt(samples * share * (1 - share))
    assert np.abs(errors).max() < SAMPLING_SIGMAS
    flipped = (draws[2].mean() - 0.5) / np.sqrt(0.25 / samples)
    assert abs(flipped) < SAMPLING_SIGMAS


def test_pictures_depend_on_seed_step_and_position_alone() -> None:
    images = IMAGES[0]

    def varied(seed: int, step: int, batch: np.ndarray = images) -> np.ndarray:
        return augment(batch, mask_key(seed, step), flip=True, crop=3)

    first = varied(0, 1)
    assert np.array_equal(first, varied(0, 1))
    assert np.array_equal(first[:4], varied(0, 1, images[:4]))
    for other in (varied(1, 1), varied(0, 2), varied(1, 0)):
        assert not np.array_equal(first, other)
    same = varied(0, 1, np.repeat(images[:1], 10, axis=0))
    assert len(np.unique(same, axis=0)) > 1


def test_nothing_asked_for_is_nothing_done() -> None:
    assert augment(IMAGES, 1, flip=False, crop=0) is IMAGES


@pytest.mark.parametrize("value", [0, 1, 2, 0xFFFFFFFF, 0x9E3779B9, 123456789])
def test_hash_is_the_published_one(value: int) -> None:
    expected = lowbias32(value)
    assert hash32(value) == expected
    assert hash32(np.array([value])).tolist() == [expected]
    assert hash32(torch.tensor([value])).tolist() == [expected]


def test_streams_and_keys_draw_apart() -> None:
    positions = np.arange(20_000)
    keys = [mask_key(seed, step) for seed in range(2) for step in range(1, 3)]
    draws = [draw32(key, stream, positions) for key in keys for stream in (-2, -1, 0, 1)]
    ranks = np.stack(draws) / 2**32
    assert ((ranks >= 0) & (ranks < 1)).all()
    correlation = np.corrcoef(ranks)[np.triu_indices(len(ranks), 1)]
    assert np.abs(correlation).max() * np.sqrt(len(positions)) < SAMPLING_SIGMAS


def test_dataset_says_how_it_is_augmented_and_is_itself_unchanged() -> None:
    plain = load_dataset("digits", {}, validation=True)
    varied = load_dataset("digits", {"augment": {"flip": True, "crop": 2}}, validation=True)
    assert plain.augmentation is None
    assert varied.augmentation is not None
    assert (varied.augmentation.flip, varied.augmentation.crop) == (True, 2)
    assert varied.arguments["augment"] == {"flip": True, "crop": 2}
    assert list(varied.splits) == list(plain.splits) == ["train", "validation", "test"]
    assert varied.sha256 == plain.sha256
    assert load_dataset("digits", {"augment": {}}).augmentation is None


def fill_of(arguments: dict[str, Any], raw: Any = None) -> np.ndarray:
    arguments = arguments | {"augment": {"crop": 1}}
    loaded = load_objects(raw, arguments) if raw else load_dataset("digits", arguments)
    assert loaded.augmentation is not None
    assert loaded.augmentation.fill.dtype == np.float32
    return loaded.augmentation.fill


def test_padding_is_black_on_the_scale_of_the_data() -> None:
    assert fill_of({}).tolist() == [[[0]]]
    assert fill_of({"scale": "none"}).tolist() == [[[0]]]
    assert fill_of({"mean": 0.25, "std": 0.5}).tolist() == [[[-0.5]]]
    pixels = RANDOM.integers(0, 256, (50, 3, 4, 4)) * np.array([1, 2, 3]).reshape(3, 1, 1) + 7
    whole = {"train": (pixels, np.arange(50) % 2)}
    columns = np.moveaxis(pixels, 1, -1).reshape(-1, 3)
    expected = StandardScaler().fit(columns.astype(float)).transform(np.zeros((1, 3)))
    fill = fill_of({"scale": "standardize"}, whole)
    assert fill.shape == (3, 1, 1)
    assert fill.ravel() == pytest.approx(expected[0], abs=STATISTICS_FLOAT32)


def test_only_images_can_be_augmented(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((20, 4)), y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"augment: samples have shape \(4,\); only images"):
        load_dataset(str(path), {"augment": {"flip": True}})
    np.savez(path, x=np.ones((20, 3, 8, 5)), y=np.arange(20) % 2)
    assert load_dataset(str(path), {"augment": {"flip": True, "crop": 4}}).augmentation
    with pytest.raises(DataError, match=r"augment\.crop: 5: images are 8x5 pixels"):
        load_dataset(str(path), {"augment": {"crop": 5}})


def test_pixels_of_targets_would_stay_where_they_are(tmp_path: Path) -> None:
    """Inputs to be reconstructed, and labels for each pixel."""
    augmented = {"augment": {"flip": True}}
    says = "augment: moves the pixels of the inputs, but not their targets"
    with pytest.raises(DataError, match=says):
        load_dataset("digits", augmented | {"targets": "inputs"})
    path, labels = tmp_path / "masks.npz", np.arange(800).reshape(20, 8, 5) % 3
    np.savez(path, inputs=np.zeros((20, 1, 8, 5), dtype=np.uint8), targets=labels)
    assert load_dataset(str(path), {}).classes == 3
    with pytest.raises(DataError, match=says):
        load_dataset(str(path), augmented)
