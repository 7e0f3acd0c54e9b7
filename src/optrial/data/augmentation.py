"""Random flips and crops of training images, keyed by the step.

They are a pure function of the images, a key and the position of an image in its batch: all engines
augment alike, runs with equal seeds see equal images, and a resumed run continues exactly. The same
code serves NumPy arrays and torch tensors, one run or a stack of runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from optrial.keyed import draw32

Array = Any  # a NumPy array or a torch tensor

_FLIP, _ROW, _COLUMN = -1, -2, -3  # streams of draws


@dataclass(frozen=True)
class Augmentation:
    """Random variation of training images: the arguments of `augment`.

    Attributes:
        flip: mirror each image left to right with probability 1/2.
        crop: largest shift in pixels, in all four directions.
        fill: value outside of an image, a scaled 0; float32, shape (channels, 1, 1).
    """

    flip: bool
    crop: int
    fill: NDArray[np.float32]


def augment(inputs: Array, key: Array, *, flip: bool, crop: int, fill: Array = 0.0) -> Array:
    """Return a batch of images, each shifted and mirrored at random.

    Equivalent to torchvision's `RandomCrop(size, padding=crop)` followed by
    `RandomHorizontalFlip()`: the padded image is cut to its size at an offset uniform over
    (2 crop + 1)^2, and mirrored left to right with probability 1/2. Values are only copied, so all
    libraries give the same bits.

    Args:
        inputs: (..., batch, channels, height, width); they are not changed.
        key: `optrial.keyed.mask_key` of seed and step: an integer, or for a stack an int64 array
            of the leading shape (...), with library and device of the inputs.
        flip: whether to mirror.
        crop: pixels of padding on each side, from 0.
        fill: value of the padding: a number, or an array (channels, 1, 1) with library, type and
            device of the inputs.
    """
    if not (flip or crop):
        return inputs
    xp, place = array_namespace(inputs), device(inputs)
    *leading, batch, channels, height, width = inputs.shape

    def count(*shape: int) -> Array:
        return xp.arange(math.prod(shape), device=place).reshape(shape)

    samples, rows, columns = count(batch), count(height), count(width)
    key = key if isinstance(key, int) else key[..., None]
    if flip:
        mirrored = draw32(key, _FLIP, samples)[..., None] >> 31
        columns = columns + mirrored * (width - 1 - 2 * columns)
    rows = rows + _shift(draw32(key, _ROW, samples), crop)  # (..., batch, height)
    columns = columns + _shift(draw32(key, _COLUMN, samples), crop)  # (..., batch, width)
    nearest = rows.clip(0, height - 1)[..., None] * width + columns.clip(0, width - 1)[..., None, :]
    planes = count(*leading, batch, channels, 1, 1) * (height * width)
    moved = inputs.take(planes + nearest[..., None, :, :])
    if not crop:
        return moved
    inside = _within(rows, height)[..., None] & _within(columns, width)[..., None, :]
    return xp.where(inside[..., None, :, :], moved, fill)


def _shift(draws: Array, crop: int) -> Array:
    """Turn 32-bit draws (..., batch) into shifts from -crop to crop, (..., batch, 1)."""
    return (draws * (2 * crop + 1) >> 32)[..., None] - crop


def _within(positions: Array, size: int) -> Array:
    return (positions >= 0) & (positions < size)
