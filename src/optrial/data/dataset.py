"""Loaded datasets, and the checks that all of them pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.augmentation import Augmentation
from optrial.data.summary import Summary
from optrial.errors import DataError
from optrial.target_kinds import TargetKind, Targets

Array: TypeAlias = NDArray[Any]
"""An array of any type and shape."""

Pair: TypeAlias = tuple[Array, Array]
"""Inputs and targets of one split, as the source holds them."""

_MOST_CLASSES = 2**31

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Samples for one purpose.

    Attributes:
        inputs: float32, C-contiguous, shape (n, *input_shape).
        targets: class labels 0, 1, ..., int64, shape (n,) or (n, positions...); or values,
            float32, shape (n, ...). See `optrial.target_kinds.TargetKind`.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Named arrays, scaled and ready for training.

    Attributes:
        name: catalogue name, path or ``module:function``, as in the study.
        splits: ``train``, with or without ``validation`` and ``test``.
        classes: number of outputs that a model needs, per sample or, for labels of positions, per
            position: for labels, the largest label of the training split plus one, or 1 for a
            single logit; for values, their number per sample.
        sha256: hash of all arrays as used in training: names, types, shapes and bytes.
        arguments: arguments of the dataset with defaults filled in, as JSON values.
        augmentation: random variation of training batches; None for none.
        notes: sentences about the data for the reader of the results.
        kind: kind of the targets.
        summary: columns, classes and values.
    """

    name: str
    splits: Mapping[str, Split]
    classes: int
    sha256: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Augmentation | None = None
    notes: tuple[str, ...] = ()
    kind: TargetKind = "labels"
    summary: Summary = field(default_factory=Summary)

    @property
    def regression(self) -> bool:
        """True for values to predict, False for labels of any kind."""
        return self.kind == "values"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (features,), (channels, height, width) or (time, features)."""
        return self.splits["train"].inputs.shape[1:]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each split."""
        return {name: len(split.targets) for name, split in self.splits.items()}


