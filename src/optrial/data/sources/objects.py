"""Objects of the user: mappings, tuples and torch datasets, or a function that returns them.

PyTorch is not imported: a torch `Dataset` is recognised by its methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Sized
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np

from optrial.code import importable_from_here, load_code
from optrial.data.arguments import FunctionArguments
from optrial.data.dataset import SPLITS, Array
from optrial.data.packing import Named, PackedSplits, pack_splits
from optrial.data.source import Request, Source
from optrial.data.sources.layout import with_channels
from optrial.errors import USER_CODE_ERRORS, DataError, listed, one_line

_FORMS = (
    '{"train": (inputs, targets), "test": (inputs, targets)}, "validation" optional, or '
    "(inputs, targets), or (x_train, y_train, x_test, y_test); a torch Dataset may stand for any "
    "(inputs, targets), and a Bunch of scikit-learn for all samples; inputs may be a mapping of "
    "arrays by name"
)
_AS_TABLE = (
    'or write the frame and its target by to_csv("table.csv") and use the data {"name": '
    '"table.csv", "target": COLUMN}, which encodes text and fills in missing values'
)


_READ_TWICE = 8
"""Samples that show whether a `Dataset` draws random numbers."""


class _Key(NamedTuple):
    """A part of a sample.

    Attributes:
        text: for messages.
        name: of one of several inputs.
    """

    text: str
    name: str = ""

    def __str__(self) -> str:
        return self.text


_INPUT, _TARGET = _Key("an input"), _Key("a target")


class _Samples(Protocol):
    """A torch `Dataset` of known length, as far as it is used here."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def call_function(request: Request[FunctionArguments]) -> Source:
    """Import ``module:function``, from the current folder too, and call it.

    Returns:
        the splits of the result; see `split_objects`.

    Raises:
        DataError: the function cannot be imported, does not take the arguments, raises an error or
            returns something else.
    """
    arguments, keywords = request.arguments, request.arguments.keywords
    place = f"dataset '{request.title}'"
    try:
        function = load_code(request.name)
    except ImportError as error:
        raise DataError(f"dataset {error}") from error
    try:
        signature = inspect.signature(function)
        signature.bind(**keywords)
    except (TypeError, ValueError) as error:
        raise DataError(f"{place} cannot be called: {error}; change its arguments") from error
    reserved = arguments.model_fields_set & set(signature.parameters) - set(keywords)
    if reserved:
        raise DataError(
            f"{place} has a parameter '{min(reserved)}', which is a key of every dataset and not "
            "passed on; rename the parameter"
        )
    try:
        with importable_from_here():
            result = function(**keywords)
    except USER_CODE_ERRORS as error:
        raise DataError(
            f"{place} raised {one_line(error)}; correct the function or its arguments"
        ) from error
    objects = split_objects(request.title, result)
    if objects.parts:
        return Source(objects.splits, parts=objects.parts)
    return with_channels(place, Source(objects.splits), None)


def split_objects(name: str, raw: object) -> PackedSplits:
    """Sort objects of a program into splits of arrays.

    Args:
        name: of the dataset, for the error.
        raw: what this function returns; or a mapping from split to pair; one pair; two pairs or
            four arrays of train and test, ``((x_train, y_train), (x_test, y_test))`` or
            ``(x_train, y_train, x_test, y_test)``. A pair is (inputs, targets) or a torch
            `Dataset`, whose samples (input, target) are read once. A `Bunch` of scikit-learn is the
            pair of its data and target. Inputs may be a mapping of arrays by name.

    Raises:
        DataError: the objects have another form, or a sample of a torch `Dataset` cannot be read,
            is not a pair, differs in shape or type from the first, or from itself when it is read
            again.
    """
    if isinstance(raw, PackedSplits):
        return raw
    if isinstance(raw, Mapping) and {"data", "target"} <= raw.keys():
        raw = (raw["data"], raw["target"])
    if not isinstance(raw, Mapping):
        parts = _in_order(raw)
        form = f"a {type(raw).__name__}"
    else:
        parts = {split: raw[split] for split in SPLITS if split in raw}
        form = f"the splits {', '.join(map(str, raw)) or 'none'}"
        if "train" not in raw or len(parts) < len(raw):
            parts = {}
    if not parts:
        ways_out = f"; give (frame.drop(columns=TARGET), frame[TARGET]), {_AS_TABLE}"
        raise DataError(
            f"dataset '{name}' gives {form}"
            + (ways_out if hasattr(raw, "to_csv") else f"; it must give {_FORMS}")
        )
    _check_columns(name, parts)
    pairs = {
        split: _pair(name, "the data" if split == "all" else split, part)
        for split, part in parts.items()
    }
    return pack_splits(f"dataset '{name}'", pairs)


def _in_order(raw: object) -> dict[str, object]:
    """Name the parts of a sequence; empty for an unknown form."""
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


def _is_split(value: object) -> bool:
    """Return whether a value is a split, unlike the inputs of (inputs, targets)."""
    return _has_samples(value) or (isinstance(value, tuple) and len(value) == 2)


def _is_pair(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, tuple | list) and len(value) == 2


def _has_samples(value: object) -> TypeGuard[_Samples]:
    """Return whether a value is a torch `Dataset` or behaves like one: no array, no collection."""
    return (
        isinstance(value, Sized)
        and hasattr(value, "__getitem__")
        and not hasattr(value, "__array__")
        and not isinstance(value, tuple | list | Mapping | str)
    )


