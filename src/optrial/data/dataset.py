"""Loaded datasets, and the checks that all of them pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.augmentation import Augmentation
from optrial.data.summary import Summary
from optrial.errors import DataError, counted
from optrial.input_parts import InputPart, PackedShape
from optrial.target_kinds import TargetKind, Targets

Array: TypeAlias = NDArray[Any]
"""An array of any type and shape."""

Pair: TypeAlias = tuple[Array, Array]
"""Inputs and targets of one split, as the source holds them."""

_MOST_CLASSES = 2**31

SPLITS = ("train", "validation", "test")


class Batched(NamedTuple):
    """Source of the batches of a training split.

    Attributes:
        size: samples in an epoch.
        stride: places at which a sample may begin, for each sample of an epoch: 1 for samples that
            stay the same; for windows of a text, their distance in an epoch.
    """

    size: int
    stride: int = 1


@dataclass(frozen=True)
class Split:
    """Samples for one purpose.

    Attributes:
        inputs: C-contiguous, shape (n, *input_shape): numbers, float32, or tokens, int64.
        targets: class labels 0, 1, ..., int64, shape (n,) or (n, positions...); or values,
            float32, shape (n, ...). See `optrial.target_kinds.TargetKind`.
        text: tokens, int64, (tokens,), for a training split of a text: the samples of a batch are
            windows that begin anywhere in it, and `inputs` are windows side by side. None for
            samples that stay the same.
    """

    inputs: NDArray[np.float32] | NDArray[np.int64]
    targets: NDArray[np.int64] | NDArray[np.float32]
    text: NDArray[np.int64] | None = None

    @property
    def batched(self) -> Batched:
        """The samples, or places of a text, that batches are drawn from."""
        if self.text is None:
            return Batched(len(self.targets))
        places = len(self.text) - self.inputs.shape[1]
        size = max(1, places // self.inputs.shape[1])
        return Batched(size, places // size)


class TargetScale(NamedTuple):
    """Scale of standardized values, (values,) or another shape that broadcasts over a sample."""

    mean: Array
    std: Array

    def original(self, targets: Array) -> Array:
        """Return standardized values, (n, ...), in their original units, float64."""
        return targets.astype(np.float64) * self.std + self.mean


@dataclass(frozen=True)
class Dataset:
    """Named arrays, scaled and ready for training.

    Attributes:
        name: catalogue name, path or ``module:function``, as in the study.
        splits: ``train``, with or without ``validation`` and ``test``.
        classes: number of outputs that a model needs, per sample or, for labels of positions, per
            position: for labels, the largest label of the training split plus one, or 1 for a
            single logit; for values, their number per sample times that of their quantiles.
        sha256: hash of all arrays as used in training: names, types, shapes and bytes.
        arguments: arguments of the dataset with defaults filled in, as JSON values.
        augmentation: random variation of training batches; None for none.
        notes: sentences about the data for the reader of the results.
        kind: kind of the targets.
        summary: columns, classes and values.
        vocabulary: number of tokens, for inputs that are tokens 0, 1, ...; None for numbers.
        ignored: target of the positions that do not count, if there are any; else None.
        target_scale: mean and standard deviation of values that were standardized, or None.
        bytes_per_token: mean length in UTF-8 of the tokens of each split of a text that are
            predicted, by split; empty for other data.
        token_texts: text of each token; empty if it is not known.
        parts: the inputs that `Split.inputs`, (n, values), holds side by side and models get as a
            mapping; none for a single input.
        folds: the datasets of all folds of a cross-validation, this one the first; empty without.
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
    vocabulary: int | None = None
    ignored: int | None = None
    target_scale: TargetScale | None = None
    bytes_per_token: Mapping[str, float] = field(default_factory=dict)
    token_texts: tuple[str, ...] = ()
    parts: tuple[InputPart, ...] = ()
    folds: tuple[Dataset, ...] = ()

    @property
    def versions(self) -> tuple[Dataset, ...]:
        """The datasets of all folds, or this one alone."""
        return self.folds or (self,)

    def with_sha256(self, sha256: str) -> Dataset | None:
        """Return the version with a hash; None if there is none."""
        return next((version for version in self.versions if version.sha256 == sha256), None)

    def original(self, targets: Array) -> Array:
        """Return targets of a split as they were before standardization."""
        return targets if self.target_scale is None else self.target_scale.original(targets)

    @property
    def regression(self) -> bool:
        """True for values to predict, False for labels of any kind."""
        return self.kind == "values"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (features,), (channels, height, width), (time, features) or, for
        tokens, (time,); of several inputs a `PackedShape`.
        """
        return PackedShape(self.parts) if self.parts else self.splits["train"].inputs.shape[1:]

    @property
    def batched(self) -> Batched:
        """The samples, or places of a text, that batches of the training split are drawn from."""
        return self.splits["train"].batched

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each split."""
        return {name: len(split.targets) for name, split in self.splits.items()}


