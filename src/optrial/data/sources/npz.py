"""Arrays in ``.npz`` files, under the names that Keras, MedMNIST and scikit-learn use."""

from __future__ import annotations

import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from optrial.array_headers import check_header
from optrial.data.arguments import ArrayArguments
from optrial.data.dataset import SPLITS, Array
from optrial.data.fitting import require_memory
from optrial.data.packing import pack_splits
from optrial.data.source import Request, Source
from optrial.data.sources.layout import with_channels
from optrial.errors import DataError, listed
from optrial.memory import out_of_memory

_FORMS = (
    "train_inputs, train_targets[, test_inputs, test_targets][, validation_...], or "
    "x_train, y_train[, x_test, y_test], or train_images, train_labels, or inputs, targets, or "
    "X, y, or data, target"
)
_COPIES = 1.5  # at least: the arrays of the file, and float32 numbers
_INPUTS = ("inputs", "x", "data", "images", "features")
_TARGETS = ("targets", "y", "target", "labels", "label")
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_OF_A_SPLIT = re.compile(r"train|test|valid|(^|[^a-z])val($|[^a-z])")


def read_npz(request: Request[ArrayArguments]) -> Source:
    """Read inputs and targets of ``train`` and other splits, or of all samples.

    Names are compared without case. Pickled objects are never loaded.

    Raises:
        DataError: the file is damaged or too large, or its arrays have other names.
    """
    path = request.path
    names = _members(path)
    named = request.arguments.inputs
    parts = named if isinstance(named, tuple) else ()
    chosen = _chosen(path, names, parts)
    used = [name for of_split in chosen.values() for name in of_split]
    arrays = _loaded(path, used)
    ignored = [name for name in names if name not in used]
    notes = [f"arrays that are not used: {listed(ignored)}"] if ignored else []
    if parts:
        splits = {
            split: (
                {part: arrays[name] for part, name in zip(parts, inputs, strict=True)},
                arrays[y],
            )
            for split, (*inputs, y) in chosen.items()
        }
        objects = pack_splits(str(path), splits)
        return Source(objects.splits, parts=objects.parts, notes=notes)
    source = Source(
        {split: (arrays[x], arrays[y]) for split, (x, y) in chosen.items()}, notes=notes
    )
    return with_channels(str(path), source, request.arguments.layout)


def _members(path: Path) -> list[str]:
    """Return the names of the arrays; refuse a file that does not fit into memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # damaged bytes raise errors of many types
        raise _unreadable(path, error) from error
    require_memory(str(path), _COPIES * sum(info.file_size for info in infos))
    return [info.filename.removesuffix(".npy") for info in infos]


def _chosen(path: Path, names: list[str], parts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of inputs and targets of each split, or of ``all`` samples.

    Args:
        path: the file, for the error.
        names: of all arrays.
        parts: names of several inputs; empty for a single one.
    """
    folded = {name.casefold(): name for name in names}
    chosen = {}
    spelled: set[str] = set()
    wanted = [*((part.casefold(),) for part in parts), _TARGETS] if parts else [_INPUTS, _TARGETS]
    for split in ("all", *SPLITS):
        spellings = [list(_spelled(split, words)) for words in wanted]
        spelled |= set().union(*spellings)
        known = [group for group in itertools.product(*spellings) if set(group) <= folded.keys()]
        if known:
            chosen[split] = tuple(folded[name] for name in known[0])
    used = {name for group in chosen.values() for name in group}
    mistaken = [
        name
        for name in folded
        if folded[name] not in used
        and (
            name in spelled or (not parts and _OF_A_SPLIT.search(name))
        )  # other inputs stay unused
    ]
    mixed = "all" in chosen and len(chosen) > 1
    if mistaken or mixed or not chosen.keys() & {"train", "all"}:
        raise DataError(f"{path} holds the arrays {', '.join(names)}; name them {_forms(parts)}")
    return chosen


def _forms(parts: Sequence[str]) -> str:
    """Return the names that arrays may have."""
    if not parts:
        return _FORMS
    of_train = ", ".join(f"train_{part}" for part in parts)
    return (
        f"{of_train}, train_targets[, test_{parts[0]}, ...][, validation_{parts[0]}, ...], or "
        f"{', '.join(parts)}, targets, as inputs: [{', '.join(parts)}] says"
    )


def _spelled(split: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Yield the names that inputs or targets of a split may have."""
    if split == "all":
        yield from parts
        return
    for part, word in itertools.product(parts, _SPLIT_WORDS[split]):
        yield from (f"{word}_{part}", f"{part}_{word}", f"{part}{word}")


def _loaded(path: Path, names: list[str]) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                check_header(archive, f"{name}.npy")
        # Opened here because NumPy does not close a file that is not an archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
    except Exception as error:
        if out_of_memory(error):
            raise
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are not loaded because they may run code; "
                "save arrays of numbers or texts, such as array.astype(float)"
            ) from error
        raise _unreadable(path, error) from error
    if single := [name for name, array in arrays.items() if not array.ndim]:
        raise DataError(f"{path}: {single[0]} is a single value; save one row per sample")
    return arrays


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).split("\n", 1)[0] or type(error).__name__
    return DataError(f"{path} cannot be read ({reason}); write it again, or name another file")