def fingerprint(splits: Mapping[str, Split]) -> str:
    """Return the sha256 of names, types, shapes and bytes of all splits, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for part in ("inputs", "targets"):
            array = getattr(splits[name], part)
            digest.update(json.dumps([name, part, array.dtype.str, array.shape]).encode())
            digest.update(array.data)
    return digest.hexdigest()


def checked(name: str, splits: Mapping[str, Pair], targets: Targets = "classes") -> dict[str, Pair]:
    """Check that splits can be trained on, and bring their targets to a common form.

    Args:
        name: of the dataset, for the error.
        splits: inputs and targets of each split.
        targets: what the loss takes.

    Returns:
        the same splits, with targets in the shape and type of their `target_kind`; values keep
        their type until they are scaled.

    Raises:
        DataError: with all problems: inputs that are not finite numbers, targets that the loss
            does not take, lengths, shapes or labels that do not match.
    """
    kind = target_kind(splits["train"][1], targets)
    problems = [
        f"{split} {problem}"
        for split, (x, y) in splits.items()
        for problem in (
            *_input_problems(x),
            *_length_problems(x, y),
            *_target_problems(y, kind, targets),
        )
    ]
    if not problems:
        splits = {split: (x, _as_kind(y, kind)) for split, (x, y) in splits.items()}
        problems = list(_shape_problems(splits))
    if not problems and kind in ("labels", "positions"):
        problems = list(_class_problems(splits, kind, targets))
    if problems:
        raise DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(problems))
    return dict(splits)


def target_kind(targets: Array, wanted: Targets) -> TargetKind:
    """Return the kind of training targets, given which targets the loss takes."""
    several = targets.ndim > 1
    match wanted:
        case "classes":
            return "positions" if several else "labels"
        case "binary":
            if targets.dtype.kind == "f" and not np.isin(targets, (0, 1)).all():
                return "values"
            return "multilabel" if several else "labels"
        case "values":
            return "values"
        case "any":
            if targets.dtype.kind == "f":
                return "values"
            return "positions" if several else "labels"


def outputs_needed(targets: Array, kind: TargetKind, wanted: Targets) -> int:
    """Return the number of outputs for checked training targets; see `Dataset.classes`."""
    if kind in ("labels", "positions"):
        return 1 if wanted == "binary" else max(0, int(targets.max())) + 1
    return int(np.prod(targets.shape[1:]))


def _as_kind(targets: Array, kind: TargetKind) -> Array:
    """Return checked targets in the shape and type of their kind."""
    if kind in ("labels", "positions"):
        return targets.astype(np.int64, copy=False)
    if targets.ndim == 1:
        targets = targets.reshape(-1, 1)
    return targets if targets.dtype.kind == "f" else targets.astype(np.float64)


def _input_problems(inputs: Array) -> Iterator[str]:
    if inputs.dtype.kind not in "biuf":
        yield f"inputs are of type {inputs.dtype}; they must be real numbers"
    elif inputs.ndim < 2 or 0 in inputs.shape:
        yield f"inputs have shape {inputs.shape}; they must be (n, features...), with n from 1"
    elif bad := _not_finite(inputs) or _not_exact(inputs):
        yield f"inputs hold {bad}"


def _length_problems(inputs: Array, targets: Array) -> Iterator[str]:
    if inputs.ndim and targets.ndim and len(targets) != len(inputs):
        yield f"has {len(inputs)} inputs and {len(targets)} targets; each input needs one target"


def _target_problems(targets: Array, kind: TargetKind, wanted: Targets) -> Iterator[str]:
    """Yield the reasons why the targets of a split are not of a kind."""
    if targets.dtype.kind not in "biuf":
        needed = "real numbers" if kind == "values" else "class labels 0, 1, ..."
        odd = [value for value in targets.ravel() if not isinstance(value, str)]
        such = f", such as {odd[0]!r}" if targets.dtype.kind == "O" and odd else ""
        yield f"targets are of type {targets.dtype}{such}; they must be {needed}{_OR_VALUES[kind]}"
    elif targets.ndim == 0 or 0 in targets.shape[1:]:
        yield f"targets have shape {targets.shape}; they must be (n,) or (n, ...)"
    elif wanted == "binary":
        yield from _binary_problems(targets)
    elif kind == "values":
        if bad := _not_finite(targets):
            yield f"targets hold {bad}"
    elif kind == "labels" or wanted == "classes":
        yield from _label_problems(targets, kind)


_OR_VALUES: Mapping[TargetKind, str] = {
    "labels": "; numbers to predict need a loss for them, such as mse",
    "positions": "; numbers to predict need a loss for them, such as mse",
    "multilabel": "",
    "values": "",
}


def _binary_problems(targets: Array) -> Iterator[str]:
    """Yield an error for targets that are not probabilities, if the loss takes 0 and 1."""
    bad = ~((targets >= 0) & (targets <= 1))  # true for NaN
    if bad.any():
        yield (
            f"targets hold {_count(bad, targets)}; bce takes 0 and 1, or probabilities between "
            "them: use cross_entropy for more than two classes"
        )


def _label_problems(targets: Array, kind: TargetKind) -> Iterator[str]:
    """Yield the problems of labels, one per sample or one per position."""
    if kind == "positions" and (reason := _no_positions(targets)):
        yield f"targets have shape {targets.shape}; {reason}"
        return
    with np.errstate(invalid="ignore"):  # the remainder of an infinite label
        bad = ~((targets % 1 == 0) & (targets >= 0) & (targets < _MOST_CLASSES))
    if bad.any():
        yield (
            f"targets hold {_count(bad, targets)}; they must be class labels 0, 1, ..."
            + _OR_VALUES[kind]
        )


def _no_positions(targets: Array) -> str:
    """Return why targets of several dimensions are not labels of positions; "" if they are."""
    if targets.shape[1:] == (1,):
        return f"class labels have shape (n,): ravel the column{_OR_VALUES['labels']}"
    if targets.dtype.kind == "f":
        return (
            "floating-point numbers are not labels: give integers, one per position, take the "
            "argmax of one-hot rows, or use a loss for numbers to predict, such as mse"
        )
    if targets.ndim == 2 and targets.max() <= 1 and (targets.sum(axis=1) == 1).all():
        return "take the argmax of one-hot rows, which has shape (n,)"
    return ""


def _not_finite(values: Array) -> str | None:
    """Return a description of the values beyond float32; None if all are finite."""
    if values.dtype.kind != "f":
        return None
    # The comparison is false for NaN.
    bad = ~(np.abs(values) <= np.finfo(np.float32).max)
    return f"{_count(bad, values)}; each must be finite as float32" if bad.any() else None


def _not_exact(values: Array) -> str | None:
    """Return a description of the whole numbers that float32 would round; None for none."""
    if values.dtype.kind not in "iu":
        return None
    if max(int(values.max()), -int(values.min())) <= 2**24:
        return None
    bad = values.astype(np.float32).astype(np.float64) != values.astype(np.float64)
    if not bad.any():
        return None
    return (
        f"{_count(bad, values)}; inputs become float32, which is exact for whole numbers only up "
        "to 2^24: number tokens from 0, or give measurements as floating-point numbers"
    )


def _shape_problems(splits: Mapping[str, Pair]) -> Iterator[str]:
    for split, arrays in splits.items():
        for part, array, of_train in zip(
            ("inputs", "targets"), arrays, splits["train"], strict=True
        ):
            if array.shape[1:] != of_train.shape[1:]:
                yield (
                    f"{split} {part} have shape {array.shape[1:]} per sample, train {part} "
                    f"{of_train.shape[1:]}; all splits need the same shape"
                )


def _class_problems(splits: Mapping[str, Pair], kind: TargetKind, wanted: Targets) -> Iterator[str]:
    """Yield the problems of labels that the training split does not define."""
    if kind == "positions" and wanted == "any":
        return  # their meaning depends on the user's loss
    targets = splits["train"][1]
    largest = 1 if wanted == "binary" else int(targets.max())
    if kind == "labels" and largest >= len(targets):
        yield (
            f"train targets go up to {largest} with {len(targets)} samples, so some classes have "
            "no samples; number the classes 0, 1, ... without gaps, or, for numbers to predict, "
            "give floating-point numbers and a loss for them, such as mse"
        )
    for split, (_, labels) in splits.items():
        bad = labels > largest
        if bad.any():
            yield (
                f"{split} targets hold {_count(bad, labels)}; train targets, which define the "
                f"classes, go from 0 to {largest}"
            )


def _count(bad: NDArray[np.bool_], values: Array) -> str:
    """Return the number of bad values, with the first one and its place."""
    first = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bad.shape))
    place = f"sample {first[0]}" + (f", position {first[1:]}" if first[1:] else "")
    return f"{int(bad.sum())} bad of {bad.size} values, the first {values[first]} at {place}"
