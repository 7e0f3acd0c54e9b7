"""The store of a study: append and query, never edit."""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import accumulate, chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.errors import StoreBusyError, StoreError, suggest
from optrial.records.database import Database, find_database
from optrial.records.encoding import decode_checkpoint, decode_curve, encode_checkpoint, strict
from optrial.records.record import Curve, PlannedRun, Progress, Record, Segment
from optrial.records.rows import (
    COVERED,
    DamagedError,
    Latest,
    as_json,
    check,
    check_values,
    curve_rows,
    decoding,
    latest_of,
    name_of,
    now,
    outcome_rows,
    plan_run_row,
    planned_outcome,
    run_row,
    sealed,
)
from optrial.records.schema import (
    VERSION,
    checkpoints,
    curves,
    meta,
    metadata,
    outcomes,
    plan_runs,
    plans,
)
from optrial.records.schema import runs as all_runs
from optrial.records.texts import TextReader
from optrial.spec import ENDED, FINAL, StackId, Status

__all__ = ["Store", "insert", "replace_rows", "set_meta"]

JOURNAL_SECONDS = 10.0
"""Longest time that commits of a stack are in SQLite's write-ahead log alone."""

IDS_PER_QUERY = 10_000  # below the limit on parameters of either database

LATEST_PLAN = (
    sql.select(sql.func.max(plan_runs.c.plan_id))
    .where(plan_runs.c.run_id == all_runs.c.run_id)
    .correlate(all_runs)
    .scalar_subquery()
)


ENDS = sql.select(outcomes.c.run_id, outcomes.c.latest)
"""Query of the ends of the curves of each run."""


