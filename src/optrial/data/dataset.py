"""What a loaded dataset is, and the checks that every one of them passes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.errors import DataError

Pair: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Inputs and targets of one split, as the source holds them."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Samples for one purpose.

    Attributes:
        inputs: float32, C-contiguous, shape (n, *input_shape).
        targets: class labels 0, 1, ..., int64, shape (n,).
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Named arrays, scaled and ready for training.

    Attributes:
        name: catalogue name, path or ``module:function``, as the study gives it.
        splits: ``train``, and where there is one ``validation`` and ``test``.
        classes: number of classes: the largest label of the source's training split, plus one.
        sha256: of all arrays as training gets them: names, types, shapes and bytes.
    """

    name: str
    splits: Mapping[str, Split]
    classes: int
    sha256: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (features,) or (channels, height, width)."""
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


def checked(name: str, raw: Mapping[str, tuple[Any, Any]]) -> dict[str, Pair]:
    """Return the splits as arrays that can be trained on.

    Args:
        name: of the dataset, for the error.
        raw: split -> (inputs, targets); anything that `numpy.asarray` takes, CPU tensors included.

    Raises:
        DataError: with everything that is wrong: inputs that are not finite numbers, targets that
            are not class labels, lengths, shapes or labels that do not match.
    """
    splits = {
        split: (_array(name, split, x), _array(name, split, y)) for split, (x, y) in raw.items()
    }
    problems = [
        f"{split} {problem}"
        for split, (inputs, targets) in splits.items()
        for problem in (*_input_problems(inputs), *_target_problems(targets, inputs))
    ]
    problems = problems or list(_disagreements(splits))
    if problems:
        raise DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(problems))
    return splits


def _array(name: str, split: str, values: Any) -> NDArray[Any]:
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
    elif inputs.dtype.kind == "f":
        # The comparison is false for NaN, and also catches what float32 cannot hold.
        bad = ~(np.abs(inputs) <= np.finfo(np.float32).max)
        if bad.any():
            yield f"inputs hold {_count(bad, inputs)}; each must be finite as float32"


def _target_problems(targets: NDArray[Any], inputs: NDArray[Any]) -> Iterator[str]:
    if targets.ndim != 1:
        yield (
            f"targets have shape {targets.shape}; they must be one class label a sample, shape "
            "(n,): ravel a column, take the argmax of one-hot rows"
        )
    elif inputs.ndim and len(targets) != len(inputs):
        yield f"has {len(inputs)} inputs and {len(targets)} targets; each input needs one target"
    elif targets.dtype.kind not in "biuf":
        yield f"targets are of type {targets.dtype}; they must be class labels 0, 1, ..."
    else:
        with np.errstate(invalid="ignore"):  # the remainder of an infinite label
            bad = ~((targets % 1 == 0) & (targets >= 0))
        if bad.any():
            yield f"targets hold {_count(bad, targets)}; they must be class labels 0, 1, ..."


def _disagreements(splits: Mapping[str, Pair]) -> Iterator[str]:
    inputs, targets = splits["train"]
    largest = int(targets.max())
    if largest >= len(targets):
        yield (
            f"train targets go up to {largest} with {len(targets)} samples, so that some classes "
            "have none; number the classes 0, 1, ... without gaps"
        )
    for split, (others, labels) in splits.items():
        if others.shape[1:] != inputs.shape[1:]:
            yield (
                f"{split} inputs have shape {others.shape[1:]} a sample, train inputs "
                f"{inputs.shape[1:]}; all splits need the same"
            )
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
