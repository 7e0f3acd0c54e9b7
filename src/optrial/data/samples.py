"""A few samples of a split, to look at."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import Dataset
from optrial.errors import DataError, suggest

__all__ = ["Samples", "some_samples"]

SHEET = 24
"""Images or series on a sheet."""
ROWS = 12


class Samples(NamedTuple):
    """Some samples of a split.

    Attributes:
        inputs: (samples, *input_shape), as a model gets them.
        targets: (samples, ...).
        names: names of the labels 0, 1, ...; empty for values.
        columns: names of the features of a table; empty if inputs are no table.
        tokens: text of each token, empty if it is not known; None for inputs that are numbers.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    tokens: tuple[str, ...] | None


def some_samples(dataset: Dataset, split: str, count: int | None = None) -> Samples:
    """Return samples that are evenly spread over a split, in its order.

    Args:
        dataset: the data.
        split: "train", "validation" or "test".
        count: number of samples; by default a sheet of images or series, a few rows of a table, or
            all points of a plane with one target each.

    Raises:
        DataError: the dataset has no such split, or is that of a function.
    """
    if (dataset.name, dataset.classes) == ("displacements", 1):  # the data of a function
        raise DataError(
            "a function of two variables has no samples with labels; 'optrial landscape' draws it."
        )
    if split not in dataset.splits:
        known = suggest(split, dataset.splits)
        raise DataError(f"the dataset {dataset.name} has no split '{split}'. {known}")
    data, shape = dataset.splits[split], dataset.input_shape
    size = len(data.targets)
    if count is None:
        is_plane = shape == (2,) and math.prod(data.targets.shape[1:]) == 1
        count = size if is_plane else SHEET if len(shape) > 1 else ROWS
    rows = np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(int))
    summary = dataset.summary
    return Samples(
        data.inputs[rows],
        data.targets[rows],
        tuple(entry.name for entry in summary.classes),
        tuple(column.name for column in summary.columns if column.use == "feature")
        or tuple(f"{part.name} {i}" for part in dataset.parts for i in range(part.size)),
        None if dataset.vocabulary is None else dataset.token_texts,
    )
