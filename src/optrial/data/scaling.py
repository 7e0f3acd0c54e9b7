"""From checked arrays to float32 inputs on the scale that the arguments ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import Arguments, ValueArguments
from optrial.data.dataset import Pair, Split
from optrial.errors import DataError

_CHUNK = 1024  # samples; bounds the float64 copies made while taking statistics


def scaled(
    name: str,
    splits: Mapping[str, Pair],
    arguments: Arguments,
    pixel_maximum: int | None = None,
    numbers: int | None = None,
) -> dict[str, Split]:
    """Return float32 inputs, scaled as the arguments say, and int64 labels or float32 values.

    Every statistic is of the training split: one per feature of vectors, (n, features), one per
    channel of images, (n, channels, height, width), and a single one for other shapes. A feature
    that never varies is shifted to 0 and not divided.

    Args:
        name: of the dataset, for the error.
        splits: checked arrays, validation already held out; they are not changed.
        arguments: `scale`, or `mean` and `std`; and `standardize_targets`.
        pixel_maximum: pixels go from 0 to this, for images.
        numbers: scale only so many features, the first; all by default.

    Raises:
        DataError: mean and std do not fit the inputs, labels are to be standardised, or the result
            is beyond float32.
    """
    inputs = {split: _working(x) for split, (x, _) in splits.items()}
    targets = {split: _targets(y) for split, (_, y) in splits.items()}
    to_scale = {split: x[:, :numbers] for split, x in inputs.items()} if numbers else inputs
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            for given in _maps(name, to_scale["train"], arguments.resolved(), pixel_maximum):
                if numbers != 0:
                    _apply(given, to_scale)
            if isinstance(arguments, ValueArguments) and arguments.standardize_targets:
                _apply(_target_map(name, targets["train"]), targets)
            inputs = {split: np.ascontiguousarray(x, np.float32) for split, x in inputs.items()}
            targets = {split: y if y.dtype.kind == "i" else y.astype(np.float32)
                       for split, y in targets.items()}  # fmt: skip
    except FloatingPointError as error:
        raise DataError(
            f"dataset '{name}': scaling gives values beyond float32 ({error}); use another scale, "
            "or a larger std"
        ) from error
    return {split: Split(inputs[split], targets[split]) for split in splits}


def _working(inputs: NDArray[Any]) -> NDArray[np.floating]:
    """Copy vectors to float64, which holds dates and prices exactly, all else to float32."""
    return np.array(inputs, np.float64 if inputs.ndim == 2 else np.float32, order="C")


def _targets(targets: NDArray[Any]) -> NDArray[Any]:
    """Copy labels as int64, and numbers as float64 or, where they are many, as float32."""
    if targets.dtype.kind != "f":
        return np.array(targets, np.int64, order="C")
    return np.array(targets, np.float64 if targets.ndim == 2 else np.float32, order="C")


_Map = tuple[NDArray[np.floating], NDArray[np.floating]]


def _apply(given: _Map, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    for values in arrays.values():
        np.subtract(values, given[0], out=values)
        np.divide(values, given[1], out=values)


def _target_map(name: str, train: NDArray[Any]) -> _Map:
    if train.dtype.kind != "f":
        raise DataError(
            f"dataset '{name}': its targets are class labels, which standardize_targets cannot "
            "scale; remove it, or give floating-point targets"
        )
    return _moments(train)


def _maps(
    name: str, train: NDArray[np.floating], arguments: Arguments, pixel_maximum: int | None
) -> Iterator[_Map]:
    """Yield what to subtract and what to divide by, in order; each sees the ones before it done."""
    given = arguments.mean is not None
    if pixel_maximum is not None and (given or arguments.scale == "unit"):
        yield np.zeros(1, np.float32), np.full(1, pixel_maximum, np.float32)
    elif arguments.scale == "unit":
        low, high = _extremes(train)
        yield low, _divisor(high - low, low == high)
    if given:
        yield (
            _per_channel(name, "mean", arguments.mean, train),
            _per_channel(name, "std", arguments.std, train),
        )
    elif arguments.scale == "standardize":
        yield _moments(train)


def _channel_axis(values: NDArray[np.floating]) -> int | None:
    """Return the axis that has its own statistics: features, or channels of images, or none."""
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
    name: str, key: str, given: float | Sequence[float] | None, train: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Shape the given numbers so that they broadcast over (n, channels, ...)."""
    numbers = np.atleast_1d(np.asarray(given, train.dtype))
    axis = _channel_axis(train)
    channels = 1 if axis is None else train.shape[axis]
    if len(numbers) not in (1, channels):
        raise DataError(
            f"dataset '{name}': {key} has {len(numbers)} numbers; give one, or {channels}, one a "
            "channel or feature"
        )
    return numbers.reshape(-1, *[1] * max(0, train.ndim - 2))
