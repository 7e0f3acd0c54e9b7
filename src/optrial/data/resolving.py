"""Checks of a dataset before it is loaded: its name, its arguments and the kind of its targets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from optrial.code import is_code
from optrial.data.arguments import (
    Arguments,
    ArrayArguments,
    AugmentableArguments,
    AugmentArguments,
    TableArguments,
    TokenArguments,
    ValueArguments,
    Vocabulary,
)
from optrial.data.catalogue import (
    DATASETS,
    FUNCTION,
    IMAGE_FOLDER,
    NPZ,
    PARQUET,
    TEXT_TABLE,
    DatasetEntry,
)
from optrial.data.source import expanded
from optrial.errors import DataError, Problem, problem_of, suggest
from optrial.target_kinds import Targets

_FILES = {
    ".npz": NPZ,
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".data", ".dat"), TEXT_TABLE),
    **dict.fromkeys((".parquet", ".pq"), PARQUET),
}
_COMPRESSED = (".gz", ".bz2", ".xz")  # of text tables
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_YOURS = "a path to .csv, .tsv, .parquet or .npz or to a folder of images, or module:function"


@dataclass(frozen=True)
class Resolved:
    """The entry of a name, and valid arguments."""

    entry: DatasetEntry
    arguments: Arguments

    @property
    def has_tokens(self) -> bool:
        """True if the inputs are tokens."""
        return isinstance(self.arguments, TokenArguments) and isinstance(
            self.arguments.inputs, str | Vocabulary
        )

    def wanted(self, targets: Targets) -> Targets:
        """Return the targets to load: those of the arguments, else those that the loss takes."""
        named = self.arguments.targets
        if named == "inputs":
            return "classes" if self.has_tokens else "binary" if targets == "binary" else "values"
        if self.entry.values or named == "values":
            return "values"
        labels = self.entry.name in DATASETS or self.entry is IMAGE_FOLDER or named == "labels"
        return "classes" if labels and targets != "binary" else targets


def check_dataset(
    name: str, arguments: Mapping[str, object], *, targets: Targets = "classes"
) -> list[Problem]:
    """Return all problems of a dataset that show without loading it.

    Args:
        name: catalogue name, path to a file or folder (relative to the current folder), or
            ``module:function``.
        arguments: arguments of the dataset, without its name.
        targets: what the loss takes; see `load_dataset`.

    Returns:
        problems at ``name`` or at the name of an argument.
    """
    resolved = resolve(name, arguments, targets)
    return [] if isinstance(resolved, Resolved) else resolved


def resolve(
    name: str, arguments: Mapping[str, object], targets: Targets
) -> Resolved | list[Problem]:
    """Return the entry of a name with valid arguments, or all problems; see `check_dataset`."""
    entry = _entry(name)
    if isinstance(entry, Problem):
        return [entry]
    problems = []
    if entry in _FILES.values() and not _is_file(expanded(name)):
        missing = f"there is no file '{name}'; a relative path starts at {Path.cwd()}."
        problems.append(Problem("name", missing))
    if targets not in get_args(Targets):
        problems.append(Problem("targets", f"{targets!r}. {suggest(targets, get_args(Targets))}"))
    try:
        parsed = entry.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        for details in error.errors():
            keys = AugmentArguments if len(details["loc"]) > 1 else entry.arguments
            problems.append(problem_of(details, keys.model_fields))
        return problems
    resolved = Resolved(entry, parsed)
    if entry.input_shape:
        problems += _length_problems(entry.input_shape[0], parsed)
        problems += augment_problems(entry.input_shape, parsed)
    problems += _target_problems(resolved, targets)
    return problems or resolved


def unusable(name: str, problems: Sequence[Problem]) -> DataError:
    """Return the error for a dataset with problems."""
    return DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(map(str, problems)))


def augment_problems(
    shape: tuple[int, ...], arguments: Arguments, targets: tuple[int, ...] = ()
) -> list[Problem]:
    """Return why samples of a shape, with targets of a shape, cannot be augmented as asked."""
    if not isinstance(arguments, AugmentableArguments) or arguments.augment is None:
        return []
    if len(shape) != 3:
        only = f"samples have shape {shape}; only images, (channels, height, width), can be varied"
        return [Problem("augment", f"{only}; remove it.")]
    if arguments.augment.crop >= min(shape[1:]):
        limit = f"images are {shape[1]}x{shape[2]} pixels and would lie outside; use less"
        return [Problem("augment.crop", f"{arguments.augment.crop}: {limit}.")]
    if arguments.targets == "inputs" or targets[-2:] == shape[1:]:
        moved = "moves the pixels of the inputs, but not their targets, which have the same pixels"
        return [Problem("augment", f"{moved}; remove it.")]
    return []


def several_inputs_problems(arguments: Arguments) -> list[Problem]:
    """Return the arguments that several inputs do not take: scaling, and what concerns images."""
    given = {
        "scale": arguments.scale not in (None, "none"),
        "mean": arguments.mean is not None,
        "targets": arguments.targets == "inputs",
        "augment": isinstance(arguments, AugmentableArguments) and arguments.augment is not None,
        "layout": isinstance(arguments, ArrayArguments) and arguments.layout is not None,
        "inputs": isinstance(arguments, TokenArguments)
        and isinstance(arguments.inputs, str | Vocabulary),
    }
    reason = "samples have several inputs, to which it does not apply; remove it, and scale or"
    return [
        Problem(name, f"{reason} number them before.")
        for name, is_given in given.items()
        if is_given
    ]


def _entry(name: object) -> DatasetEntry | Problem:
    """Return the entry of a name, or the problem of a name without one."""
    if not isinstance(name, str):
        return Problem("name", f"{name!r} is not text. {suggest(name, DATASETS)} Or {_YOURS}.")
    if entry := DATASETS.get(name) or _file_entry(Path(name)):
        return entry
    return FUNCTION if is_code(name) else Problem("name", f"'{name}' {_problem_of_name(name)}")


def _problem_of_name(name: str) -> str:
    if name.lower().endswith(_ARCHIVES):
        named = "name a file or folder of it; .csv.gz, .csv.bz2 and .csv.xz can stay compressed"
        return f"is an archive; unpack it and {named}."
    if _is_file(expanded(name)):
        way_out = "convert it to .csv, .parquet or .npz, or read it by a function, module:function"
        return f"is a file of a kind that cannot be read; {way_out}."
    if ":" in name:
        return "must be module:function, such as my_package.data:load."
    return f"is not a dataset. {suggest(name, DATASETS)} Or {_YOURS}."


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  that of Path raises where a name is too long


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  that of Path raises where a name is too long


def _file_entry(path: Path) -> DatasetEntry | None:
    """Return the entry that reads a path, by its suffix or because it is a folder."""
    plain = path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path
    entry = _FILES.get(plain.suffix.lower())
    if entry is not None and (plain == path or entry is TEXT_TABLE):
        return entry
    return IMAGE_FOLDER if path.name and _is_folder(expanded(str(path))) else None


def _length_problems(channels: int, arguments: Arguments) -> Iterator[Problem]:
    """Yield the problems of lists in mean and std for a known number of channels."""
    for key, value in (("mean", arguments.mean), ("std", arguments.std)):
        if isinstance(value, tuple) and len(value) not in (1, channels):
            allowed = f"must be one number, or {channels}, one per channel"
            yield Problem(key, f"{list(value)!r}: {allowed}.")


def _target_problems(resolved: Resolved, targets: Targets) -> Iterator[Problem]:
    """Yield the contradictions between the targets of the dataset and those of the loss."""
    entry, arguments, wanted = resolved.entry, resolved.arguments, resolved.wanted(targets)
    way_out = "use a loss for values, such as mse"
    if arguments.targets == "inputs" and not resolved.has_tokens and targets == "classes":
        reason = "'inputs': the inputs are numbers, and the loss takes class labels"
        yield Problem("targets", f"{reason}; use mse, or bce for numbers from 0 to 1.")
        return
    if resolved.has_tokens and targets == "values" and arguments.targets == "inputs":
        yield Problem("targets", "'inputs': tokens are class labels; use cross_entropy.")
        return
    if wanted == "values" and targets in ("classes", "binary"):
        if entry.values:
            yield Problem("name", f"'{entry.name}' has values to predict, no classes; {way_out}.")
        else:
            yield Problem("targets", f"'values': the loss takes class labels; {way_out}.")
    if wanted not in ("classes", "binary"):
        return
    if isinstance(arguments, ValueArguments) and arguments.standardize_targets:
        remove = f"class labels are not scaled; remove it, or {way_out}"
        yield Problem("standardize_targets", f"{remove}.")
    if (
        wanted == "classes"
        and isinstance(arguments, TableArguments)
        and not isinstance(arguments.target, str)
    ):
        columns = f"{list(arguments.target)!r}: a list of columns holds values to predict"
        yield Problem("target", f"{columns}; name one column of classes, or {way_out}.")
