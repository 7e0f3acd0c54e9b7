"""Upgrade of stores that an older optrial wrote.

Plain SQL in one transaction, because checksums are computed in Python, row by row, and most stores
are SQLite files that need no migration framework. `_EARLIER` lists what each older version lacks.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from optrial.errors import StoreBusyError, StoreError
from optrial.records.backup import back_up
from optrial.records.database import Database, find_database
from optrial.records.queries import set_meta, stored_version
from optrial.records.rows import planned_outcomes, sealed
from optrial.records.schema import (
    VERSION,
    checkpoints,
    curves,
    leases,
    metadata,
    outcomes,
    plan_runs,
    plans,
    runs,
)
from optrial.records.texts import spec_text
from optrial.spec import ENDED, RunSpec

__all__ = ["check_version", "upgrade", "upgraded"]

Row = Mapping[str, Any]

_BEFORE_CHECKSUMS = ("checkpoints", "curves", "outcomes", "plan_runs", "runs", "plans", "meta")
"""Tables of versions 1 to 3, those that refer to others first."""

_ROWS_AT_ONCE = 1_000

_PLANS = f"""
    SELECT *,
        (SELECT count(*) FROM old_plan_runs WHERE plan_id = old_plans.id) AS runs,
        (SELECT count(DISTINCT run_id) FROM old_plan_runs WHERE plan_id <= old_plans.id) AS known,
        (SELECT count(DISTINCT run_id) FROM old_outcomes WHERE saved_at <= old_plans.saved_at
            AND status IN ({", ".join(f"'{status}'" for status in sorted(ENDED))})) AS ended
    FROM old_plans ORDER BY id
"""
_PLACES = """
    SELECT places.*, old_runs.spec AS spec FROM old_plan_runs AS places
    JOIN old_runs ON old_runs.run_id = places.run_id
    ORDER BY places.plan_id, places.position
"""
_OUTCOMES = """
    SELECT * FROM old_outcomes WHERE id IN (SELECT max(id) FROM old_outcomes GROUP BY run_id)
"""
_POINTS = "SELECT run_id, metric, sum(count) AS points FROM old_curves GROUP BY run_id, metric"
_PLANNED = """
    SELECT run_id FROM old_runs WHERE run_id NOT IN (SELECT run_id FROM old_outcomes)
