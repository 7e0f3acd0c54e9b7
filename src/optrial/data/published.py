"""Files of the published datasets, by name."""

from __future__ import annotations

from pathlib import Path

from optrial.data.catalogue import DATASETS
from optrial.data.download import (
    FileStatus,
    Progress,
    Published,
    data_directory,
    fetch_files,
    file_statuses,
)
from optrial.errors import DataError, suggest


def fetch(name: str, data_dir: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Download missing and damaged files of a dataset; return the paths of all files.

    Raises:
        DataError: the name is unknown, or the folder cannot be written.
        DownloadError: no mirror delivered a file.
    """
    if published := _published(name):
        fetch_files(published, data_directory(data_dir), progress)
    return files(name, data_dir)


def verify(name: str, data_dir: Path | None = None) -> dict[str, FileStatus]:
    """Return the status of each file of a dataset; empty if it needs no download.

    Raises:
        DataError: the name is unknown, or a file cannot be read.
    """
    published = _published(name)
    return file_statuses(published, data_directory(data_dir)) if published else {}


def files(name: str, data_dir: Path | None = None) -> list[Path]:
    """Return the path of each file of a dataset, existing or not; empty if it needs no download.

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
