"""From a name and its arguments to a dataset; and the files behind a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optrial.data.arguments import Arguments
from optrial.data.catalogue import CSV, DATASETS, FUNCTION, NPZ, DatasetEntry, Request
from optrial.data.dataset import Dataset, checked, fingerprint
from optrial.data.download import (
    FileStatus,
    Progress,
    Published,
    data_directory,
    fetch_files,
    file_statuses,
    require_files,
)
from optrial.data.scaling import scaled
from optrial.data.splits import with_validation
from optrial.errors import DataError, Problem, problems_of, suggest

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_FILES = {".npz": NPZ, ".csv": CSV}
_OWN = "a path to .npz or .csv, or module:function"


@dataclass(frozen=True)
class _Resolved:
    """A name and arguments that have nothing wrong that shows before loading."""

    entry: DatasetEntry
    arguments: Arguments


def check_dataset(name: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything wrong with a dataset that can be known without loading it.

    Args:
        name: catalogue name, path to ``.npz`` or ``.csv`` (a relative one is in the current
            folder), or ``module:function``.
        arguments: of the dataset, without its name.

    Returns:
        problems at ``name`` or at an argument's name; none if there is nothing to say.
    """
    found = _resolve(name, arguments)
    return [] if isinstance(found, _Resolved) else found


def resolved_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments with their defaults filled in, as JSON has them.

    `validation_fraction` stays None where it was not given: what it means depends on the study and
    on the source; `Dataset.sizes` has the outcome. The same holds for `test_fraction` of an
    ``.npz`` file.

    Raises:
        DataError: what `check_dataset` finds.
    """
    return _resolved(name, arguments).arguments.resolved().model_dump(mode="json")


def load_dataset(
    name: str,
    arguments: Mapping[str, Any],
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    validation: bool = False,
) -> Dataset:
    """Load, check, divide and scale a dataset; the same arguments give the same bits.

    Args:
        name: catalogue name, path to ``.npz`` or ``.csv``, or ``module:function``.
        arguments: of the dataset, without its name.
        data_dir: folder of the published datasets; see `data_directory`.
        progress: hears of downloads.
        validation: the study evaluates on validation: hold out a tenth of the training split,
            unless the arguments say otherwise or the source has a validation split.

    Raises:
        DataError: the name or an argument is wrong, or the data is missing, damaged or malformed.
        DownloadError: no mirror delivered a missing file.
    """
    found = _resolved(name, arguments)
    entry, parsed = found.entry, found.arguments
    folder = Path()
    if entry.published:
        folder = require_files(entry.published, data_directory(data_dir), progress)
    pairs = checked(name, entry.load(Request(name, parsed, folder)))
    classes = int(pairs["train"][1].max()) + 1
    pairs = with_validation(name, pairs, parsed, validation)
    splits = scaled(name, pairs, parsed, entry.pixel_maximum)
    return Dataset(name, splits, classes, fingerprint(splits))


def fetch(name: str, data_dir: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Download the files of a dataset that are missing or damaged; return the path of each.

    Raises:
        DataError: the name is unknown, or the folder cannot be written.
        DownloadError: no mirror delivered a file.
    """
    published = _published(name)
    if published:
        fetch_files(published, data_directory(data_dir), progress)
    return files(name, data_dir)


def verify(name: str, data_dir: Path | None = None) -> dict[str, FileStatus]:
    """Return the status of each file of a dataset; empty where it needs no download.

    Raises:
        DataError: the name is unknown, or a file cannot be read.
    """
    published = _published(name)
    return file_statuses(published, data_directory(data_dir)) if published else {}


def files(name: str, data_dir: Path | None = None) -> list[Path]:
    """Return where each file of a dataset is or will be; empty where it needs no download.

    Raises:
        DataError: the name is unknown.
    """
    published = _published(name)
    if not published:
        return []
    folder = data_directory(data_dir) / published.folder
    return [folder / file for file in published.files]


def _published(name: str) -> Published | None:
    if name not in DATASETS:
        raise DataError(f"'{name}' is not a dataset of the catalogue. {suggest(name, DATASETS)}")
    return DATASETS[name].published


def _resolved(name: str, arguments: Mapping[str, Any]) -> _Resolved:
    found = _resolve(name, arguments)
    if isinstance(found, _Resolved):
        return found
    raise DataError(f"dataset '{name}' cannot be used: " + "\n  ".join(map(str, found)))


def _resolve(name: str, arguments: Mapping[str, Any]) -> _Resolved | list[Problem]:
    entry = _entry(name)
    if isinstance(entry, Problem):
        return [entry]
    problems = _missing_file(entry, name)
    try:
        parsed = entry.arguments.model_validate(dict(arguments))
    except ValidationError as error:
        return problems + problems_of(error, entry.arguments.model_fields)
    problems += _wrong_lengths(entry, parsed)
    return problems or _Resolved(entry, parsed)


def _entry(name: object) -> DatasetEntry | Problem:
    """Tell by the name alone which dataset or kind of dataset is meant."""
    if not isinstance(name, str):
        return Problem("name", f"{name!r} is not text. {suggest(name, DATASETS)} Or {_OWN}.")
    if name in DATASETS:
        return DATASETS[name]
    suffix = Path(name).suffix.lower()
    if suffix in _FILES:
        return _FILES[suffix]
    if _FUNCTION.fullmatch(name):
        return FUNCTION
    if ":" in name:
        return Problem("name", f"'{name}' must be module:function, such as my_package.data:load.")
    return Problem("name", f"'{name}' is not a dataset. {suggest(name, DATASETS)} Or {_OWN}.")


def _missing_file(entry: DatasetEntry, name: str) -> list[Problem]:
    path = Request(name, None).path
    if entry not in _FILES.values() or path.is_file():
        return []
    return [Problem("name", f"there is no file '{name}'; a relative path starts at {Path.cwd()}.")]


def _wrong_lengths(entry: DatasetEntry, arguments: Arguments) -> list[Problem]:
    """Compare the numbers of mean and std with the channels, where these are known beforehand."""
    if entry.input_shape is None:
        return []
    channels = entry.input_shape[0]
    return [
        Problem(key, f"{list(given)!r}: must be one number, or {channels}, one a channel.")
        for key, given in (("mean", arguments.mean), ("std", arguments.std))
        if isinstance(given, tuple) and len(given) not in (1, channels)
    ]
