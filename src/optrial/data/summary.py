"""Summary of a dataset: columns, classes and the scale of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

ColumnKind: TypeAlias = Literal["number", "boolean", "text", "date", "empty", "object"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: as in the header.
        kind: kind of its values.
        use: role of the column.
        detail: how it is encoded, or why it was dropped.
    """

    name: str
    kind: ColumnKind
    use: Literal["feature", "target", "dropped"]
    detail: str = ""


@dataclass(frozen=True)
class ClassCount:
    """Number of samples of one class in each split."""

    label: int
    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ValueScale:
    """Statistics of a value to predict, on the training split and in the units of the source."""

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Summary:
    """Columns, classes and values of a dataset.

    Attributes:
        columns: columns of a table, in the order of the file.
        classes: classes of labels.
        values: values to predict.
    """

    columns: tuple[Column, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    values: tuple[ValueScale, ...] = ()


def summarized(
    targets: Mapping[str, NDArray[np.generic]],
    columns: Sequence[Column],
    class_names: Sequence[str],
    value_names: Sequence[str],
) -> Summary:
    """Count the classes of every split, or take the statistics of the values to predict.

    Args:
        targets: checked targets of every split, before scaling.
        columns: columns of a table.
        class_names: names of the labels 0, 1, ...; the numbers are the names of those without.
        value_names: names of the values; empty for values without names.
    """
    train = targets["train"]
    if train.dtype.kind == "f":
        return Summary(tuple(columns), values=_scales(train, value_names))
    if train.ndim > 1 or any(labels.min() < 0 for labels in targets.values()):
        return Summary(tuple(columns))
    largest = max(int(labels.max()) for labels in targets.values())
    size = max(len(class_names), 1 + largest)
    counts = {split: np.bincount(labels, minlength=size) for split, labels in targets.items()}
    names = [*class_names, *map(str, range(len(class_names), size))]
    classes = (
        ClassCount(label, names[label], {split: int(n[label]) for split, n in counts.items()})
        for label in range(size)
    )
    return Summary(tuple(columns), tuple(classes))


def _scales(train: NDArray[np.generic], names: Sequence[str]) -> tuple[ValueScale, ...]:
    """Return the scale of each output; empty for targets of three or more axes."""
    if train.ndim > 2:
        return ()
    values = train.reshape(len(train), -1).astype(np.float64)
    names = names or [f"output {number}" for number in range(values.shape[1])]
    rows = zip(names, values.mean(0), values.std(0), values.min(0), values.max(0), strict=True)
    return tuple(ValueScale(name, *map(float, statistics)) for name, *statistics in rows)
