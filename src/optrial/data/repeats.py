"""Samples that occur more than once in a source, or in two splits."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import SPLITS, Split
from optrial.data.source import Inputs, Source
from optrial.errors import DataError, counted


def distinct(source: Source) -> Source:
    """Leave out of ``all`` samples those whose inputs an earlier one has; splits stay unchanged."""
    if "all" not in source.splits:
        return source
    inputs, targets = source.splits["all"]
    keys = _keys(inputs)
    repeated = _repeated(keys)
    if not repeated.any() or len(keys) != len(targets):
        return source
    whole = _repeated(zip(keys, _keys(targets), strict=True))
    left_out = counted(int(repeated.sum()), "sample")
    note = f"left out {left_out} that repeat the inputs of an earlier one"
    if differing := int((repeated & ~whole).sum()):
        note += f", {differing:,} of them with a different target"
    return replace(
        source,
        splits={"all": (inputs[~repeated], targets[~repeated])},
        groups=None if source.groups is None else source.groups[~repeated],
        notes=[*source.notes, note],
    )


def shared_samples(splits: Mapping[str, Split]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Mark the samples of the second of two splits whose inputs occur in the first.

    Pairs are ordered: train before validation before test.
    """
    keys = {name: _keys(splits[name].inputs) for name in SPLITS if name in splits}
    known = {name: set(of_split) for name, of_split in keys.items()}
    return {
        (first, second): np.array([key in known[first] for key in keys[second]], bool)
        for first, second in combinations(keys, 2)
    }


def shared_notes(splits: Mapping[str, Split]) -> Iterator[str]:
    """Yield a note per split that shares inputs with an earlier one."""
    for (first, second), shared in shared_samples(splits).items():
        if shared.any():
            yield (
                f"{shared.sum():,} of {len(shared):,} {second} samples have the same inputs as "
                f"{first} samples; drop_duplicates: true leaves them out"
            )


def kept_samples(place: str, splits: Mapping[str, Split]) -> dict[str, NDArray[np.bool_]]:
    """Mark the samples of each split whose inputs no earlier split has.

    Args:
        place: origin of the samples, to begin the error.
        splits: scaled samples.

    Raises:
        DataError: nothing remains of a split.
    """
    kept = {split: np.ones(len(samples.targets), bool) for split, samples in splits.items()}
    for (_, second), shared in shared_samples(splits).items():
        kept[second] &= ~shared
    for split, mask in kept.items():
        if not mask.any():
            raise DataError(
                f"{place}: all {split} samples repeat inputs of an earlier split, so "
                "drop_duplicates leaves none; give other samples"
            )
    return kept


def left_out_notes(kept: Mapping[str, NDArray[np.bool_]]) -> Iterator[str]:
    """Yield a note per split that loses samples."""
    for split, mask in kept.items():
        if left_out := int((~mask).sum()):
            yield f"left out {counted(left_out, f'{split} sample')} with inputs of an earlier split"


def _keys(samples: Inputs) -> Sequence[Hashable]:
    """Return a key for every sample; equal samples have equal keys."""
    if not isinstance(samples, np.ndarray):
        columns = list(samples.columns)
        return samples.groupby(columns, dropna=False, sort=False).ngroup().tolist()
    if samples.dtype.kind == "O":
        return [str(sample) for sample in samples]
    return [hash(sample.tobytes()) for sample in samples]


def _repeated(keys: Iterable[Hashable]) -> NDArray[np.bool_]:
    """Mark every key that occurred before."""
    seen: set[Hashable] = set()
    marks = []
    for key in keys:
        marks.append(key in seen)
        seen.add(key)
    return np.array(marks, bool)
