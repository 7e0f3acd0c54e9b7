"""Class labels in any form as 0, 1, ...: text, other numbers, columns, one-hot rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optrial.data.dataset import Array
from optrial.data.source import Rows
from optrial.errors import DataError, counted
from optrial.target_kinds import Targets

_SHOWN = 6
_LARGEST = 2**53  # from here on, float64 does not hold every whole number
_FEW = 10  # this many classes are plausible, however few the samples


@dataclass(frozen=True)
class Numbered:
    """Splits whose labels are 0, 1, ... if they could be numbered.

    Attributes:
        splits: inputs, unchanged, and targets.
        names: names of the labels; empty if the targets were 0, 1, ... or are not labels.
        notes: sentences on the changes.
    """

    splits: Mapping[str, Rows]
    names: Sequence[str] = ()
    notes: Sequence[str] = ()


def number_labels(
    place: str, splits: Mapping[str, Rows], wanted: Targets, insisted: bool
) -> Numbered:
    """Number the classes of the training split in sorted order.

    A column (n, 1) becomes (n,); one-hot rows become the index of their 1. Targets that are not
    labels are returned unchanged, and `optrial.data.dataset.checked` refuses them.

    Args:
        place: origin of the samples, to begin the error.
        splits: samples before validation is held out.
        wanted: targets that the loss takes. For "binary", rows of 0 and 1 are several labels, and
            labels of more or fewer than two classes stay. For "any", numbers stay, because their
            meaning depends on the user's loss.
        insisted: treat numbers as labels even if nearly all of them differ.

    Raises:
        DataError: another split has a class without training samples, or there are nearly as many
            classes as samples.
    """
    if any(np.shape(x)[:1] != y.shape[:1] or not y.ndim for x, y in splits.values()):
        return Numbered(splits)
    flat = {split: labels for split, (_, labels) in splits.items()}
    targets, notes = _flat(flat) if wanted == "classes" else (flat, [])
    texts = all(_is_text(labels) for labels in targets.values())
    if wanted == "any" and not texts:
        return Numbered(splits)
    if texts:
        targets = {split: _text(place, split, labels) for split, labels in targets.items()}
    numbered = {split: (inputs, targets[split]) for split, (inputs, _) in splits.items()}
    if not texts and not _are_whole(list(targets.values())):
        return Numbered(numbered, notes=notes)
    classes = np.unique(targets["train"])
    if wanted == "binary" and not texts and (len(classes) != 2 or np.array_equal(classes, (0, 1))):
        return Numbered(numbered)
    _check_classes(place, classes, targets, insisted)
    if len(classes) == 1 and wanted == "classes":
        notes = [*notes, f"all training samples are of the class {classes[0]}: nothing to learn"]
    if not texts and np.array_equal(classes, np.arange(len(classes))):
        return Numbered(numbered, notes=notes)
    coded = {split: np.searchsorted(classes, labels) for split, labels in targets.items()}
    numbered = {split: (inputs, coded[split]) for split, (inputs, _) in splits.items()}
    names = tuple(str(value) if texts else str(int(value)) for value in classes)
    if not texts:
        notes = [*notes, f"labels {_listed(names)} are numbered 0 to {len(names) - 1}"]
    return Numbered(numbered, names, notes)


def _flat(targets: Mapping[str, Array]) -> tuple[dict[str, Array], list[str]]:
    """Return columns (n, 1) and one-hot rows as labels, shape (n,)."""
    if all(labels.ndim == 2 and labels.shape[1] == 1 for labels in targets.values()):
        return {split: labels[:, 0] for split, labels in targets.items()}, []
    widths = {labels.shape[1:] for labels in targets.values()}
    if len(widths) == 1 and all(map(_is_one_hot, targets.values())):
        flat = {split: labels.argmax(axis=1) for split, labels in targets.items()}
        return flat, [f"one-hot targets are read as {targets['train'].shape[1]} classes"]
    return dict(targets), []


def _is_one_hot(labels: Array) -> bool:
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    ones = labels == 1
    return bool((ones | (labels == 0)).all() and (ones.sum(axis=1) == 1).all())


def _is_text(labels: Array) -> bool:
    if labels.ndim != 1:
        return False
    of_objects = labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)
    return labels.dtype.kind in "UST" or of_objects


def _text(place: str, split: str, labels: Array) -> Array:
    """Return labels as text.

    Raises:
        DataError: bytes are not text in UTF-8.
    """
    if labels.dtype.kind != "S":
        return labels.astype(str)
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError as error:
        label = repr(error.object)
        raise DataError(
            f"{place}: {split} targets hold {label}, which is not text in UTF-8; save the labels "
            "as text or whole numbers"
        ) from error


def _are_whole(targets: Sequence[Array]) -> bool:
    """Return whether the labels of all splits are whole numbers that can be told apart."""
    if any(y.ndim != 1 or y.dtype.kind not in "biuf" or not len(y) for y in targets):
        return False
    if np.result_type(*targets).kind in "biu":
        return True
    with np.errstate(invalid="ignore"):  # the remainder of an infinite label
        return all(((y % 1 == 0) & (np.abs(y.astype(float)) < _LARGEST)).all() for y in targets)


def _check_classes(
    place: str, classes: Array, targets: Mapping[str, Array], insisted: bool
) -> None:
    samples = len(targets["train"])
    if not insisted and len(classes) > max(_FEW, samples / 2):
        raise DataError(
            f"{place}: train targets hold {len(classes):,} different labels in {samples:,} "
            "samples; numbers to predict need a loss for them, such as mse; if they are classes, "
            "give targets: labels"
        )
    for split, labels in targets.items():
        unseen = labels[~np.isin(labels, classes)]
        if len(unseen):
            shown = _listed([str(label) for label in np.unique(unseen)])
            raise DataError(
                f"{place}: {split} has {counted(len(unseen), 'sample')} of classes without "
                f"training samples: {shown}; leave them out, or add training samples of these "
                "classes (split: stratified keeps a share of each class in every split)"
            )


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= _SHOWN else [*names[: _SHOWN - 2], "...", names[-1]]
    return ", ".join(shown)