def _check_columns(name: str, parts: Mapping[str, object]) -> None:
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


def _pair(name: str, split: str, part: object) -> tuple[Array | Named, Array]:
    if _has_samples(part):
        return _read(name, split, part)
    if not _is_pair(part):
        raise DataError(f"dataset '{name}' gives no pair for {split}; it must give {_FORMS}")
    inputs, targets = part
    if isinstance(inputs, Mapping):
        named = {
            str(key): _array(name, f"the input '{key}' of {split}", value)
            for key, value in inputs.items()
        }
        return named, _array(name, split, targets)
    if hasattr(inputs, "columns") and hasattr(inputs, "items"):
        inputs = _of_frame(name, split, dict(inputs.items()))
    return _array(name, split, inputs), _array(name, split, targets)


def _of_frame(name: str, split: str, columns: Mapping[object, object]) -> Array:
    """Return the columns of a data frame as one array; refuse text and missing values."""
    arrays = {str(label): np.asarray(column) for label, column in columns.items()}
    texts = [label for label, array in arrays.items() if array.dtype.kind not in "biuf"]
    if texts:
        raise DataError(
            f"dataset '{name}': inputs of {split} must be real numbers; the columns "
            f"{listed(texts)} are not: encode them, such as by pandas.get_dummies(frame), "
            f"{_AS_TABLE}"
        )
    gaps = [label for label, array in arrays.items() if np.isnan(array).any()]
    if gaps:
        raise DataError(
            f"dataset '{name}': inputs of {split} have missing values in the columns "
            f"{listed(gaps)}; fill them in, such as by frame.fillna(frame.median()), {_AS_TABLE}"
        )
    return np.stack(list(arrays.values()), axis=1) if arrays else np.empty((0, 0))


def _array(name: str, split: str, values: object) -> Array:
    """Return values as an array.

    Raises:
        DataError: NumPy cannot read them.
    """
    if hasattr(values, "toarray"):
        raise DataError(
            f"dataset '{name}': {split} holds a sparse {type(values).__name__}; give a dense "
            "array, as its method toarray() returns"
        )
    if np.ma.is_masked(values):
        raise DataError(
            f"dataset '{name}': {split} has masked values; fill them in, such as by "
            "values.filled(0), or leave out their samples"
        )
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor with gradient
        raise DataError(
            f"dataset '{name}': {split} cannot be read as an array ({error}); give NumPy arrays "
            "or CPU tensors without gradient"
        ) from error


def _read(name: str, split: str, samples: _Samples) -> tuple[Array | Named, Array]:
    """Read all samples of a torch `Dataset` into arrays, each once and in order."""
    if len(samples) == 0:
        raise DataError(f"dataset '{name}': {split} holds no samples; give one or more")
    first = _sample(name, split, samples, 0)
    arrays = {key: np.empty((len(samples), *part.shape), part.dtype) for key, part in first.items()}
    for index in range(len(samples)):
        sample = _sample(name, split, samples, index) if index else first
        if sample.keys() != first.keys():
            raise DataError(
                f"dataset '{name}': sample {index} of {split} has {listed([*map(str, sample)])}, "
                f"sample 0 {listed([*map(str, first)])}; give all samples the same inputs"
            )
        for key, part in sample.items():
            array = arrays[key]
            if (part.shape, part.dtype) != (array.shape[1:], array.dtype):
                raise DataError(
                    f"dataset '{name}': sample {index} of {split} has {key} of shape {part.shape} "
                    f"and type {part.dtype}, sample 0 of {array.shape[1:]} and {array.dtype}; "
                    "give all samples the same shape and type"
                )
            array[index] = part
        if index < _READ_TWICE and _differ(sample, _sample(name, split, samples, index)):
            raise DataError(
                f"dataset '{name}': sample {index} of {split} differs when it is read again, as "
                "random transforms make it; a study reads each sample once: leave these transforms "
                "out, and use augment for images"
            )
    targets = arrays.pop(_TARGET)
    if _INPUT in arrays:
        return arrays[_INPUT], targets
    return {key.name: array for key, array in arrays.items()}, targets


def _differ(first: Mapping[_Key, Array], second: Mapping[_Key, Array]) -> bool:
    """Return whether a sample that was read twice has other numbers."""
    return first.keys() != second.keys() or any(
        part.dtype.kind != "O" and part.tobytes() != second[key].tobytes()
        for key, part in first.items()
    )


def _sample(name: str, split: str, samples: _Samples, index: int) -> dict[_Key, Array]:
    place = f"dataset '{name}': sample {index} of {split}"
    try:
        sample = samples[index]
    except USER_CODE_ERRORS as error:
        raise DataError(
            f"{place} cannot be read ({one_line(error)}); correct the Dataset"
        ) from error
    if not _is_pair(sample):
        raise DataError(f"{place} is a {type(sample).__name__}; it must be (input, target)")
    inputs, target = sample
    parts: dict[_Key, object] = {_INPUT: inputs}
    if isinstance(inputs, Mapping):
        parts = {_Key(f"the input '{key}'", str(key)): value for key, value in inputs.items()}
    parts[_TARGET] = target
    if any(type(part).__module__.partition(".")[0] == "PIL" for part in parts.values()):
        raise DataError(
            f"{place} holds a picture; give its Dataset a transform to a tensor, such as "
            "torchvision's ToTensor()"
        )
    return {key: _array(name, split, part) for key, part in parts.items()}
