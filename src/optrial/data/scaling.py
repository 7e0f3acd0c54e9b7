"""Scaling of checked arrays to float32 inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import Arguments, ValueArguments
from optrial.data.dataset import Array, Pair, Split, TargetScale
from optrial.errors import DataError, counted

_CHUNK = 1024  # samples; bounds the float64 copies made for statistics


def scaled(
    name: str,
    splits: Mapping[str, Pair],
    arguments: Arguments,
    pixel_maximum: int | None = None,
    numbers: int | None = None,
) -> dict[str, Split]:
    """Return scaled float32 inputs, and int64 labels or float32 values.

    Statistics are computed on the training split: per feature of vectors, (n, features), per
    channel of images, (n, channels, height, width), and once for other shapes. A constant feature
    becomes 0.

    Args:
        name: of the dataset, for the error.
        splits: checked arrays with validation held out; they are not changed.
        arguments: `scale`, or `mean` and `std`; and `standardize_targets`.
        pixel_maximum: largest possible value of pixels; None for inputs that are not pixels.
        numbers: count of leading features to scale; None to scale all.

    Raises:
        DataError: mean and std do not fit the inputs, labels would be standardized, or the result
            is beyond float32.
    """
    arguments = arguments.resolved(pixel_maximum is not None)
    inputs = {split: _working(x) for split, (x, _) in splits.items()}
    targets = {split: _targets(y) for split, (_, y) in splits.items()}
    to_scale = {split: x[:, :numbers] for split, x in inputs.items()} if numbers else inputs
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            for step in _maps(name, to_scale["train"], arguments, pixel_maximum):
                if numbers != 0:
                    _apply(step, to_scale)
            if (target_map := _target_map(name, targets["train"], arguments)) is not None:
                _apply(target_map, targets)
            inputs = {split: np.ascontiguousarray(x, np.float32) for split, x in inputs.items()}
            targets = {split: y if y.dtype.kind == "i" else y.astype(np.float32)
                       for split, y in targets.items()}  # fmt: skip
    except FloatingPointError as error:
        raise DataError(
            f"dataset '{name}': scaling gives values beyond float32 ({error}); use another scale, "
            "or a larger std"
        ) from error
    return {split: Split(inputs[split], targets[split]) for split in splits}


def _working(inputs: Array) -> NDArray[np.floating]:
    """Copy vectors to float64, which represents large values exactly, all else to float32."""
    return np.array(inputs, np.float64 if inputs.ndim == 2 else np.float32, order="C")


def _targets(targets: Array) -> Array:
    """Copy labels as int64; values as float64 or, if they have three or more axes, as float32."""
    if targets.dtype.kind != "f":
        return np.array(targets, np.int64, order="C")
    return np.array(targets, np.float64 if targets.ndim == 2 else np.float32, order="C")


_Map = tuple[NDArray[np.floating], NDArray[np.floating]]
"""A shift to subtract and a divisor; both broadcast over samples."""


def _apply(step: _Map, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    for values in arrays.values():
        np.subtract(values, step[0], out=values)
        np.divide(values, step[1], out=values)


def target_scale(name: str, train: Array, arguments: Arguments) -> TargetScale | None:
    """Return the scale by which `scaled` standardizes targets, or None.

    Args:
        name: of the dataset, for the error.
        train: targets of the training split before scaling.
        arguments: of the dataset.

    Raises:
        DataError: the targets are labels.
    """
    target_map = _target_map(name, _targets(train), arguments)
    return target_map and TargetScale(*(part[0].astype(np.float64) for part in target_map))


def _target_map(name: str, train: Array, arguments: Arguments) -> _Map | None:
    if not (isinstance(arguments, ValueArguments) and arguments.standardize_targets):
        return None
    if train.dtype.kind != "f":
        raise DataError(
            f"dataset '{name}': standardize_targets cannot scale class labels; remove it, or give "
            "floating-point targets"
        )
    return _moments(train)


def _maps(
    name: str, train: NDArray[np.floating], arguments: Arguments, pixel_maximum: int | None
) -> Iterator[_Map]:
    """Yield the steps of the scaling; each is computed after the one before was applied."""
    by_hand = arguments.mean is not None
    if pixel_maximum is not None and (by_hand or arguments.scale == "unit"):
        yield np.zeros(1, np.float32), np.full(1, pixel_maximum, np.float32)
    elif arguments.scale == "unit":
        low, high = _extremes(train)
        yield low, _divisor(high - low, low == high)
    if by_hand:
        yield (
            _per_channel(name, "mean", arguments.mean, train),
            _per_channel(name, "std", arguments.std, train),
        )
    elif arguments.scale == "standardize":
        yield _moments(train)


def _channel_axis(values: NDArray[np.floating]) -> int | None:
    """Return the axis with separate statistics: features, or channels of images, or None."""
    return 1 if values.ndim in (2, 4) else None


def _other_axes(values: NDArray[np.floating]) -> tuple[int, ...]:
    return tuple(axis for axis in range(values.ndim) if axis != _channel_axis(values))


def _extremes(values: NDArray[np.floating]) -> _Map:
    axes = _other_axes(values)
    return values.min(axes, keepdims=True), values.max(axes, keepdims=True)


def _moments(values: NDArray[np.floating]) -> _Map:
    """Return mean and standard deviation (ddof 0), summed in float64, shape (1, channels, ...)."""
    axes = _other_axes(values)
    low, high = _extremes(values)
    count = values.size // low.size
    chunks = [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]
    mean = sum(chunk.sum(axes, np.float64, keepdims=True) for chunk in chunks) / count
    square = sum(((chunk - mean) ** 2).sum(axes, keepdims=True) for chunk in chunks) / count
    mean = np.where(low == high, low, mean)
    return mean.astype(values.dtype), _divisor(np.sqrt(square), low == high).astype(values.dtype)


def _divisor(spread: NDArray[np.floating], constant: NDArray[np.bool_]) -> NDArray[np.floating]:
    return np.where(constant, 1, spread).astype(spread.dtype)


def _per_channel(
    name: str, key: str, value: float | Sequence[float] | None, train: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Shape numbers so that they broadcast over (n, channels, ...)."""
    numbers = np.atleast_1d(np.asarray(value, train.dtype))
    axis = _channel_axis(train)
    channels = 1 if axis is None else train.shape[axis]
    if len(numbers) not in (1, channels):
        raise DataError(
            f"dataset '{name}': {key} has {counted(len(numbers), 'number')}; give one, or "
            f"{channels}, one per channel or feature"
        )
    return numbers.reshape(-1, *[1] * max(0, train.ndim - 2))
