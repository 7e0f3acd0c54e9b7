"""Samples as a source returns them, before they are divided, checked and scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from optrial.data.summary import Column

__all__ = ["Encoded", "Encoder", "Rows", "Source"]

Rows: TypeAlias = tuple[Any, Any]
"""Inputs, an array or a data frame, and targets of one split."""


@dataclass(frozen=True)
class Encoded:
    """Inputs as arrays, such as an encoder makes of data frames.

    Attributes:
        inputs: array of each split, shape (n, features).
        numbers: count of the leading features that are numbers to scale; the others are 0 or 1.
            None if all are numbers.
        columns: what became of each column.
        notes: what a reader of the results should know, one sentence each.
    """

    inputs: Mapping[str, Any]
    numbers: int | None
    columns: Sequence[Column]
    notes: Sequence[str] = ()


class Encoder(Protocol):
    """Turns data frames into arrays."""

    def __call__(self, frames: Mapping[str, Any], fitted_on: Any) -> Encoded:
        """Encode the frame of each split with statistics of the frame `fitted_on`."""


@dataclass(frozen=True)
class Source:
    """Samples of a file, a function or the catalogue.

    Attributes:
        splits: ``all`` samples; or ``train``, and maybe ``validation`` and ``test``.
        groups: one value per sample of ``all``; samples with the same value stay together.
        encoder: for inputs that are data frames.
        pixel_maximum: inputs are pixels from 0 to this.
        value_names: names of the values to predict.
        notes: what a reader of the results should know, one sentence each.
    """

    splits: Mapping[str, Rows]
    groups: NDArray[Any] | None = None
    encoder: Encoder | None = None
    pixel_maximum: int | None = None
    value_names: Sequence[str] = ()
    notes: Sequence[str] = ()
