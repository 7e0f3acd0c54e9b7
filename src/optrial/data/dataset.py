"""What a loaded dataset is, and the checks that every one of them passes."""

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

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Inputs and targets of one split, as the source holds them."""

_MOST_CLASSES = 2**31

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Samples for one purpose.

    Attributes:
        inputs: float32, C-contiguous, shape (n, *input_shape).
        targets: class labels 0, 1, ..., int64, shape (n,) or (n, positions...); or numbers,
            float32, shape (n, ...). See `optrial.target_kinds.TargetKind`.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Named arrays, scaled and ready for training.

    Attributes:
        name: catalogue name, path or ``module:function``, as the study gives it.
        splits: ``train``, and where there is one ``validation`` and ``test``.
        classes: number of outputs that a model needs per sample or, where every position has a
            label, per position: the number of classes, which is the largest label of the source's
            training split plus one; 1 for labels of a single logit; the number of values of a
            sample otherwise.
        sha256: of all arrays as training gets them: names, types, shapes and bytes.
        arguments: of the dataset, with their defaults filled in, as JSON has them.
        augmentation: how training batches are varied, and no others; None if they are not.
        notes: what a reader of the results should know about the data, a sentence each.
        kind: what the targets are.
        summary: what it was made from.
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
        """Whether the targets are values to predict, not labels of any kind."""
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
    """Return the sha256 of the splits' names, types, shapes and bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for part in ("inputs", "targets"):
            array = getattr(splits[name], part)
            digest.update(json.dumps([name, part, array.dtype.str, array.shape]).encode())
            digest.update(array.data)
    return digest.hexdigest()


def checked(
    name: str, raw: Mapping[str, tuple[Any, Any]], targets: Targets = "classes"
) -> dict[str, Pair]:
    """Return the splits as arrays that can be trained on.

    Args:
        name: of the dataset, for the error.
        raw: split -> (inputs, targets); anything that `numpy.asarray` takes, CPU tensors included.
        targets: what the loss takes.

    Returns:
        split -> (inputs, targets), the targets in the shape and type of their `target_kind`; values
        keep their own type until they are scaled.

    Raises:
        DataError: with everything that is wrong: inputs that are not finite numbers, targets that
            the loss does not take, lengths, shapes or labels that do not match.
    """
    splits = {
        split: (as_array(name, split, x), as_array(name, split, y)) for split, (x, y) in raw.items()
    }
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
    return splits


def target_kind(targets: NDArray[Any], wanted: Targets) -> TargetKind:
    """Return the kind of training targets for a loss; checked targets keep theirs."""
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


def outputs_needed(targets: NDArray[Any], kind: TargetKind, wanted: Targets) -> int:
    """Return how many outputs a model needs for checked training targets; see `Dataset.classes`."""
    if kind in ("labels", "positions"):
        return 1 if wanted == "binary" else max(0, int(targets.max())) + 1
    return int(np.prod(targets.shape[1:]))


def _as_kind(targets: NDArray[Any], kind: TargetKind) -> NDArray[Any]:
    """Return checked targets in the shape and type of their kind."""
    if kind in ("labels", "positions"):
        return targets.astype(np.int64, copy=False)
    if targets.ndim == 1:
        targets = targets.reshape(-1, 1)
    return targets if targets.dtype.kind == "f" else targets.astype(np.float64)


def as_array(name: str, split: str, values: Any) -> NDArray[Any]:
    """Return the same values as an array; the name of the dataset and the place are for the error.

    Raises:
        DataError: NumPy cannot read them.
    """
    if hasattr(values, "toarray"):
        raise DataError(
            f"dataset '{name}': what {split} holds is a sparse {type(values).__name__}; give a "
            "dense array, as its method toarray() returns"
        )
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with gradient
        raise DataError(
            f"dataset '{name}': what {split} holds cannot be read as an array ({error}); give "
            "NumPy arrays or CPU tensors without gradient"
        ) from error


def _input_problems(inputs: NDArray[Any]) -> Iterator[str]:
    if inputs.dtype.kind not in "biuf":
        mixed = ": encode a data frame first, or name it as a .csv or .parquet file"
        yield (
            f"inputs are of type {inputs.dtype}; they must be real numbers"
            + mixed * (inputs.dtype.kind == "O")
        )
    elif inputs.ndim < 2 or 0 in inputs.shape:
        yield f"inputs have shape {inputs.shape}; they must be (n, features...), with n from 1"
    elif bad := _not_finite(inputs) or _not_exact(inputs):
        yield f"inputs hold {bad}"


