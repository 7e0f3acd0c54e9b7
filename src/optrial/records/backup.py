"""Backups, made when a study starts over and before a store is repaired or upgraded."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import sqlalchemy as sql

from optrial.errors import StoreBusyError, StoreError
from optrial.files import flush
from optrial.records.database import Database, folder_lock

__all__ = ["back_up", "new_backup", "set_aside"]

OF_A_STUDY = (
    *("study.db*", "weights", "timing.json", "report.html", "figures"),
    *("tensorboard", "mlflow.db*", "mlflow", "wandb"),
)
"""Files and folders of a study; the lock and all other files stay."""


def set_aside(folder: Path) -> Path | None:
    """Move a study's files to a new folder ``backup-DATE-TIME`` inside its folder.

    The database may be damaged or have been written by another version.

    Returns:
        The new folder, which can be opened like any study folder; None if there are no files.

    Raises:
        StoreBusyError: another process is training into the folder.
        StoreError: a file cannot be moved.
    """
    if not _left_in(folder):
        return None
    try:
        with folder_lock(folder) as locked:
            if not locked:
                raise StoreBusyError(
                    f"{folder}: another process is training into it. Wait until it is done, stop "
                    "it, or train into another folder."
                )
            _empty_journal(folder / "study.db")
            backup = new_backup(folder)
            _move(_left_in(folder), backup)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"'{folder}' cannot be started over: {reason}. Choose another folder with --out."
        ) from error
    return backup


def _move(paths: Sequence[Path], backup: Path) -> None:
    """Move the files of a study so that either place holds all of them if the process is killed.

    They are linked into the backup before the database is renamed, which decides where the study
    is, and removed afterwards. A file system without links moves them one by one.
    """
    linked = [p for p in paths if p.name != "study.db" and _link(p, backup / p.name)]
    renamed: list[Path] = []
    try:
        for path in paths:
            if path not in linked:
                path.rename(backup / path.name)
                renamed.append(path)
    except OSError:
        for path in renamed:
            with suppress(OSError):
                (backup / path.name).rename(path)
        raise
    for path in linked:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _link(path: Path, target: Path) -> bool:
    """Give a file, or each file of a folder, a second name; return False if it has only one."""
    try:
        if path.is_dir():
            shutil.copytree(path, target, copy_function=os.link, symlinks=True)
        else:
            os.link(path, target)
    except (NotImplementedError, shutil.Error, OSError):
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        return False
    return True


def _left_in(folder: Path) -> list[Path]:
    return [path for pattern in OF_A_STUDY for path in sorted(folder.glob(pattern))]


def _empty_journal(file: Path) -> None:
    """Copy the write-ahead log that a crash left into the database, if it is readable."""
    if file.exists():
        with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def new_backup(folder: Path) -> Path:
    """Make a new folder ``backup-DATE-TIME`` in a study's folder and return it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        backup = folder / f"backup-{stamp}{f'-{number}' if number > 1 else ''}"
        with suppress(FileExistsError):
            backup.mkdir()
            return backup
    raise AssertionError("numbers do not end")


def back_up(database: Database, *, damaged: bool = False) -> str:
    """Copy a database that no other process writes to.

    Args:
        database: the database.
        damaged: copy the files as they are, without reading them.

    Returns:
        The folder that holds the copy, which can be opened like any study folder; on a server, the
        names of the tables that hold it.
    """
    with database.errors():
        if database.folder is not None:
            backup = new_backup(database.folder)
            for file in database.folder.glob("study.db*" if damaged else "study.db"):
                copy = shutil.copy2 if damaged else _copy_with_journal
                copy(file, backup / file.name)
                flush(backup / file.name)
            flush(backup)
            return str(backup)
        ending = time.strftime("_backup_%Y%m%d_%H%M%S")
        with database.engine.begin() as connection:
            for name in sql.inspect(connection).get_table_names():
                if "_backup_" not in name:
                    connection.execute(sql.text(f"CREATE TABLE {name}{ending} AS TABLE {name}"))
    return f"the tables *{ending}"


def _copy_with_journal(file: Path, target: Path) -> None:
    """Copy an SQLite database with the commits in its write-ahead log."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
