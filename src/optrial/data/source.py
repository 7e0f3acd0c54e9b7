"""Samples as a source returns them, before they are divided, checked and scaled."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from optrial.code import readable
from optrial.data.arguments import Arguments
from optrial.data.dataset import Array
from optrial.data.summary import Column
from optrial.input_parts import InputPart
from optrial.target_kinds import IGNORE_INDEX, Targets

if TYPE_CHECKING:
    import pandas as pd

A_co = TypeVar("A_co", bound=Arguments, covariant=True)

Inputs: TypeAlias = "Array | pd.DataFrame"
Rows: TypeAlias = "tuple[Inputs, Array]"
"""Inputs and targets of one split."""


def expanded(name: str) -> Path:
    """Return a name as a path, its ``~`` as the home folder, if there is one."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  that of Path raises without a home


@dataclass(frozen=True)
class Request(Generic[A_co]):
    """Everything that a source may depend on.

    Attributes:
        name: catalogue name, path or ``module:function``, as in the study.
        arguments: validated arguments of the dataset.
        targets: what the loss takes.
        folder: folder of the published files of the dataset.
        ignore_index: label of the positions that do not count.
    """

    name: str
    arguments: A_co
    targets: Targets = "classes"
    folder: Path = Path()
    ignore_index: int = IGNORE_INDEX

    @property
    def title(self) -> str:
        """The name for messages."""
        return readable(self.name)

    @property
    def path(self) -> Path:
        """The name as the path of a file or folder, relative to the current folder."""
        return expanded(self.name)


@dataclass(frozen=True)
class Encoded:
    """Inputs as arrays.

    Attributes:
        inputs: array of each split, shape (n, features...).
        numbers: count of leading features to scale; the others are 0 or 1. None to scale all.
        columns: columns of the table, with the use of each.
        notes: sentences for the reader of the results.
    """

    inputs: Mapping[str, Array]
    numbers: int | None = None
    columns: Sequence[Column] = ()
    notes: Sequence[str] = ()


Encoder: TypeAlias = "Callable[[Mapping[str, pd.DataFrame], pd.DataFrame], Encoded]"
"""Encodes the frame of each split with statistics of another frame."""


@dataclass(frozen=True)
class Source:
    """Samples of a file, a function or the catalogue.

    Attributes:
        splits: ``all`` samples; or ``train``, with or without ``validation`` and ``test``.
        groups: one value per sample of ``all``; samples with the same value stay together.
        stratified: the test split of ``all`` keeps the proportions of classes, whatever the
            arguments.
        encoder: encodes inputs that are data frames.
        pixel_maximum: largest possible value of pixels; None for inputs that are not pixels.
        value_names: names of the values to predict.
        class_names: names of the labels 0, 1, ..., if they are known.
        notes: sentences for the reader of the results.
        vocabulary: number of tokens, if inputs are tokens.
        classes: number of classes, if the targets of the training split do not define it.
        text: tokens of the training split of a text; see `optrial.data.Split`.
        bytes_per_token: see `optrial.data.Dataset`.
        token_texts: text of each token, if it is known.
        parts: the inputs that are packed into one array; none for a single input.
    """

    splits: Mapping[str, Rows]
    groups: Array | None = None
    stratified: bool = False
    encoder: Encoder | None = None
    pixel_maximum: int | None = None
    value_names: Sequence[str] = ()
    class_names: Sequence[str] = ()
    notes: Sequence[str] = ()
    vocabulary: int | None = None
    classes: int | None = None
    text: Array | None = None
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    token_texts: Sequence[str] = ()
    parts: tuple[InputPart, ...] = ()
