"""What a loaded dataset is, and the checks that every one of them passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.augmentation import Augmentation
from optrial.errors import DataError

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Inputs and targets of one split, as the source holds them."""

Targets: TypeAlias = Literal["classes", "values"]
"""What a loss takes: labels alone; or values, where the targets are floating-point numbers."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Samples for one purpose.

    Attributes:
        inputs: float32, C-contiguous, shape (n, *input_shape).
        targets: class labels 0, 1, ..., int64, shape (n,); or values to predict, float32,
            shape (n, outputs).
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Named arrays, scaled and ready for training.

    Attributes:
        name: catalogue name, path or ``module:function``, as the study gives it.
        splits: ``train``, and where there is one ``validation`` and ``test``.
        classes: number of classes: the largest label of the source's training split, plus one; for
            regression the number of outputs.
        sha256: of all arrays as training gets them: names, types, shapes and bytes.
        arguments: of the dataset, with their defaults filled in, as JSON has them.
        augmentation: how training batches are varied, and no others; None if they are not.
        notes: what a reader of the results should know about the data, a sentence each.
    """

    name: str
    splits: Mapping[str, Split]
    classes: int
    sha256: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Augmentation | None = None
    notes: tuple[str, ...] = ()

    @property
    def regression(self) -> bool:
        """Whether the targets are values to predict, not class labels."""
        return self.splits["train"].targets.dtype.kind == "f"

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
        targets: with "values", floating-point training targets are values to predict and come back
            as (n, outputs); all others are class labels, (n,).

    Raises:
        DataError: with everything that is wrong: inputs that are not finite numbers, targets that
            are not class labels or finite values, lengths, shapes or labels that do not match.
    """
    splits = {
        split: (as_array(name, split, x), as_array(name, split, y)) for split, (x, y) in raw.items()
    }
    regression = targets == "values" and splits["train"][1].dtype.kind == "f"
    target_problems = _value_problems if regression else _label_problems
    problems = [
        f"{split} {problem}"
        for split, (x, y) in splits.items()
        for problem in (*_input_problems(x), *_length_problems(x, y), *target_problems(y))
    ]
    if regression and not problems:
        splits = {split: (x, y.reshape(len(y), -1)) for split, (x, y) in splits.items()}
        problems = list(_shape_problems(splits))
    elif not problems:
        problems = [*_shape_problems(splits), *_class_problems(splits)]
    if problems:
        raise DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(problems))
    return splits


def as_array(name: str, split: str, values: Any) -> NDArray[Any]:
    """Return the same values as an array; the name of the dataset and the place are for the error.

    Raises:
        DataError: NumPy cannot read them.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with gradient
        raise DataError(
            f"dataset '{name}': what {split} holds cannot be read as an array ({error}); give "
            "NumPy arrays or CPU tensors without gradient"
        ) from error


def _input_problems(inputs: NDArray[Any]) -> Iterator[str]:
    if inputs.dtype.kind not in "biuf":
        yield f"inputs are of type {inputs.dtype}; they must be real numbers"
    elif inputs.ndim < 2 or 0 in inputs.shape:
        yield f"inputs have shape {inputs.shape}; they must be (n, features...), with n from 1"
    elif bad := _not_finite(inputs):
        yield f"inputs hold {bad}"


def _length_problems(inputs: NDArray[Any], targets: NDArray[Any]) -> Iterator[str]:
    if inputs.ndim and targets.ndim and len(targets) != len(inputs):
        yield f"has {len(inputs)} inputs and {len(targets)} targets; each input needs one target"


def _label_problems(targets: NDArray[Any]) -> Iterator[str]:
    wanted = (
        "they must be class labels 0, 1, ...; numbers to predict need a loss for them, such as mse"
    )
    if targets.ndim != 1:
        yield (
            f"targets have shape {targets.shape}; they must be one class label a sample, shape "
            "(n,): ravel a column, take the argmax of one-hot rows; numbers to predict need a loss "
            "for them, such as mse"
        )
    elif targets.dtype.kind not in "biuf":
        yield f"targets are of type {targets.dtype}; {wanted}"
    else:
        with np.errstate(invalid="ignore"):  # the remainder of an infinite label
            bad = ~((targets % 1 == 0) & (targets >= 0))
        if bad.any():
            yield f"targets hold {_count(bad, targets)}; {wanted}"


def _value_problems(targets: NDArray[Any]) -> Iterator[str]:
    if targets.dtype.kind not in "biuf":
        yield f"targets are of type {targets.dtype}; they must be real numbers"
    elif targets.ndim not in (1, 2) or 0 in targets.shape[1:]:
        yield f"targets have shape {targets.shape}; they must be (n,) or (n, outputs)"
    elif bad := _not_finite(targets):
        yield f"targets hold {bad}"


def _not_finite(values: NDArray[Any]) -> str | None:
    """Say which values float32 cannot hold, if any."""
    if values.dtype.kind != "f":
        return None
    # The comparison is false for NaN.
    bad = ~(np.abs(values) <= np.finfo(np.float32).max)
    return f"{_count(bad, values)}; each must be finite as float32" if bad.any() else None


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


def _class_problems(splits: Mapping[str, Pair]) -> Iterator[str]:
    targets = splits["train"][1]
    largest = int(targets.max())
    if largest >= len(targets):
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