def _length_problems(inputs: NDArray[Any], targets: NDArray[Any]) -> Iterator[str]:
    if inputs.ndim and targets.ndim and len(targets) != len(inputs):
        yield f"has {len(inputs)} inputs and {len(targets)} targets; each input needs one target"


def _target_problems(targets: NDArray[Any], kind: TargetKind, wanted: Targets) -> Iterator[str]:
    """Say why the targets of a split are not of a kind."""
    if targets.dtype.kind not in "biuf":
        needed = "real numbers" if kind == "values" else "class labels 0, 1, ..."
        yield f"targets are of type {targets.dtype}; they must be {needed}{_OR_VALUES[kind]}"
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


def _binary_problems(targets: NDArray[Any]) -> Iterator[str]:
    """Say which targets are not probabilities, for a loss that takes 0 and 1."""
    bad = ~((targets >= 0) & (targets <= 1))  # true for NaN
    if bad.any():
        yield (
            f"targets hold {_count(bad, targets)}; bce takes 0 and 1, or probabilities between "
            "them: use cross_entropy for more than two classes"
        )


def _label_problems(targets: NDArray[Any], kind: TargetKind) -> Iterator[str]:
    """Say what is wrong with labels, one per sample or one per position."""
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


def _no_positions(targets: NDArray[Any]) -> str:
    """Say why targets of several dimensions are not labels per position; "" if they are."""
    if targets.shape[1:] == (1,):
        return f"one class label a sample has shape (n,): ravel the column{_OR_VALUES['labels']}"
    if targets.dtype.kind == "f":
        return (
            "floating-point numbers are not labels: give integers, one per position, take the "
            "argmax of one-hot rows, or use a loss for numbers to predict, such as mse"
        )
    if targets.ndim == 2 and targets.max() <= 1 and (targets.sum(axis=1) == 1).all():
        return "these are one-hot rows: take the argmax of one-hot rows, shape (n,)"
    return ""


def _not_finite(values: NDArray[Any]) -> str | None:
    """Say which values float32 cannot hold, if any."""
    if values.dtype.kind != "f":
        return None
    # The comparison is false for NaN.
    bad = ~(np.abs(values) <= np.finfo(np.float32).max)
    return f"{_count(bad, values)}; each must be finite as float32" if bad.any() else None


def _not_exact(values: NDArray[Any]) -> str | None:
    """Say which whole numbers float32 would round, such as large token numbers."""
    if values.dtype.kind not in "iu":
        return None
    if max(int(values.max()), -int(values.min())) <= 2**24:
        return None
    bad = values.astype(np.float32).astype(np.float64) != values.astype(np.float64)
    if not bad.any():
        return None
    return (
        f"{_count(bad, values)}; inputs are kept as float32, which is exact for whole numbers up "
        "to 2^24 only: number tokens from 0, or give measurements as floating-point numbers"
    )


def _shape_problems(splits: Mapping[str, Pair]) -> Iterator[str]:
    for split, arrays in splits.items():
        for part, array, of_train in zip(
            ("inputs", "targets"), arrays, splits["train"], strict=True
        ):
            if array.shape[1:] != of_train.shape[1:]:
                yield (
                    f"{split} {part} have shape {array.shape[1:]} a sample, train {part} "
                    f"{of_train.shape[1:]}; all splits need the same"
                )


def _class_problems(splits: Mapping[str, Pair], kind: TargetKind, wanted: Targets) -> Iterator[str]:
    """Say which labels the training split does not define."""
    if kind == "positions" and wanted == "any":
        return  # only the user's loss knows their meaning
    targets = splits["train"][1]
    largest = 1 if wanted == "binary" else int(targets.max())
    if kind == "labels" and largest >= len(targets):
        yield (
            f"train targets go up to {largest} with {len(targets)} samples, so that some classes "
            "have none; number the classes 0, 1, ... without gaps, or, if they are numbers to "
            "predict, give floating-point numbers and a loss for them, such as mse"
        )
    for split, (_, labels) in splits.items():
        bad = labels > largest
        if bad.any():
            yield (
                f"{split} targets hold {_count(bad, labels)}; train targets, which define the "
                f"classes, go from 0 to {largest}"
            )


def _count(bad: NDArray[np.bool_], values: NDArray[Any]) -> str:
    """Say how many values are bad, and where and what the first is."""
    first = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bad.shape))
    place = f"sample {first[0]}" + (f", position {first[1:]}" if first[1:] else "")
    return f"{int(bad.sum())} bad of {bad.size} values, the first {values[first]} at {place}"
