"""Verifies a store, and repairs it: just what is damaged is trained again."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from optrial.errors import StoreBusyError, StoreDamagedError, StoreError
from optrial.files import flush
from optrial.records.backup import back_up
from optrial.records.damage import Damage, look_for_damage, spec_of
from optrial.records.database import (
    Database,
    find_database,
    lossless_text,
    sqlite_engine,
)
from optrial.records.queries import insert, replace_rows, set_meta
from optrial.records.rows import (
    COVERED,
    DamagedError,
    Row,
    check,
    checksum,
    planned_outcomes,
    sealed,
)
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
from optrial.records.store import Store
from optrial.records.weights import WeightFiles
from optrial.spec import FINAL, StackId

__all__ = ["Verification", "verify"]

_ROUNDS = 5  # what one round removes can leave other rows without theirs
_MISSES = 2_000  # lookups in a row without a row, after which no more are expected
_LOOKUPS = 100_000  # rows that are looked up one by one where a table cannot be scanned


@dataclass(frozen=True)
class Verification:
    """Result of the verification of a store.

    Attributes:
        location: location of the store, without password.
        counts: number of rows that were read, by table, and of files of weights.
        findings: one line per finding.
        backup: after a repair, where the earlier state is kept.
        retrained: after a repair, the ids of runs that the next `optrial run` trains again.
    """

    location: str
    counts: Mapping[str, int]
    findings: tuple[str, ...]
    backup: str = ""
    retrained: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """True if nothing is damaged, or everything was repaired."""
        return not self.findings or bool(self.backup)


def verify(location: str | Path, *, repair: bool = False) -> Verification:
    """Check every stored row and every file of weights against checksums and each other.

    Args:
        location: a study folder or a ``postgresql://`` URL.
        repair: set damaged rows and files aside, after a backup. The runs that they belong to are
            trained again by the next `optrial run`; all others stay as they are.

    Raises:
        StoreError: no store of this version is there, nothing of it can be read, or it cannot be
            written.
        StoreBusyError: `repair`, and another process is training into the store.
    """
    _check_opens(location)
    database = find_database(location, create=False)
    with ExitStack() as stack:
        stack.callback(database.engine.dispose)
        if not repair:
            return _verification(database, _damage(database))
        with database.errors():
            if not stack.enter_context(database.writer_lock()):
                raise StoreBusyError(
                    f"{database.shown}: another process is training into it. Wait until it is "
                    "done, or stop it."
                )
        return _repaired(database)


def _check_opens(location: str | Path) -> None:
    """Open a store as every command does; damage of its tables is left to the checks.

    Raises:
        StoreError: there is no store, or it is one of another version.
    """
    with suppress(StoreDamagedError):
        Store.open(location).close()


def _weights(database: Database) -> WeightFiles | None:
    return None if database.folder is None else WeightFiles(database.folder)


def _damage(database: Database) -> Damage:
    damage = Damage()
    with damage.noting(), database.engine.connect() as connection:
        look_for_damage(damage, connection, _weights(database))
    return damage


def _verification(database: Database, damage: Damage, **more: Any) -> Verification:
    return Verification(database.shown, dict(damage.counts), tuple(damage.findings), **more)


def _repaired(database: Database) -> Verification:
    first = damage = _damage(database)
    if not damage.findings:
        return _verification(database, first)
    backup = back_up(database, damaged=True)
    retrained: set[str] = set()
    if damage.file and database.folder is not None:
        with database.errors():
            database.engine.dispose()
            _rebuild(database.folder / "study.db")
        damage = _damage(database)
    for _ in range(_ROUNDS):
        if not damage.findings:
            break
        _move_weights(database, damage.results, backup)
        writer = database.engine.execution_options(writing=True)
        with database.errors(), writer.begin() as connection:
            retrained |= _mend(connection, damage)
        damage = _damage(database)
    if damage.findings:
        raise StoreError(
            f"{database.shown} cannot be repaired: {damage.findings[0]}. The earlier state is kept "
            f"in {backup}; start over with --restart."
        )
    return _verification(database, first, backup=str(backup), retrained=tuple(sorted(retrained)))


def _move_weights(database: Database, run_ids: set[str], backup: str) -> None:
    files = _weights(database)
    for run_id in run_ids if files else ():
        if files and files.path(run_id).exists():
            with database.errors():
                Path(backup, "weights").mkdir(exist_ok=True)
                files.path(run_id).replace(Path(backup, "weights", files.path(run_id).name))


def _mend(connection: sql.Connection, damage: Damage) -> set[str]:
    """Remove what is damaged; return the runs to train again."""
    untrained = set(damage.results)
    mended, removed = _mended_runs(connection, damage.runs)
    for run_id in removed:
        for table in (curves, outcomes, plan_runs):
            connection.execute(table.delete().where(table.c.run_id == run_id))
    for row in damage.runs:
        if row["id"] not in mended:
            connection.execute(runs.delete().where(runs.c.id == row["id"]))
    for number, row in mended.items():
        connection.execute(runs.update().where(runs.c.id == number).values(**row))
        if not row["spec"]:
            untrained.add(row["run_id"])
            place = plan_runs.c.run_id == row["run_id"]
            connection.execute(plan_runs.delete().where(place))
    known = sql.select(runs.c.run_id)
    for table in (curves, outcomes, plan_runs):
        connection.execute(table.delete().where(table.c.run_id.not_in(known)))
    _reset(connection, untrained, damage.stacks)
    if damage.plans or damage.runs:
        _rewrite_plans(connection)
    known_ids = set(connection.scalars(known))
    return (untrained & known_ids) | removed


def _mended_runs(
    connection: sql.Connection, damaged: Sequence[Row]
) -> tuple[dict[int, dict[str, Any]], set[str]]:
    """Return damaged rows of the table of runs, mended, by their number; and runs that are lost.

    The id of a run is the hash of its spec, and a stack has several runs or is named after its one:
    where one of these columns is damaged, the others tell what it was. A spec that is lost is empty
    until the run is planned again.
    """
    numbers = {row["id"] for row in damaged}
    rows = connection.execute(sql.select(runs)).mappings().all()
    stacks = {row["stack"] for row in rows if row["id"] not in numbers}
    mended: dict[int, dict[str, Any]] = {}
    lost: set[str] = set()
    for row in damaged:
        values = {"run_id": row["run_id"], "spec": row["spec"], "stack": row["stack"]}
        alone = ""
        try:
            spec = spec_of(row)
            values["run_id"] = spec.run_id
            engine, _, rest = str(row["stack"]).partition("-")
            alone = "-".join([str(StackId.of(engine, [spec])), *rest.split("-")[1:]])
        except DamagedError:
            values["spec"] = ""
        by_checksum = row["checksum"] == checksum([values[name] for name in COVERED[runs]])
        if by_checksum or (values["run_id"] == row["run_id"] and row["stack"] in {*stacks, alone}):
            mended[row["id"]] = sealed(runs, values)
        else:
            lost.add(row["run_id"])
    return mended, lost


def _reset(connection: sql.Connection, run_ids: set[str], stacks: set[str]) -> None:
    """Delete the results of runs, and the checkpoints with which their stacks would continue.

    Unfinished runs of these stacks start again too; runs that ended keep their results.
    """
    rows = connection.execute(
        sql.select(runs.c.run_id, runs.c.stack, outcomes.c.status, outcomes.c.step)
        .select_from(runs)
        .outerjoin(outcomes, outcomes.c.run_id == runs.c.run_id)
    ).all()
    final = {status.value for status in FINAL}
    stacks = stacks | {row.stack for row in rows if row.run_id in run_ids}
    reset = {row.run_id for row in rows if row.run_id in run_ids or row.status is None}
    reset |= {row.run_id for row in rows if row.stack in stacks and row.status not in final}
    connection.execute(leases.delete())  # so that no process continues what starts again
    known = {row.stack for row in rows}
    for stack in stacks | set(connection.scalars(sql.select(checkpoints.c.stack))) - known:
        connection.execute(checkpoints.delete().where(checkpoints.c.stack == stack))
    stored = {row.run_id for row in rows if row.status is not None}
    for run_id in reset:
        connection.execute(curves.delete().where(curves.c.run_id == run_id))
    replace_rows(connection, outcomes, planned_outcomes(reset & stored))
    insert(connection, outcomes, planned_outcomes(reset - stored))


def _rewrite_plans(connection: sql.Connection) -> None:
    """Store the intact plans again, each with the runs whose places are intact."""
    kept = [row for row in _intact(connection, plans) if _has_study(row)]
    places: defaultdict[int, list[Row]] = defaultdict(list)
    for row in _intact(connection, plan_runs):
        places[row["plan_id"]].append(row)
    connection.execute(plan_runs.delete())
    connection.execute(plans.delete())
    known: set[str] = set()
    for number, plan in enumerate(sorted(kept, key=lambda row: row["id"]), start=1):
        of_plan = sorted(places[plan["id"]], key=lambda row: row["position"])
        known |= {row["run_id"] for row in of_plan}
        changed = {**plan, "id": number, "runs": len(of_plan), "known": len(known)}
        insert(connection, plans, [sealed(plans, changed)])
        insert(
            connection,
            plan_runs,
            (
                sealed(plan_runs, {**row, "plan_id": number, "position": position})
                for position, row in enumerate(of_plan)
            ),
        )
    set_meta(connection, version=str(VERSION), plan=str(len(kept)))


def _has_study(plan: Row) -> bool:
    with suppress(ValueError, TypeError):
        return isinstance(json.loads(plan["study"]), dict)
    return False


def _intact(connection: sql.Connection, table: sql.Table) -> Iterator[Row]:
    for row in connection.execute(sql.select(table)).mappings().all():
        with suppress(DamagedError):
            check(table, row)
            yield row


def _rebuild(file: Path) -> None:
    """Replace a damaged SQLite file by a new one with all rows that can be read.

    Raises:
        StoreError: no row can be read.
    """
    fresh = file.with_name("study.db.rebuilt")
    fresh.unlink(missing_ok=True)
    engine = sqlite_engine(fresh, create=True)
    with engine.begin() as connection:
        metadata.create_all(connection, checkfirst=False)
        set_meta(connection, version=str(VERSION), plan="0")
    engine.dispose()
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(fresh)) as target:
        source.text_factory = target.text_factory = lossless_text
        _mend_schema(source, target)
        counts = [_copy_rows(source, target, table) for table in metadata.sorted_tables]
        target.commit()
        target.execute("PRAGMA journal_mode = DELETE")
    if not sum(counts):
        fresh.unlink()
        raise StoreError(
            f"nothing can be read from {file}; start over with --restart, which keeps it."
        )
    for ending in ("-wal", "-shm"):  # their contents were read with the file
        file.with_name(file.name + ending).unlink(missing_ok=True)
    flush(fresh)
    fresh.replace(file)
    flush(file.parent)


def _mend_schema(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Define the tables of a damaged database as those of a new one, for this connection."""
    with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        source.execute("PRAGMA writable_schema = ON")  # read on past definitions that are damaged
        query = "SELECT rowid, name, sql FROM sqlite_master WHERE type = 'table'"
        for number, name, definition in target.execute(query).fetchall():
            update = "UPDATE sqlite_master SET type = 'table', name = ?, tbl_name = ?, sql = ?"
            values = [name, name, definition]
            if not source.execute(f"{update} WHERE name = ?", [*values, name]).rowcount:
                source.execute(f"{update} WHERE rowid = ?", [*values, number])
        source.execute("PRAGMA writable_schema = RESET")


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: sql.Table) -> int:
    """Copy the rows of a table that can be read; return their number."""
    names = [column.name for column in table.columns]
    marks = ", ".join("?" * len(names))
    statement = f"INSERT OR REPLACE INTO {table.name} ({', '.join(names)}) VALUES ({marks})"
    number = 0
    for row in _readable(source, table.name, names):
        with suppress(sqlite3.Error, UnicodeError):  # a value that no such row can have
            target.execute(statement, row)
            number += 1
    return number


def _readable(
    source: sqlite3.Connection, table: str, names: Sequence[str]
) -> Iterator[Sequence[Any]]:
    """Yield rows from the start up to damage, from the end back to it, and what lies between."""
    select = f"SELECT rowid, {', '.join(names)} FROM {table} NOT INDEXED WHERE rowid"
    low, high = -1, None
    with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        for number, *row in source.execute(f"{select} > ? ORDER BY rowid", [low]):
            yield row
            low = number
        return
    with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
        for number, *row in source.execute(f"{select} > ? ORDER BY rowid DESC", [low]):
            yield row
            high = number
    last = low
    for number in range(low + 1, min(high or low + _LOOKUPS, low + _LOOKUPS)):
        if number - last > _MISSES:
            return
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            for _, *row in source.execute(f"{select} = ?", [number]):
                yield row
                last = number
