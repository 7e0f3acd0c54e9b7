"""Connections to the database of a store, past the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sql

from optrial.records.database import find_database
from optrial.records.rows import sealed
from optrial.records.schema import metadata

__all__ = ["edit", "transaction"]


@contextmanager
def transaction(location: str | Path, *, writing: bool = False) -> Iterator[sql.Connection]:
    """A transaction in the database of an existing store, as another program would open one."""
    engine = find_database(location, create=False).engine
    try:
        with engine.execution_options(writing=writing).begin() as connection:
            yield connection
    finally:
        engine.dispose()


def edit(location: str | Path, table: str, *, seal: bool = False, **values: object) -> None:
    """Set columns of every row of a table; `seal` makes the checksums right again."""
    columns = metadata.tables[table]
    with transaction(location, writing=True) as connection:
        for row in connection.execute(columns.select()).mappings().all():
            edited = {**row, **values}
            here = sql.and_(*(columns.c[name] == value for name, value in row.items()))
            changed = sealed(columns, edited) if seal else edited
            connection.execute(columns.update().where(here).values(changed))
