"""Objects of a program -> splits of arrays: mappings, tuples and torch datasets.

PyTorch is not imported: a torch `Dataset` is told by what it can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import SPLITS, Pair, as_array
from optrial.errors import USER_CODE_ERRORS, DataError, one_line

_FORMS = (
    '{"train": (inputs, targets), "test": (inputs, targets)}, "validation" optional, or '
    "(inputs, targets), or (x_train, y_train, x_test, y_test); a torch Dataset may stand for any "
    "(inputs, targets)"
)


def split_objects(name: str, raw: Any) -> dict[str, Pair]:
    """Sort what a program holds into splits.

    Args:
        name: of the dataset, for the error.
        raw: a mapping from split to pair; one pair; two of them or four arrays, for train and test,
            as ``((x_train, y_train), (x_test, y_test))`` or ``(x_train, y_train, x_test, y_test)``.
            A pair is (inputs, targets) or a torch `Dataset`, each sample of which, (input, target),
            is read once.

    Returns:
        split -> (inputs, targets), or ``all`` of them where there are no splits.

    Raises:
        DataError: it is something else, or a sample of a torch `Dataset` cannot be read, is no pair
            or differs in shape or type from the first.
    """
    if not isinstance(raw, Mapping):
        parts = _in_order(raw)
        found = f"a {type(raw).__name__}"
    else:
        parts = {split: raw[split] for split in SPLITS if split in raw}
        found = f"the splits {', '.join(map(str, raw)) or 'none'}"
        if "train" not in raw or len(parts) < len(raw):
            parts = {}
    odd = [split for split, part in parts.items() if not (_has_samples(part) or _is_pair(part))]
    if not parts or odd:
        found = f"no pair for {', '.join(odd)}" if odd else found
        raise DataError(f"dataset '{name}' gives {found}; it must give {_FORMS}")
    _check_columns(name, parts)
    return {
        split: _pair(name, "it" if split == "all" else split, part) for split, part in parts.items()
    }


def _check_columns(name: str, parts: Mapping[str, Any]) -> None:
    """Refuse data frames whose columns differ, in names or in order, from those of train."""
    columns = {
        split: [list(getattr(side, "columns", ())) for side in part]
        for split, part in parts.items()
        if _is_pair(part)
    }
    for split, sides in columns.items():
        for of_train, of_split in zip(columns.get("train", sides), sides, strict=True):
            if of_train and of_split and of_train != of_split:
                raise DataError(
                    f"dataset '{name}': {split} has the columns {of_split}, train {of_train}; "
                    "give both the same columns in the same order"
                )


def _in_order(raw: Any) -> dict[str, Any]:
    """Name the parts of what has no names; none if it has no form that is known."""
    if _has_samples(raw):
        return {"all": raw}
    match raw:
        case [train, test] if all(_is_split(part) for part in (train, test)):
            return {"train": train, "test": test}
        case [_, _]:
            return {"all": raw}
        case [x_train, y_train, x_test, y_test]:
            return {"train": (x_train, y_train), "test": (x_test, y_test)}
    return {}


def _is_split(value: Any) -> bool:
    """Tell the split of a pair of splits from the inputs of (inputs, targets), maybe a list."""
    return _has_samples(value) or (isinstance(value, tuple) and len(value) == 2)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _has_samples(value: Any) -> bool:
    """Whether a value is a torch `Dataset`, or as good as one: no array, no collection."""
    can = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return can and not (
        hasattr(value, "__array__") or isinstance(value, tuple | list | Mapping | str)
    )


def _pair(name: str, split: str, part: Any) -> Pair:
    if _has_samples(part):
        return _read(name, split, part)
    inputs, targets = part
    return as_array(name, split, inputs), as_array(name, split, targets)


def _read(name: str, split: str, samples: Any) -> Pair:
    """Read all samples of a torch `Dataset` into two arrays, each once and in order."""
    if len(samples) == 0:
        raise DataError(f"dataset '{name}': {split} holds no samples; give one or more")
    first = _sample(name, split, samples, 0)
    inputs, targets = (np.empty((len(samples), *part.shape), part.dtype) for part in first)
    inputs[0], targets[0] = first
    for index in range(1, len(samples)):
        sample = _sample(name, split, samples, index)
        for kind, part, array in zip(
            ("an input", "a target"), sample, (inputs, targets), strict=True
        ):
            if (part.shape, part.dtype) != (array.shape[1:], array.dtype):
                raise DataError(
                    f"dataset '{name}': sample {index} of {split} has {kind} of shape {part.shape} "
                    f"and type {part.dtype}, sample 0 of {array.shape[1:]} and {array.dtype}; "
                    "bring all to one shape and type"
                )
            array[index] = part
    return inputs, targets


def _sample(name: str, split: str, samples: Any, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    place = f"dataset '{name}': sample {index} of {split}"
    try:
        sample = samples[index]
    except USER_CODE_ERRORS as error:
        raise DataError(
            f"{place} cannot be read ({one_line(error)}); correct the Dataset"
        ) from error
    if not _is_pair(sample):
        raise DataError(f"{place} is a {type(sample).__name__}; it must be (input, target)")
    for part in sample:
        if type(part).__module__.partition(".")[0] == "PIL":
            raise DataError(
                f"{place} holds a picture; give its Dataset a transform to a tensor, such as "
                "torchvision's ToTensor()"
            )
    inputs, targets = sample
    return as_array(name, split, inputs), as_array(name, split, targets)
