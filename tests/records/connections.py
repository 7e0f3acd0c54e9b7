"""Connections to the database of a store, past the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql

from optrial.records.database import find_database

__all__ = ["transaction"]


@contextmanager
def transaction(location: str | Path, *, writing: bool = False) -> Iterator[sql.Connection]:
    """A transaction in the database of an existing store, as another program would open one."""
    engine = find_database(location, create=False).engine
    try:
        with engine.execution_options(writing=writing).begin() as connection:
            yield connection
    finally:
        engine.dispose()
