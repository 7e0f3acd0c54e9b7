"""Several inputs of a sample, packed into one array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import Array, Pair
from optrial.errors import DataError
from optrial.input_parts import InputPart

__all__ = ["Named", "PackedSplits", "Parts", "pack_splits"]

_EXACT = 2**24
"""Whole numbers up to this size are exact in float32."""

Named: TypeAlias = dict[str, Array]
"""Inputs by name."""

Parts: TypeAlias = tuple[InputPart, ...]


class PackedSplits(NamedTuple):
    """Samples whose inputs are one array.

    Attributes:
        splits: split -> (inputs, targets), or ``all`` of them for samples without splits.
        parts: the inputs that are packed into one array; none for a single input.
    """

    splits: dict[str, Pair]
    parts: Parts = ()


def pack_splits(place: str, splits: Mapping[str, tuple[Array | Named, Array]]) -> PackedSplits:
    """Pack inputs that have names, the same in every split.

    Args:
        place: origin of the samples, to begin the error.
        splits: inputs, an array or several by name, and targets.

    Raises:
        DataError: only some splits have named inputs, or their names, shapes or kinds differ.
    """
    arrays: dict[str, Pair] = {}
    parts: dict[str, Parts] = {}
    for split, (inputs, targets) in splits.items():
        if isinstance(inputs, dict):
            order = [part.name for part in next(iter(parts.values()), ())]
            in_order = {name: inputs[name] for name in order if name in inputs} | inputs
            inputs, parts[split] = _packed(f"{place}, {split}", in_order)  # noqa: PLW2901
        arrays[split] = inputs, targets
    if not parts:
        return PackedSplits(arrays)
    if alone := [split for split in arrays if split not in parts]:
        raise DataError(
            f"{place}: inputs of {alone[0]} have no names, and those of {next(iter(parts))} are a "
            "mapping; give a mapping for every split"
        )
    first, *others = parts.items()
    for split, of_split in others:
        if of_split != first[1]:
            raise DataError(
                f"{place}: {first[0]} has the inputs {_described(first[1])}, {split} "
                f"{_described(of_split)}; give all splits the same"
            )
    return PackedSplits(arrays, first[1])


def _described(parts: Parts) -> str:
    kinds = {True: "whole numbers", False: "numbers"}
    return ", ".join(f"{part.name} {part.shape} of {kinds[part.whole]}" for part in parts)


def _packed(place: str, arrays: Mapping[str, Array]) -> tuple[NDArray[np.float32], Parts]:
    """Return several inputs side by side, (samples, values), and what they are.

    Args:
        place: origin of the arrays, to begin the error.
        arrays: inputs by name, (samples, ...): numbers, or whole numbers and truth values, which
            models get as int64.

    Raises:
        DataError: there is none, they differ in the number of samples, or a value is no number that
            float32 can hold.
    """
    if not arrays:
        raise DataError(f"{place} has a mapping without inputs; give one array per name")
    for name, values in arrays.items():
        if reason := _unfit(values):
            raise DataError(f"{place}: the input '{name}' {reason}")
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{place}: inputs differ in the number of samples: {shown}")
    rows = [v.reshape(len(v), -1).astype(np.float32) for v in arrays.values()]
    parts = [
        InputPart(name, values.shape[1:], values.dtype.kind in "biu")
        for name, values in arrays.items()
    ]
    return np.concatenate(rows, axis=1), tuple(parts)


def _unfit(values: Array) -> str:
    """Return why an array cannot be an input, or ""."""
    if values.dtype.kind not in "biuf":
        return f"is of type {values.dtype}; inputs must be real numbers"
    if not values.ndim or not values.size:
        return f"has shape {values.shape}; it must be (samples, ...), without empty axes"
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32)).all()
        return "" if finite else "holds values that are not finite as float32"
    low, high = int(values.min()), int(values.max())
    if max(high, -low) <= _EXACT:
        return ""
    return (
        f"holds whole numbers from {low} to {high}, and only those up to 2^24 are exact; number "
        "them from 0, or give measurements as floating-point numbers"
    )
