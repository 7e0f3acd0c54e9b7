"""Beginning a study anew: what is in its folder is kept in another one."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from optrial.errors import StoreBusyError, StoreError
from optrial.records.database import file_lock

__all__ = ["set_aside"]

OF_A_STUDY = (
    *("study.db*", "weights", "timing.json", "report.html", "figures"),
    *("tensorboard", "mlflow.db*", "mlflow", "wandb"),
)
"""What a study leaves in its folder, which may hold files of the user's too; the lock stays."""


def set_aside(folder: Path) -> Path | None:
    """Move everything a study left in a folder to a new ``backup-DATE-TIME`` within it.

    The database need not be readable: it may be damaged, or of another version.

    Returns:
        The new folder, which holds the former study as a study's folder does; None if there was
        nothing to move.

    Raises:
        StoreBusyError: another process is training into the folder.
        StoreError: something cannot be moved.
    """
    if not _left_in(folder):
        return None
    try:
        with file_lock(folder / "study.lock") as locked:
            if not locked:
                raise StoreBusyError(
                    f"{folder}: another process is training into it. Wait until it is done, stop "
                    "it, or train into another folder."
                )
            _empty_journal(folder / "study.db")
            backup = _new_folder(folder)
            for path in _left_in(folder):
                path.rename(backup / path.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"'{folder}' cannot be begun anew: {reason}. Choose another folder with --out."
        ) from error
    return backup


def _left_in(folder: Path) -> list[Path]:
    return [path for pattern in OF_A_STUDY for path in sorted(folder.glob(pattern))]


def _empty_journal(file: Path) -> None:
    """Bring what a crash left in the write-ahead log into the database, where it can be read."""
    if file.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _new_folder(folder: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        backup = folder / f"backup-{stamp}{f'-{number}' if number > 1 else ''}"
        with suppress(FileExistsError):
            backup.mkdir()
            return backup
    raise AssertionError("numbers do not end")