"""


def upgrade(location: str | Path) -> str:
    """Upgrade the store at a folder or URL to the present version, after a backup.

    The upgrade is one transaction: a process that is killed leaves the store as it was.

    Returns:
        One line that says what was done; empty if the store has the present version.

    Raises:
        StoreError: there is no store, or its version is not known.
        StoreBusyError: another process is writing to it.
    """
    database = find_database(location, create=False)
    try:
        note = upgraded(database)
        check_version(database)
    finally:
        database.engine.dispose()
    return note


def upgraded(database: Database) -> str:
    """Upgrade a store of a known older version; see `upgrade`."""
    if _version_of(database) not in _EARLIER:
        return ""
    with database.errors(), database.writer_lock() as locked:
        if not locked:
            raise StoreBusyError(
                f"{database.shown}: another process is writing to it. Wait until it is done, or "
                "stop it."
            )
        version = _version_of(database)
        if version not in _EARLIER:  # another process was faster
            return ""
        backup = back_up(database)
        writer = database.engine.execution_options(writing=True)
        with writer.begin() as connection:
            _EARLIER[version](connection)
            set_meta(connection, version=str(VERSION))
        _return_space(database)
    return (
        f"{database.shown}: upgraded from store version {version} to {VERSION}; the earlier state "
        f"is kept in {backup}"
    )


def check_version(database: Database) -> None:
    """Refuse a database without a store, and a store of another version.

    Raises:
        StoreError: the message says what to do about it.
    """
    version = _version_of(database)
    if version is None:
        raise StoreError(
            f"no study is stored in {database.shown}. Check the location, or create one with: "
            "optrial run STUDY --out LOCATION"
        )
    if version == str(VERSION):
        return
    way_out = "Upgrade optrial: pip install --upgrade optrial"
    if version in _EARLIER:
        way_out = f"Upgrade it, which keeps a backup: optrial upgrade '{database.shown}'"
    elif version.isdecimal() and int(version) < VERSION:
        way_out = "Train into another folder, or start over with --restart, which keeps it."
    raise StoreError(
        f"{database.shown} holds a store of version {version}; this optrial reads version "
        f"{VERSION}. {way_out}"
    )


def _version_of(database: Database) -> str | None:
    with database.errors(), database.engine.connect() as connection:
        return stored_version(connection)


def _return_space(database: Database) -> None:
    """Rebuild an SQLite file without the pages of the old tables, if there is room for a copy."""
    if database.folder is None:
        return
    database.engine.dispose()
    with suppress(sqlite3.Error), closing(sqlite3.connect(database.folder / "study.db")) as file:
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.execute("VACUUM")


def _add_checksums(connection: sql.Connection) -> None:
    """Move the rows of a store without checksums to new tables.

    Rows get their checksums as they are; reading finds damage that they have. Times tell which runs
    had ended before a plan.
    """
    for index in ("plans_by_run", "outcomes_by_run"):
        connection.execute(sql.text(f"DROP INDEX IF EXISTS {index}"))
    for table in _BEFORE_CHECKSUMS:
        connection.execute(sql.text(f"ALTER TABLE {table} RENAME TO old_{table}"))
    metadata.create_all(connection, checkfirst=False)
    numbers = {row["id"]: number for number, row in enumerate(_rows(connection, _PLANS), start=1)}
    timed = ({**row, "saved_at": f"{row['saved_at']}+00:00"} for row in _rows(connection, _PLANS))
    _copy(connection, plans, ({**row, "id": numbers[row["id"]]} for row in timed))
    of_runs = _rows(connection, "SELECT * FROM old_runs ORDER BY id")
    _copy(connection, runs, ({**row, "spec": _in_lines(row["spec"])} for row in of_runs))
    places = map(_place, _rows(connection, _PLACES))
    _copy(connection, plan_runs, ({**row, "plan_id": numbers[row["plan_id"]]} for row in places))
    _copy(connection, outcomes, _outcomes(connection))
    _copy(connection, curves, _rows(connection, "SELECT * FROM old_curves ORDER BY id"))
    _copy(connection, checkpoints, _rows(connection, "SELECT * FROM old_checkpoints"))
    set_meta(connection, plan=str(len(numbers)))
    for table in _BEFORE_CHECKSUMS:
        connection.execute(sql.text(f"DROP TABLE old_{table}"))
    if connection.dialect.name == "postgresql":
        _continue_numbers(connection, runs)
        _continue_numbers(connection, curves)


def _rows(connection: sql.Connection, query: str) -> Iterator[Row]:
    options = {"yield_per": _ROWS_AT_ONCE}
    with connection.execute(sql.text(query), execution_options=options) as result:
        yield from map(dict, result.mappings())


def _copy(connection: sql.Connection, table: sql.Table, rows: Iterable[Row]) -> None:
    """Insert rows with their checksums; columns that the table does not have are left out."""
    names = {column.name for column in table.columns}
    remaining = (
        sealed(table, {name: value for name, value in row.items() if name in names}) for row in rows
    )
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        connection.execute(table.insert(), some)


def _continue_numbers(connection: sql.Connection, table: sql.Table) -> None:
    """Make the server number the next row after those that were inserted with their numbers."""
    sequence = sql.func.pg_get_serial_sequence(table.name, "id")
    last = sql.select(sql.func.max(table.c.id)).scalar_subquery()
    connection.execute(sql.select(sql.func.setval(sequence, sql.func.coalesce(last, 1))))


def _in_lines(spec: str) -> str:
    """Return the text of a spec in the lines that runs share; damaged text as it is."""
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return spec_text(RunSpec.from_dict(json.loads(spec)))
    return spec


def _place(row: Row) -> Row:
    """Return the place of a run with the name of its problem, which is that of its data."""
    if "problem" in row:
        return row
    dataset = "problem"
    with suppress(ValueError, TypeError, KeyError):
        dataset = str(json.loads(row["spec"])["dataset"])
    name = re.split(r"[:/\\]", dataset)[-1].partition(".")[0]
    return {**row, "problem": name or dataset}


def _outcomes(connection: sql.Connection) -> Iterator[Row]:
    """Yield the latest outcome of every run."""
    points = {(r["run_id"], r["metric"]): int(r["points"]) for r in _rows(connection, _POINTS)}
    for row in _rows(connection, _OUTCOMES):
        latest = _with_points(row["run_id"], row["latest"], points)
        yield {**row, "latest": latest, "saved_at": f"{row['saved_at']}+00:00"}
    yield from planned_outcomes(row["run_id"] for row in _rows(connection, _PLANNED))


def _with_points(run_id: str, latest: str, points: Mapping[tuple[str, str], int]) -> str:
    """Add the number of points to the end of each curve; return damaged text as it is."""
    with suppress(ValueError, TypeError, AttributeError):
        ends = {
            metric: [step, value, points.get((run_id, metric), 0)]
            for metric, (step, value) in json.loads(latest).items()
        }
        return json.dumps(ends)
    return latest


def _add_leases(connection: sql.Connection) -> None:
    leases.create(connection, checkfirst=True)
    for index in runs.indexes:
        index.create(connection, checkfirst=True)


_EARLIER: Mapping[str | None, Callable[[sql.Connection], None]] = {
    "2": _add_checksums,
    "3": _add_checksums,
    "4": _add_leases,
}
"""The step from each older version to the present one."""
