"""Samples that occur more than once, in a source or in two splits."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import SPLITS, Pair, Split
from optrial.data.source import Source
from optrial.errors import DataError

__all__ = ["distinct", "shared_notes", "shared_samples", "without_shared"]


def distinct(source: Source) -> Source:
    """Return ``all`` samples without those whose inputs an earlier one has; splits stay."""
    if "all" not in source.splits:
        return source
    inputs, targets = source.splits["all"]
    keys = _keys(inputs)
    repeated = _repeated(keys)
    if not repeated.any() or len(keys) != len(targets):
        return source
    whole = _repeated(zip(keys, _keys(targets), strict=True))
    note = f"{repeated.sum():,} samples are left out: an earlier one has the same inputs"
    if differing := int((repeated & ~whole).sum()):
        note += f", and for {differing:,} of them another target"
    return replace(
        source,
        splits={"all": (inputs[~repeated], targets[~repeated])},
        groups=None if source.groups is None else source.groups[~repeated],
        notes=[*source.notes, note],
    )


def shared_samples(splits: Mapping[str, Split]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return for every pair of splits which samples of the second have inputs of the first.

    Training samples come first, then validation and test.
    """
    keys = {name: _keys(splits[name].inputs) for name in SPLITS if name in splits}
    known = {name: set(of_split) for name, of_split in keys.items()}
    return {
        (first, second): np.array([key in known[first] for key in keys[second]], bool)
        for first, second in combinations(keys, 2)
    }


def shared_notes(splits: Mapping[str, Split]) -> Iterator[str]:
    """Say how many samples of a split have inputs of an earlier one."""
    for (first, second), shared in shared_samples(splits).items():
        if shared.any():
            yield (
                f"{shared.sum():,} of {len(shared):,} {second} samples have the same inputs as "
                f"{first} samples; drop_duplicates: true leaves them out"
            )


def without_shared(
    place: str, splits: Mapping[str, Split], pairs: Mapping[str, Pair]
) -> tuple[dict[str, Split], dict[str, Pair], list[str]]:
    """Leave out the samples whose inputs an earlier split has.

    Args:
        place: where the samples are from, to begin the error.
        splits: as training gets them.
        pairs: the same samples, before scaling.

    Returns:
        the splits, the pairs, and a note per split that lost samples.

    Raises:
        DataError: nothing remains of a split.
    """
    kept = {split: np.ones(len(samples.targets), bool) for split, samples in splits.items()}
    for (_, second), shared in shared_samples(splits).items():
        kept[second] &= ~shared
    for split, mask in kept.items():
        if not mask.any():
            raise DataError(
                f"{place}: all samples of {split} have inputs that an earlier split has, so that "
                "drop_duplicates leaves none; give other samples"
            )
    notes = [
        f"{(~mask).sum():,} {split} samples are left out: an earlier split has the same inputs"
        for split, mask in kept.items()
        if not mask.all()
    ]
    return (
        {
            split: Split(s.inputs[kept[split]], s.targets[kept[split]])
            for split, s in splits.items()
        },
        {split: (x[kept[split]], y[kept[split]]) for split, (x, y) in pairs.items()},
        notes,
    )


def _keys(samples: Any) -> Sequence[int]:
    """Return a hash of every sample of an array or a data frame."""
    if hasattr(samples, "iloc"):
        from pandas.util import hash_pandas_object  # noqa: PLC0415  (half a second to import)

        hashes: list[int] = hash_pandas_object(samples, index=False).tolist()
        return hashes
    array = np.asarray(samples)
    if array.dtype.kind == "O":
        return [hash(str(sample)) for sample in array]
    return [hash(sample.tobytes()) for sample in array]


def _repeated(keys: Iterable[Hashable]) -> NDArray[np.bool_]:
    """Mark every key that occurs before."""
    seen: set[Hashable] = set()
    marks = []
    for key in keys:
        marks.append(key in seen)
        seen.add(key)
    return np.array(marks, bool)