def fingerprint(splits: Mapping[str, Split], parts: tuple[InputPart, ...] = ()) -> str:
    """Return the sha256 of names, types, shapes and bytes of all splits, in hexadecimal.

    Args:
        splits: the samples.
        parts: the inputs that are packed into one array.
    """
    digest = hashlib.sha256()
    if parts:
        digest.update(json.dumps(parts).encode())
    for name in sorted(splits):
        for part in ("inputs", "targets"):
            array = getattr(splits[name], part)
            digest.update(json.dumps([name, part, array.dtype.str, array.shape]).encode())
            digest.update(array.data)
        if (text := splits[name].text) is not None:
            digest.update(json.dumps([name, "text", text.dtype.str, text.shape]).encode())
            digest.update(text.data)
    return digest.hexdigest()


class Known(NamedTuple):
    """Known properties of the arrays of a dataset, before they are checked.

    Attributes:
        vocabulary: number of tokens, if inputs are tokens.
        classes: number of classes, if the training targets do not define it.
        ignore_index: label of the positions that do not count.
    """

    vocabulary: int | None = None
    classes: int | None = None
    ignore_index: int | None = None


def checked(
    name: str,
    splits: Mapping[str, Pair],
    targets: Targets = "classes",
    known: Known = Known(),  # noqa: B008
) -> dict[str, Pair]:
    """Check that splits can be trained on, and bring their targets to a common form.

    Args:
        name: of the dataset, for the error.
        splits: inputs and targets of each split.
        targets: what the loss takes.
        known: what is known about inputs and labels.

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
            *(_input_problems(x) if known.vocabulary is None else _token_problems(x, known)),
            *_length_problems(x, y),
            *_target_problems(y, kind, targets, known),
        )
    ]
    if not problems:
        splits = {split: (x, _as_kind(y, kind)) for split, (x, y) in splits.items()}
        problems = list(_shape_problems(splits))
    if not problems and kind in ("labels", "positions"):
        problems = list(_class_problems(splits, kind, targets, known))
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


def outputs_needed(
    targets: Array, kind: TargetKind, wanted: Targets, ignore_index: int | None = None
) -> int:
    """Return the number of outputs for checked training targets; see `Dataset.classes`."""
    if kind in ("labels", "positions"):
        return 1 if wanted == "binary" else max(0, _largest(targets, ignore_index)) + 1
    return int(np.prod(targets.shape[1:]))


def ignored_label(splits: Mapping[str, Pair], kind: TargetKind, index: int | None) -> int | None:
    """Return the label of positions that do not count, or None if the targets hold none."""
    if kind != "positions" or index is None:
        return None
    return index if any((labels == index).any() for _, labels in splits.values()) else None


def _largest(labels: Array, ignore_index: int | None) -> int:
    """Return the largest label that counts."""
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    return int(counted.max(initial=-1)) if counted is not labels else int(labels.max())


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


def _token_problems(inputs: Array, known: Known) -> Iterator[str]:
    """Yield the problems of inputs that are tokens."""
    vocabulary = known.vocabulary or 0
    if inputs.dtype.kind not in "iu":
        yield f"inputs are of type {inputs.dtype}; tokens are integers 0, 1, ..."
    elif inputs.ndim < 2 or 0 in inputs.shape:
        yield f"inputs have shape {inputs.shape}; tokens must be (n, time...), with n from 1"
    elif (negative := inputs < 0).any():
        yield f"inputs hold negative tokens: {_count(negative, inputs)}; number tokens from 0"
    elif (beyond := inputs >= vocabulary).any():
        yield (
            f"inputs hold {_count(beyond, inputs)}; the vocabulary has {vocabulary:,} tokens, 0 "
            f"to {vocabulary - 1}: say inputs: {{tokens: {int(inputs.max()) + 1}}}"
        )


def _length_problems(inputs: Array, targets: Array) -> Iterator[str]:
    if inputs.ndim and targets.ndim and len(targets) != len(inputs):
        yield f"has {len(inputs)} inputs and {len(targets)} targets; each input needs one target"


def _target_problems(
    targets: Array, kind: TargetKind, wanted: Targets, known: Known
) -> Iterator[str]:
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
        yield from _label_problems(targets, kind, known)


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


def _label_problems(targets: Array, kind: TargetKind, known: Known) -> Iterator[str]:
    """Yield the problems of labels, one per sample or one per position."""
    ignore_index = known.ignore_index
    if kind == "positions" and (reason := _no_positions(targets, known)):
        yield f"targets have shape {targets.shape}; {reason}"
        return
    with np.errstate(invalid="ignore"):  # the remainder of an infinite label
        bad = ~((targets % 1 == 0) & (targets >= 0) & (targets < _MOST_CLASSES))
    if kind == "positions" and ignore_index is not None:
        out = targets == ignore_index
        bad &= ~out
        nothing = out.reshape(len(out), -1).all(axis=1)
        if nothing.any():
            yield (
                f"targets hold {_counted(nothing)} whose labels are all {ignore_index}, the "
                f"ignore_index, the first sample {int(nothing.argmax())}; leave these samples out"
            )
    elif ignore_index is not None and (targets == ignore_index).any() and ignore_index >= 0:
        yield (
            f"targets hold one label per sample, so ignore_index {ignore_index} would leave whole "
            "samples out; leave them out of the data"
        )
    if bad.any():
        mark = targets[bad][0]
        one_mark = kind == "positions" and ignore_index is not None and (targets[bad] == mark).all()
        yield (
            f"targets hold {_count(bad, targets)}; they must be class labels 0, 1, ..."
            + f"; if {mark} marks positions that do not count, give the loss ignore_index: {mark}"
            * bool(one_mark)
            + _OR_VALUES[kind]
        )


def _no_positions(targets: Array, known: Known) -> str:
    """Return why targets of several dimensions are not labels of positions; "" if they are."""
    if targets.shape[1:] == (1,) and known.classes is None:
        return f"class labels have shape (n,): ravel the column{_OR_VALUES['labels']}"
    if targets.dtype.kind == "f":
        return (
            "floating-point numbers are not labels: give integers, one per position, take the "
            "argmax of one-hot rows, or use a loss for numbers to predict, such as mse"
        )
    of_tokens = known.vocabulary is not None
    if (
        not of_tokens
        and targets.ndim == 2
        and targets.max() <= 1
        and (targets.sum(axis=1) == 1).all()
    ):
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
        "to 2^24: give measurements as floating-point numbers, or tokens with inputs: tokens"
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


def _class_problems(
    splits: Mapping[str, Pair], kind: TargetKind, wanted: Targets, known: Known
) -> Iterator[str]:
    """Yield the problems of labels that the training split does not define."""
    if kind == "positions" and wanted == "any":
        return  # their meaning depends on the user's loss
    ignore_index = None if kind == "labels" else known.ignore_index
    targets = splits["train"][1]
    largest = 1 if wanted == "binary" else _largest(targets, ignore_index)
    if known.classes is not None:
        largest = known.classes - 1
    if kind == "labels" and largest >= len(targets):
        yield (
            f"train targets go up to {largest} with {len(targets)} samples, so some classes have "
            "no samples; number the classes 0, 1, ... without gaps, or, for numbers to predict, "
            "give floating-point numbers and a loss for them, such as mse"
        )
    for split, (_, labels) in splits.items():
        bad = labels > largest
        if ignore_index is not None:
            bad &= labels != ignore_index
        if bad.any():
            yield (
                f"{split} targets hold {_count(bad, labels)}; train targets, which define the "
                f"classes, go from 0 to {largest}"
            )


def _counted(chosen: NDArray[np.bool_]) -> str:
    return counted(int(chosen.sum()), "sample")


def _count(bad: NDArray[np.bool_], values: Array) -> str:
    """Return the number of bad values, with the first one and its place."""
    first = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bad.shape))
    place = f"sample {first[0]}" + (f", position {first[1:]}" if first[1:] else "")
    return f"{int(bad.sum())} bad of {bad.size} values, the first {values[first]} at {place}"