class Store:
    """Records of one study, in a folder or on a PostgreSQL server.

    One process at a time writes, holding `lock`; any number may read. Every method raises
    `StoreError` when the database fails, with a message of one line that suggests a remedy.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._journal_moved_at = time.monotonic()
        self._writer = database.engine.execution_options(writing=True)

    @classmethod
    def open(cls, location: str | Path, *, create: bool = False) -> Store:
        """Open the store of a study.

        Args:
            location: a study folder, whose store is ``FOLDER/study.db``, or a URL
                ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.
            create: create the folder and an empty store if they do not exist.

        Raises:
            StoreError: the store does not exist, is not one that this version reads, or cannot be
                reached.
        """
        store = cls(find_database(location, create=create))
        with ExitStack() as on_failure:
            on_failure.callback(store.close)
            if create:
                store._create()
            store._check_version()
            on_failure.pop_all()
        return store

    def _create(self) -> None:
        with self._writing() as connection:
            if not sql.inspect(connection).has_table("meta"):
                metadata.create_all(connection, checkfirst=False)
                set_meta(connection, version=str(VERSION), plan="0")

    def _check_version(self) -> None:
        with self._reading() as connection:
            if not sql.inspect(connection).has_table("meta"):
                raise StoreError(
                    f"no study is stored in {self.shown}. Check the location, or make "
                    "one with: optrial run STUDY --out LOCATION"
                )
            version = connection.scalar(sql.select(meta.c.value).where(meta.c.key == "version"))
        if version != str(VERSION):
            older = str(version).isdecimal() and int(str(version)) < VERSION
            way_out = (
                "Train into another folder, start over with --restart, which keeps it, or install "
                "the optrial that wrote it."
                if older
                else "Upgrade: pip install --upgrade optrial"
            )
            raise StoreError(
                f"{self.shown} holds a store of version {version}; this optrial reads "
                f"version {VERSION}. {way_out}"
            )

    @property
    def location(self) -> str:
        """Folder or URL of the store, as `open` takes it."""
        return self._database.location

    @property
    def shown(self) -> str:
        """Location of the store to show in messages, without password."""
        return self._database.shown

    def close(self) -> None:
        """Close every connection."""
        self._database.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        with self._database.errors(), self._database.engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        """Open a transaction: everything in it is stored, or nothing."""
        with self._database.errors(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make this process the only writer; a killed process leaves no lock behind.

        Raises:
            StoreBusyError: another process is the writer; the message names it.
        """
        with ExitStack() as held:
            with self._database.errors():
                if not held.enter_context(self._database.writer_lock()):
                    raise StoreBusyError(
                        f"{self.shown}: {self._writer_name()} is training into it. Wait "
                        "until it is done, stop it, or train into another folder."
                    )
            with self._writing() as connection:
                set_meta(connection, writer=f"process {os.getpid()} on {socket.gethostname()}")
            yield
            with suppress(StoreError):  # the file stays larger than it has to be
                self._database.shrink()

    def _writer_name(self) -> str:
        with self._reading() as connection:
            name = connection.scalar(sql.select(meta.c.value).where(meta.c.key == "writer"))
        return name or "another process"

    def save_plan(
        self, plan_hash: str, study: Mapping[str, Any], runs: Sequence[PlannedRun]
    ) -> None:
        """Make this plan the current one, unless it already is.

        Runs that are already stored keep their results and their stack: the stacks of a study are
        fixed when it first starts.

        Args:
            plan_hash: content hash of the plan.
            study: the study after defaults, JSON-able.
            runs: the runs of the plan, in the order in which they are listed.
        """
        run_ids = [run.run_id for run in runs]
        with self._writing() as connection:
            current = _current_plan(connection)
            if current is not None and (
                (current["hash"], json.loads(current["study"])) == (plan_hash, strict(study))
                and _planned_ids(connection, current) == run_ids
            ):
                return
            known = set(connection.scalars(sql.select(all_runs.c.run_id)))
            added = [run for run in runs if run.run_id not in known]
            planned = set(connection.scalars(sql.select(plan_runs.c.run_id).distinct()))
            ended = sql.select(sql.func.count()).where(outcomes.c.status.in_(sorted(ENDED)))
            number = 1 if current is None else int(current["id"]) + 1
            plan = {
                "id": number,
                "hash": plan_hash,
                "study": as_json(study),
                "runs": len(runs),
                "known": len(planned.union(run_ids)),
                "ended": connection.scalar(ended),
                "saved_at": now(),
            }
            insert(connection, plans, [sealed(plans, plan)])
            insert(connection, all_runs, map(run_row, added))
            _fill_in(connection, runs)
            insert(connection, outcomes, [planned_outcome(run.run_id) for run in added])
            places = [plan_run_row(number, place, run) for place, run in enumerate(runs)]
            insert(connection, plan_runs, places)
            set_meta(connection, plan=str(number))

    def study(self) -> dict[str, Any]:
        """Return the study of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            plan = _current_plan(connection)
            return {} if plan is None else _decoded_study(plan)

    def plan_hash(self) -> str:
        """Return the hash of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            plan = _current_plan(connection)
            return "" if plan is None else plan["hash"]

    def plans(self) -> list[tuple[dict[str, Any], int]]:
        """Return the study of every plan, oldest first, and how many runs had ended before it."""
        with self._reading() as connection:
            rows = connection.execute(sql.select(plans).order_by(plans.c.id)).mappings().all()
            for row in rows:
                check(plans, row)
            if rows and [row["id"] for row in rows] != _plan_ids(connection):
                raise DamagedError("a plan is missing")
            return [(_decoded_study(row), row["ended"]) for row in rows]

    def runs(self, *, everything: bool = False) -> list[Record]:
        """Return the runs of the current plan, in its order.

        Args:
            everything: also return the runs that only earlier plans contain, as described by the
                latest of these plans.
        """
        with self._reading() as connection:
            plan = _current_plan(connection)
            if plan is None:
                return []
            query = _run_query(plan["id"], everything)
            streaming = connection.execution_options(yield_per=1_000)
            with streaming.execute(query) as rows:  # a server keeps a cursor until it is closed
                runs = _records(rows)
            if len(runs) != plan["known" if everything else "runs"]:
                raise DamagedError("runs are missing")
            if everything:
                _check_sizes(connection)
            return runs

    def runs_of(self, run_ids: Sequence[str]) -> list[Record]:
        """Return the runs with these ids, of any plan, as the latest of their plans has them."""
        with self._reading() as connection:
            plan = _current_plan(connection)
            query = _run_query(plan["id"] if plan else 0, everything=True)
            rows: list[sql.Row[Any]] = []
            for start in range(0, len(run_ids), IDS_PER_QUERY):
                some = all_runs.c.run_id.in_(run_ids[start : start + IDS_PER_QUERY])
                rows += connection.execute(query.where(some))
            if len(rows) != len(set(run_ids)):
                raise DamagedError("runs are missing")
            return _records(rows)

    def progress(self) -> dict[str, Progress]:
        """Return how far each run of any plan has come, by its id."""
        columns = (all_runs.c.run_id, all_runs.c.stack, outcomes.c.status, outcomes.c.step)
        outcome = outcomes.c.run_id == all_runs.c.run_id
        query = sql.select(*columns).join(outcomes, outcome, isouter=True).order_by(all_runs.c.id)
        reader = TextReader()
        with self._reading() as connection, decoding("the outcome of a run"):
            return {
                run_id: Progress(run_id, reader.stack(stack), Status(status), step)
                for run_id, stack, status, step in connection.execute(query)
            }

    def commit(
        self,
        segments: Sequence[Segment],
        stack: StackId,
        checkpoint: Mapping[str, NDArray[Any]] | None,
        attempt: str | None = None,
    ) -> None:
        """Append the progress of a stack and replace its checkpoint, in one transaction.

        Args:
            segments: the progress of each run.
            stack: the stack of these runs.
            checkpoint: arrays from which training continues; None deletes the stored checkpoint.
            attempt: see `set_attempt`; None leaves it as it is.

        Raises:
            StoreError: a run is not part of any plan, or a step of a curve is already stored.
        """
        parts = [] if checkpoint is None else encode_checkpoint(checkpoint)
        with self._writing() as connection:
            latest = _latest(connection, [segment.run_id for segment in segments])
            parts_of_curves: list[dict[str, Any]] = []
            for segment in segments:
                self._check_segment(segment, latest)
                latest[segment.run_id] = latest_of(segment, latest[segment.run_id])
                parts_of_curves += curve_rows(segment.run_id, segment.curves)
            insert(connection, curves, parts_of_curves)
            replace_rows(connection, outcomes, outcome_rows(segments, latest))
            connection.execute(checkpoints.delete().where(checkpoints.c.stack == str(stack)))
            numbered = [
                sealed(checkpoints, {"stack": str(stack), "part": part, "data": data})
                for part, data in enumerate(parts)
            ]
            insert(connection, checkpoints, numbered)
            if attempt is not None:
                set_meta(connection, attempt=attempt)
        if checkpoint is None or time.monotonic() - self._journal_moved_at > JOURNAL_SECONDS:
            self._database.move_journal()
            self._journal_moved_at = time.monotonic()

    def digest(self) -> str:
        """Return a text that changes with every change of a plan, a run, an outcome or a curve."""
        counts = []
        with self._reading() as connection:
            current = _current_plan(connection)
            for table in (plans, all_runs, plan_runs, outcomes, curves):
                query = sql.select(sql.func.count(), sql.func.sum(table.c.checksum))
                rows, total = connection.execute(query.select_from(table)).one()
                counts.append(f"{table.name} {rows} {int(total or 0)}")
        return f"plan {current['id'] if current else 0}, {', '.join(counts)}"

    def attempt(self) -> str:
        """Return the last argument of `set_attempt`; empty if there was none."""
        return self._entry("attempt")

    def page(self) -> str:
        """Return the last argument of `set_page`; empty if there was none."""
        return self._entry("page")

    def set_page(self, note: str) -> None:
        """Keep a note on the page that was last written of this store."""
        with self._writing() as connection:
            set_meta(connection, page=note)

    def _entry(self, key: str) -> str:
        with self._reading() as connection:
            return connection.scalar(sql.select(meta.c.value).where(meta.c.key == key)) or ""

    def set_attempt(self, attempt: str) -> None:
        """Remember the work under way, of which nothing is stored yet.

        Args:
            attempt: `optrial.attempts.Attempt` as text; empty for none.
        """
        with self._writing() as connection:
            set_meta(connection, attempt=attempt)

    def _check_segment(self, segment: Segment, latest: Mapping[str, Any]) -> None:
        """Refuse a segment that does not continue a planned run where it stopped."""
        if segment.run_id not in latest:
            raise StoreError(
                f"{self.shown}: run '{segment.run_id}' is not part of any plan. Save the "
                "plan first."
            )
        before = latest[segment.run_id]
        for metric, curve in segment.curves.items():
            if metric in before and len(curve) and curve.steps[0] <= before[metric][0]:
                raise StoreError(
                    f"{self.shown}: step {curve.steps[0]} of '{metric}' of run "
                    f"'{segment.run_id}' is already stored, up to step {before[metric][0]}. "
                    "Continue a run from its checkpoint."
                )

    def restack(self, stacks: Mapping[StackId, Sequence[str]]) -> None:
        """Move runs to other stacks, where they start again from their first step.

        The numbers of a run depend on its stack. The results of the runs and the checkpoints of
        the stacks they leave are therefore deleted, all in one transaction.

        Args:
            stacks: run ids by new stack; together, all unfinished runs of the old stacks.

        Raises:
            StoreError: a run is done or has diverged; its numbers are final.
        """
        stack_of = {run_id: stack for stack, run_ids in stacks.items() for run_id in run_ids}
        with self._writing() as connection:
            final = sql.select(outcomes.c.run_id).where(outcomes.c.status.in_(sorted(FINAL)))
            if ended := set(connection.scalars(final)) & stack_of.keys():
                raise StoreError(f"run {min(ended)} has ended; its stack is part of its numbers.")
            query = sql.select(all_runs).where(all_runs.c.run_id.in_(stack_of))
            rows = connection.execute(query).mappings().all()
            for row in rows:
                check(all_runs, row)
            left = {row["stack"] for row in rows}
            connection.execute(checkpoints.delete().where(checkpoints.c.stack.in_(left)))
            connection.execute(curves.delete().where(curves.c.run_id.in_(stack_of)))
            replace_rows(connection, outcomes, [planned_outcome(run_id) for run_id in stack_of])
            moved = [
                sealed(all_runs, {**row, "stack": str(stack_of[row["run_id"]])}) for row in rows
            ]
            replace_rows(connection, all_runs, moved)

    def checkpoint(self, stack: StackId) -> dict[str, NDArray[Any]] | None:
        """Return the arrays from which the training of a stack continues, or None.

        Nothing is unpickled.
        """
        query = sql.select(checkpoints).where(checkpoints.c.stack == str(stack))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(checkpoints.c.part)).mappings().all()
            for row in rows:
                check(checkpoints, row)
            if not rows and _has_unfinished(connection, stack):
                raise DamagedError(f"stack {stack}: its checkpoint is missing")
            with decoding(f"stack {stack}: its checkpoint"):
                return decode_checkpoint(row["data"] for row in rows) if rows else None

    def metrics(self) -> list[str]:
        """Return the names of all metrics that have a stored curve, in alphabetical order."""
        with self._reading() as connection:
            stored = set(connection.scalars(sql.select(curves.c.metric).distinct()))
            ended = set()
            for run_id, text in connection.execute(ENDS):
                with decoding(f"run {run_id}: its outcome"):
                    ended |= json.loads(text).keys()
            if stored != ended:
                names = sorted(str(name) for name in stored ^ ended)
                raise DamagedError(f"curves are damaged or missing: {', '.join(names[:3])}")
            return sorted(stored)

    def curve(self, run_id: str, metric: str) -> Curve:
        """Return one metric of one run; empty if the run has no values of it.

        Raises:
            StoreError: the store holds no such run, or no such metric.
        """
        if curves_of_run := self.curves(metric, [run_id]):
            return curves_of_run[run_id, metric]
        if metric not in (known := self.metrics()):
            raise StoreError(f"{self.shown} holds no metric '{metric}'. {suggest(metric, known)}")
        if run_id not in {run.run_id for run in self.runs(everything=True)}:
            raise StoreError(f"{self.shown} holds no run '{run_id}'. List them with: optrial runs")
        return Curve(np.empty(0, np.int64), np.empty(0))

    def curves(
        self, metric: str | None = None, run_ids: Sequence[str] | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of many runs at once, by run id and metric.

        Args:
            metric: only this metric; by default all.
            run_ids: only these runs, in this order; by default those of the current plan.
        """
        columns = [curves.c[name] for name in (*COVERED[curves], "checksum")]
        parts = sql.select(*columns).order_by(curves.c.run_id, curves.c.metric, curves.c.first_step)
        if metric is not None:
            parts = parts.where(curves.c.metric == metric)
        rows: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
        latest: dict[str, Latest] = {}
        with self._reading() as connection:
            plan = _current_plan(connection) if run_ids is None else None
            wanted = _planned_ids(connection, plan) if run_ids is None else list(run_ids)
            for start in range(0, len(wanted), IDS_PER_QUERY):
                ids = wanted[start : start + IDS_PER_QUERY]
                for row in connection.execute(parts.where(curves.c.run_id.in_(ids))):
                    check_values(curves, row[:-1], row[-1])
                    part = dict(zip(COVERED[curves], row, strict=False))
                    rows[part["run_id"], part["metric"]].append(part)
                for run_id, text in connection.execute(ENDS.where(outcomes.c.run_id.in_(ids))):
                    with decoding(f"run {run_id}: its outcome"):
                        latest[run_id] = dict(json.loads(text))
        ends_of = {
            (run_id, name): end
            for run_id in wanted
            for name, end in sorted(latest.get(run_id, {}).items())
            if metric in (None, name)
        }
        with self._database.errors():
            if unknown := rows.keys() - ends_of.keys():
                run_id, name = min(unknown)
                raise DamagedError(f"run {run_id}: its outcome lacks {name}")
            known: dict[bytes, NDArray[np.int64]] = {}
            return {
                key: _whole_curve(*key, rows.pop(key, ()), end, known)
                for key, end in ends_of.items()
            }


def _current_plan(connection: sql.Connection) -> sql.RowMapping | None:
    """Return the row of the current plan; None before any plan is saved."""
    stored = sql.select(meta).where(meta.c.key == "plan")
    entry = connection.execute(stored).mappings().one_or_none()
    if entry is None:
        raise DamagedError("the number of the current plan is missing")
    check(meta, entry)
    number = int(entry["value"])
    if not number:
        return None
    plan = connection.execute(sql.select(plans).where(plans.c.id == number)).mappings()
    row = plan.one_or_none()
    if row is None:
        raise DamagedError(f"plan {number} is missing")
    check(plans, row)
    return row


def _plan_ids(connection: sql.Connection) -> list[int]:
    """Return the numbers of all plans: 1, 2, ..."""
    current = _current_plan(connection)
    return [] if current is None else list(range(1, current["id"] + 1))


def _planned_ids(connection: sql.Connection, plan: sql.RowMapping | None) -> list[str]:
    """Return the runs of a plan in its order; none without a plan."""
    if plan is None:
        return []
    query = sql.select(plan_runs).where(plan_runs.c.plan_id == plan["id"])
    rows = connection.execute(query.order_by(plan_runs.c.position)).mappings().all()
    for row in rows:
        check(plan_runs, row)
    if len(rows) != plan["runs"]:
        raise DamagedError("runs are missing")
    return [row["run_id"] for row in rows]


def _check_sizes(connection: sql.Connection) -> None:
    """Compare the number of runs of every plan with the number that the plan gives."""
    places = (
        sql.select(plan_runs.c.plan_id, sql.func.count())
        .join(all_runs, all_runs.c.run_id == plan_runs.c.run_id)
        .group_by(plan_runs.c.plan_id)
    )
    sizes = {row[0]: row[1] for row in connection.execute(places)}
    for row in connection.execute(sql.select(plans)).mappings():
        check(plans, row)
        if sizes.get(row["id"], 0) != row["runs"]:
            raise DamagedError(f"plan {row['id']} lacks runs")


def _has_unfinished(connection: sql.Connection, stack: StackId) -> bool:
    """Return whether a run of a stack has started and not ended."""
    query = (
        sql.select(outcomes.c.run_id)
        .join(all_runs, outcomes.c.run_id == all_runs.c.run_id)
        .where(all_runs.c.stack == str(stack), outcomes.c.status == Status.INTERRUPTED.value)
    )
    return connection.execute(query.limit(1)).first() is not None


def _decoded_study(plan: sql.RowMapping) -> dict[str, Any]:
    with decoding(name_of(plans, plan)):
        return dict(json.loads(plan["study"]))


_OF_A_RUN = {table: (*COVERED[table], "checksum") for table in (all_runs, outcomes, plan_runs)}
"""The tables, and their columns, that make the record of a run."""

_LAST = list(accumulate(len(names) for names in _OF_A_RUN.values()))
_PLACES = {
    table: (last - len(names), last - 1)
    for (table, names), last in zip(_OF_A_RUN.items(), _LAST, strict=True)
}
"""Places of the covered columns of each table in a row of `_run_query`; the checksum follows."""

_NAMED = {name: place for place, name in enumerate(chain(*_OF_A_RUN.values()))}
_columns = itemgetter(
    *(
        _NAMED[name]
        for name in (
            *("run_id", "problem", "spec", "setting", "stack", "phase"),
            *("status", "step", "reason", "facts"),
        )
    )
)
_OUTCOME_OF, _PLACE_OF = (
    _PLACES[table][0] + COVERED[table].index("run_id") for table in (outcomes, plan_runs)
)
"""Places of the run ids of an outcome and of a place in a plan."""

_latest_text = itemgetter(_NAMED["latest"])
_position = itemgetter(_NAMED["position"])


def _run_query(plan_id: int, everything: bool) -> sql.Select[Any]:
    """Return the query of `_OF_A_RUN` and the place of a run: one row per run, in any order.

    The database would sort whole rows, of several kB each.
    """
    columns = [table.c[name] for table, names in _OF_A_RUN.items() for name in names]
    plan = LATEST_PLAN if everything else plan_id
    place = sql.and_(plan_runs.c.run_id == all_runs.c.run_id, plan_runs.c.plan_id == plan)
    return (
        sql.select(
            *(column.label(f"column{n}") for n, column in enumerate(columns)),
            plan_runs.c.plan_id == plan_id,
            all_runs.c.id,
        )
        .select_from(all_runs)
        .join(plan_runs, place)
        .join(outcomes, outcomes.c.run_id == all_runs.c.run_id)
    )


def _records(rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Return records from rows of `_run_query`, in the order of the plan, then of storing.

    Those of one problem have the same metrics.
    """
    reader = TextReader()
    entries: list[tuple[bool, int, Record, dict[str, float | None]]] = []
    with _collecting_no_garbage():
        for row in rows:
            for table, (first, last) in _PLACES.items():
                check_values(table, row[first:last], row[last])
            if not row[0] == row[_OUTCOME_OF] == row[_PLACE_OF]:
                raise DamagedError(f"run {row[0]}: an index of the database is damaged")
            with decoding(f"run {row[0]}"):
                ends = json.loads(_latest_text(row)).items()
                final = {sys.intern(metric): value for metric, (_, value, _) in ends}
                record = _record(row, reader, final)
            current, number = row[-2:]
            entries.append((not current, _position(row) if current else number, record, final))
    entries.sort(key=itemgetter(0, 1))
    metrics: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for _, _, record, final in entries:
        metrics[record.problem] |= dict.fromkeys(final)
    names = {problem: list(known) for problem, known in metrics.items()}
    for _, _, record, final in entries:
        if record.status is not Status.DONE:
            final.clear()
        if list(final) != names[record.problem]:
            known = dict(final)
            final.clear()
            final.update((name, known.get(name)) for name in names[record.problem])
    return [record for _, _, record, _ in entries]


@contextmanager
def _collecting_no_garbage() -> Iterator[None]:
    """Pause the collection of reference cycles, which would visit every record again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _record(row: Sequence[Any], reader: TextReader, metrics: Mapping[str, float | None]) -> Record:
    """Return the record of a row of `_run_query`."""
    run_id, problem, spec, setting, stack, phase, status, step, reason, facts = _columns(row)
    return Record(
        run_id=run_id,
        problem=sys.intern(problem),
        spec=reader.spec(spec),
        setting=sys.intern(setting),
        stack=reader.stack(stack),
        phase=phase,
        status=Status(status),
        step=step,
        reason=sys.intern(reason),
        facts=reader.facts(facts),
        metrics=metrics,
    )


def insert(connection: sql.Connection, table: sql.Table, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows into a table."""
    if rows := list(rows):
        connection.execute(table.insert(), rows)


def replace_rows(
    connection: sql.Connection, table: sql.Table, rows: Sequence[dict[str, Any]]
) -> None:
    """Replace rows of a table with one row per run."""
    if rows:
        update = table.update().where(table.c.run_id == sql.bindparam("replaced"))
        connection.execute(update, [{**row, "replaced": row["run_id"]} for row in rows])


def set_meta(connection: sql.Connection, **entries: str) -> None:
    """Replace entries of the table meta."""
    connection.execute(meta.delete().where(meta.c.key.in_(entries)))
    rows = [sealed(meta, {"key": key, "value": value}) for key, value in entries.items()]
    insert(connection, meta, rows)


def _fill_in(connection: sql.Connection, runs: Sequence[PlannedRun]) -> None:
    """Store the specs of runs that a repair left empty; such a run keeps its stack."""
    query = sql.select(all_runs.c.run_id, all_runs.c.stack).where(all_runs.c.spec == "")
    stack_of = {row.run_id: row.stack for row in connection.execute(query)}
    rows = [
        run_row(replace(run, stack=StackId.parse(stack_of[run.run_id])))
        for run in runs
        if run.run_id in stack_of
    ]
    replace_rows(connection, all_runs, rows)


def _latest(connection: sql.Connection, run_ids: Sequence[str]) -> dict[str, Latest]:
    """Return the ends of the curves of each stored run."""
    latest: dict[str, Latest] = {}
    query = sql.select(outcomes).where(outcomes.c.run_id.in_(run_ids))
    for row in connection.execute(query).mappings():
        check(outcomes, row)
        with decoding(name_of(outcomes, row)):
            latest[row["run_id"]] = dict(json.loads(row["latest"]))
    return latest


def _whole_curve(
    run_id: str,
    metric: str,
    rows: Sequence[Mapping[str, Any]],
    end: Any,
    known: dict[bytes, NDArray[np.int64]],
) -> Curve:
    """Return a curve from the rows of its parts.

    Args:
        run_id: the run.
        metric: the metric.
        rows: the rows in the order of their steps.
        end: last step, last value and number of points that the outcome of the run gives.
        known: see `decode_curve`.

    Raises:
        DamagedError: a part is missing or cannot be decoded.
    """
    with decoding(f"run {run_id}: {metric}"):
        curve = decode_curve(rows, known) if rows else Curve(np.empty(0, np.int64), np.empty(0))
        last = int(curve.steps[-1]) if len(curve) else 0
        if not len(curve) or (last, len(curve)) != (end[0], end[2]):
            raise DamagedError(f"run {run_id}: parts of {metric} are missing")
        return curve
