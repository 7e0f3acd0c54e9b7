"""Summary of a dataset for its reader: columns, classes and the scale of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassCount", "Column", "Summary", "ValueScale", "summarized"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as in the header.
        kind: "number", "boolean", "text", "date" or "empty".
        use: "feature", "target" or "dropped".
        detail: what was done to it, or why it was dropped.
    """

    name: str
    kind: str
    use: str
    detail: str = ""


@dataclass(frozen=True)
class ClassCount:
    """Number of samples of one class in each split."""

    label: int
    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ValueScale:
    """Statistics of one value to predict, on the training split and in the units of the source."""

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Summary:
    """Columns, classes and values of a dataset.

    Attributes:
        columns: of a table, in the order of the file; else empty.
        classes: of labels, else empty.
        values: to predict, else empty.
    """

    columns: tuple[Column, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    values: tuple[ValueScale, ...] = ()


def summarized(
    targets: Mapping[str, NDArray[Any]],
    columns: Sequence[Column],
    class_names: Sequence[str],
    value_names: Sequence[str],
) -> Summary:
    """Count the classes of every split, or take the statistics of the values to predict.

    Args:
        targets: of every split, checked and before scaling.
        columns: of a table.
        class_names: names of the labels 0, 1, ...; none if they are the numbers themselves.
        value_names: names of the columns of values; none if they have no names.
    """
    train = targets["train"]
    if train.dtype.kind == "f":
        return Summary(tuple(columns), values=_scales(train, value_names))
    if train.ndim > 1 or any(labels.min() < 0 for labels in targets.values()):
        return Summary(tuple(columns))
    whole = {split: labels.astype(np.int64) for split, labels in targets.items()}
    size = max(len(class_names), 1 + max(int(labels.max()) for labels in whole.values()))
    counts = {split: np.bincount(labels, minlength=size) for split, labels in whole.items()}
    names = class_names or [str(label) for label in range(size)]
    classes = (
        ClassCount(label, names[label], {split: int(n[label]) for split, n in counts.items()})
        for label in range(size)
    )
    return Summary(tuple(columns), tuple(classes))


def _scales(train: NDArray[Any], names: Sequence[str]) -> tuple[ValueScale, ...]:
    """Return the scale of each output; none for outputs that are more than a few numbers."""
    if train.ndim > 2:
        return ()
    values = train.reshape(len(train), -1).astype(np.float64)
    known = names or [f"output {number}" for number in range(values.shape[1])]
    rows = zip(known, values.mean(0), values.std(0), values.min(0), values.max(0), strict=True)
    return tuple(ValueScale(name, *map(float, statistics)) for name, *statistics in rows)
