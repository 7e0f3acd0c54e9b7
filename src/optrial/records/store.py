"""The store of a study: append and query, never edit."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.errors import StoreBusyError, StoreError, suggest
from optrial.garbage import collecting_no_garbage
from optrial.records.database import Database, FileInPlace, find_database
from optrial.records.encoding import decode_checkpoint, encode_checkpoint
from optrial.records.leases import GRACE_PERIOD, HEARTBEAT_INTERVAL, Check, Claim, Leases
from optrial.records.queries import (
    ENDS,
    IDS_PER_QUERY,
    check_sizes,
    current_plan,
    decoded_study,
    ends_of_curves,
    fill_in,
    has_unfinished,
    insert,
    is_plan,
    latest_ends,
    parts_of_curves,
    plan_ids,
    planned_ids,
    records_of,
    replace_rows,
    run_query,
    set_meta,
    whole_curve,
)
from optrial.records.record import Curve, PlannedRun, Progress, Record, Segment
from optrial.records.rows import (
    DamagedError,
    as_json,
    check,
    curve_rows,
    decoding,
    latest_of,
    now,
    outcome_rows,
    plan_run_row,
    planned_outcomes,
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
from optrial.records.upgrade import check_version, upgraded
from optrial.spec import ENDED, StackId, Status

__all__ = ["Store"]

JOURNAL_SECONDS = 10.0
"""Longest time that commits of a stack are in SQLite's write-ahead log alone."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _unchecked(connection: sql.Connection) -> bool:
    del connection
    return True


def _persistent(
    method: Callable[Concatenate[Store, Arguments], Answer],
) -> Callable[Concatenate[Store, Arguments], Answer]:
    """Repeat a method after a lost connection while this process trains into a server."""

    @wraps(method)
    def repeated(self: Store, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        work = partial(method, self, *args, **kwargs)
        return self._leases.persist(work) if self._leases else work()

    return repeated


class Store:
    """Records of one study, in a folder or on a PostgreSQL server.

    A process that writes holds `lock`; any number may read. Every method raises
    `StoreError` when the database fails, with a message of one line that suggests a remedy.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._journal_moved_at = time.monotonic()
        self._writer = database.engine.execution_options(writing=True)
        self._leases: Leases | None = None  # while this process trains into a server
        self._file: FileInPlace | None = None  # while this process is the only writer

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        create: bool = False,
        tell: Callable[[str], object] = lambda note: None,  # noqa: ARG005
    ) -> Store:
        """Open the store of a study.

        Args:
            location: a study folder, whose store is ``FOLDER/study.db``, or a URL
                ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``.
            create: open the store to write to it: create the folder and an empty store if they do
                not exist, and upgrade the store of an older version.
            tell: called with the note of an upgrade.

        Raises:
            StoreError: the store does not exist, is not one that this version reads, or cannot be
                reached.
        """
        store = cls(find_database(location, create=create))
        with ExitStack() as on_failure:
            on_failure.callback(store.close)
            if create:
                store._create()
                if note := upgraded(store._database):
                    tell(note)
            check_version(store._database)
            on_failure.pop_all()
        return store

    def _create(self) -> None:
        with self._database.errors(), self._database.creation() as connection:
            if not sql.inspect(connection).has_table("meta"):
                metadata.create_all(connection, checkfirst=False)
                set_meta(connection, version=str(VERSION), plan="0")

    @property
    def location(self) -> str:
        """Folder or URL of the store, as `open` takes it."""
        return self._database.location

    @property
    def sources(self) -> dict[str, str]:
        """Empty, because this is the store of one study; see `StoreReader`."""
        return {}

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
        with self._database.errors():
            with self._writer.begin() as connection:
                yield connection
            if self._file:
                self._file.check()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make this process the only writer; a killed process leaves no lock behind.

        Raises:
            StoreBusyError: another process is a writer; the message names it.
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
            self._file = FileInPlace(self._database.folder, self.shown)
            try:
                yield
            finally:
                self._file = None
            with suppress(StoreError):  # the file stays larger than it has to be
                self._database.shrink()

    @property
    def on_server(self) -> bool:
        """True if several processes may write, each to the stacks that it has claimed."""
        return self._database.folder is None

    @contextmanager
    def share(
        self,
        *,
        heartbeat_interval: float = HEARTBEAT_INTERVAL,
        grace_period: float = GRACE_PERIOD,
        tell: Callable[[str], object] = lambda text: None,  # noqa: ARG005
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Make this process one of several writers into a server.

        It must `claim` the stacks that it trains, and it waits for a server that does not answer.

        Args:
            heartbeat_interval: seconds between two signs of life.
            grace_period: seconds without a sign of life after which others may take its stacks.
            tell: called with a line about a server that does not answer.
            stopping: asked while the process waits for a server; if it returns True, it gives up.

        Raises:
            StoreBusyError: another process is the only writer.
        """
        leases = Leases(self._database, heartbeat_interval, grace_period, tell, stopping)
        with leases:
            self._leases = leases
            try:
                yield
            finally:
                self._leases = None

    def _writer_name(self) -> str:
        with self._reading() as connection:
            name = connection.scalar(sql.select(meta.c.value).where(meta.c.key == "writer"))
        return name or "another process"

    @contextmanager
    def planning(self) -> Iterator[None]:
        """Keep other processes from changing the plan; on a server, first wait until none does."""
        with self._leases.planning() if self._leases else nullcontext():
            yield

    def claim(self, stacks: Sequence[StackId], statuses: Collection[Status]) -> Claim | None:
        """Claim the first stack that no other process trains.

        Args:
            stacks: stacks in order of preference.
            statuses: on a server, statuses of runs that are left to be trained; a stack without
                such runs is left out, because another process has trained it.

        Returns:
            The claim; None if no stack is free.
        """
        if self._leases is not None:
            return self._leases.claim(stacks, statuses)
        return Claim(stacks[0], 0) if stacks else None

    def release(self, stack: StackId) -> None:
        """Return a claim, so that other processes may train what is left of the stack."""
        if self._leases is not None:
            self._leases.release([stack])

    def _committing(self, stack: StackId) -> AbstractContextManager[Check]:
        return self._leases.committing(stack) if self._leases else nullcontext(_unchecked)

    def _ending(self, stacks: Collection[StackId]) -> AbstractContextManager[Check]:
        return self._leases.ending(stacks) if self._leases else nullcontext(_unchecked)

    @_persistent
    def has_plan(self, plan_hash: str, study: Mapping[str, Any], run_ids: Sequence[str]) -> bool:
        """Return whether this plan is the current one; see `save_plan` for the arguments."""
        with self._reading() as connection:
            return is_plan(connection, current_plan(connection), plan_hash, study, run_ids)

    @_persistent
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
        with collecting_no_garbage(), self._writing() as connection:
            current = current_plan(connection)
            if is_plan(connection, current, plan_hash, study, run_ids):
                return
            if current is not None and current["hash"] != plan_hash:
                self._check_alone()
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
            fill_in(connection, runs)
            insert(connection, outcomes, planned_outcomes(run.run_id for run in added))
            places = [plan_run_row(number, place, run) for place, run in enumerate(runs)]
            insert(connection, plan_runs, places)
            set_meta(connection, plan=str(number))

    def is_alone(self) -> bool:
        """Return whether no other process writes."""
        return self._leases is None or self._leases.alone()

    def _check_alone(self) -> None:
        """Refuse to change the study while other processes train it."""
        if not self.is_alone():
            raise StoreBusyError(
                f"{self.shown}: other processes are training another study into it, or an earlier "
                "version of this one. Wait until they are done, stop them, or use another database."
            )

    @_persistent
    def study(self) -> dict[str, Any]:
        """Return the study of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            plan = current_plan(connection)
            return {} if plan is None else decoded_study(plan)

    @_persistent
    def plan_hash(self) -> str:
        """Return the hash of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            plan = current_plan(connection)
            return "" if plan is None else plan["hash"]

    def plans(self) -> list[tuple[dict[str, Any], int]]:
        """Return the study of every plan, oldest first, and how many runs had ended before it."""
        with self._reading() as connection:
            rows = connection.execute(sql.select(plans).order_by(plans.c.id)).mappings().all()
            for row in rows:
                check(plans, row)
            if rows and [row["id"] for row in rows] != plan_ids(connection):
                raise DamagedError("a plan is missing")
            return [(decoded_study(row), row["ended"]) for row in rows]

    @_persistent
    def runs(self, *, everything: bool = False) -> list[Record]:
        """Return the runs of the current plan, in its order.

        Args:
            everything: also return the runs that only earlier plans contain, as described by the
                latest of these plans.
        """
        with self._reading() as connection:
            plan = current_plan(connection)
            if plan is None:
                return []
            query = run_query(plan["id"], everything)
            streaming = connection.execution_options(yield_per=1_000)
            with streaming.execute(query) as rows:  # a server keeps a cursor until it is closed
                runs = records_of(rows, self._database.errors)
            if len(runs) != plan["known" if everything else "runs"]:
                raise DamagedError("runs are missing")
            if everything:
                check_sizes(connection)
            return runs

    @_persistent
    def has_former_runs(self) -> bool:
        """Return whether earlier plans contain runs that the current one lacks."""
        with self._reading() as connection:
            plan = current_plan(connection)
            return plan is not None and plan["known"] > plan["runs"]

    @_persistent
    def runs_of(self, run_ids: Sequence[str]) -> list[Record]:
        """Return the runs with these ids, of any plan, as the latest of their plans has them."""
        with self._reading() as connection:
            plan = current_plan(connection)
            query = run_query(plan["id"] if plan else 0, everything=True)
            rows: list[sql.Row[Any]] = []
            for start in range(0, len(run_ids), IDS_PER_QUERY):
                some = all_runs.c.run_id.in_(run_ids[start : start + IDS_PER_QUERY])
                rows += connection.execute(query.where(some))
            if len(rows) != len(set(run_ids)):
                raise DamagedError("runs are missing")
            return records_of(rows, self._database.errors)

    @_persistent
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
        with self._committing(stack) as is_new:
            self._commit(segments, stack, checkpoint, attempt, is_new)
        if checkpoint is None or time.monotonic() - self._journal_moved_at > JOURNAL_SECONDS:
            self._database.move_journal()
            self._journal_moved_at = time.monotonic()

    @_persistent
    def _commit(
        self,
        segments: Sequence[Segment],
        stack: StackId,
        checkpoint: Mapping[str, NDArray[Any]] | None,
        attempt: str | None,
        is_new: Check,
    ) -> None:
        with self._writing() as connection:
            if not is_new(connection):
                return
            latest = latest_ends(connection, [segment.run_id for segment in segments])
            parts_of_curves: list[dict[str, Any]] = []
            for segment in segments:
                self._check_segment(segment, latest)
                latest[segment.run_id] = latest_of(segment, latest[segment.run_id])
                parts_of_curves += curve_rows(segment.run_id, segment.curves)
            insert(connection, curves, parts_of_curves)
            replace_rows(connection, outcomes, outcome_rows(segments, latest))
            connection.execute(checkpoints.delete().where(checkpoints.c.stack == str(stack)))
            parts = () if checkpoint is None else encode_checkpoint(checkpoint)
            for part, data in enumerate(parts):
                row = {"stack": str(stack), "part": part, "data": data}
                insert(connection, checkpoints, [sealed(checkpoints, row)])
            if attempt is not None and self._leases is None:  # leases count deaths themselves
                set_meta(connection, attempt=attempt)

    def digest(self) -> str:
        """Return a text that changes with every change of a plan, a run, an outcome or a curve."""
        counts = []
        with self._reading() as connection:
            current = current_plan(connection)
            for table in (plans, all_runs, plan_runs, outcomes, curves):
                query = sql.select(sql.func.count(), sql.func.sum(table.c.checksum))
                rows, total = connection.execute(query.select_from(table)).one()
                counts.append(f"{table.name} {rows} {int(total or 0)}")
        return f"plan {current['id'] if current else 0}, {', '.join(counts)}"

    @_persistent
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

    def finished(self) -> str:
        """Return the last argument of `set_finished`; empty if there was none."""
        return self._entry("finished")

    def set_finished(self, note: str) -> None:
        """Keep a note on a study with nothing left to train."""
        with self._writing() as connection:
            set_meta(connection, finished=note)

    def _entry(self, key: str) -> str:
        with self._reading() as connection:
            return connection.scalar(sql.select(meta.c.value).where(meta.c.key == key)) or ""

    @_persistent
    def set_attempt(self, attempt: str) -> None:
        """Remember work in progress that has not stored anything yet.

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
            stacks: run ids by new stack; together, all runs of the old stacks that start again.

        Raises:
            StoreError: a run is done; its numbers are final.
        """
        stack_of = {run_id: stack for stack, run_ids in stacks.items() for run_id in run_ids}
        old = {run.stack for run in self.runs_of(list(stack_of))} if self._leases else set()
        with self._ending(old) as check_leases:
            self._restack(stack_of, check_leases)

    @_persistent
    def _restack(self, stack_of: Mapping[str, StackId], check_leases: Check) -> None:
        with self._writing() as connection:
            query = sql.select(all_runs).where(all_runs.c.run_id.in_(stack_of))
            rows = connection.execute(query).mappings().all()
            for row in rows:
                check(all_runs, row)
            if self._leases and all(r["stack"] == str(stack_of[r["run_id"]]) for r in rows):
                return  # stored by an attempt whose answer was lost
            check_leases(connection)
            done = sql.select(outcomes.c.run_id).where(outcomes.c.status == Status.DONE)
            if ended := set(connection.scalars(done)) & stack_of.keys():
                raise StoreError(f"run {min(ended)} is done; its stack is part of its numbers.")
            left = {row["stack"] for row in rows}
            connection.execute(checkpoints.delete().where(checkpoints.c.stack.in_(left)))
            connection.execute(curves.delete().where(curves.c.run_id.in_(stack_of)))
            replace_rows(connection, outcomes, planned_outcomes(stack_of))
            moved = [
                sealed(all_runs, {**row, "stack": str(stack_of[row["run_id"]])}) for row in rows
            ]
            replace_rows(connection, all_runs, moved)

    @_persistent
    def checkpoint(self, stack: StackId) -> dict[str, NDArray[Any]] | None:
        """Return the arrays from which the training of a stack continues, or None.

        Nothing is unpickled.
        """
        query = sql.select(checkpoints).where(checkpoints.c.stack == str(stack))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(checkpoints.c.part)).mappings().all()
            for row in rows:
                check(checkpoints, row)
            if not rows and has_unfinished(connection, stack):
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
        with collecting_no_garbage(), self._reading() as connection:
            plan = current_plan(connection) if run_ids is None else None
            wanted = planned_ids(connection, plan) if run_ids is None else list(run_ids)
            parts = parts_of_curves(connection, metric, wanted)
            ends_of = ends_of_curves(connection, metric, wanted)
            if unknown := parts.keys() - ends_of.keys():
                run_id, name = min(unknown)
                raise DamagedError(f"run {run_id}: its outcome lacks {name}")
            known: dict[bytes, NDArray[np.int64]] = {}
            return {
                key: whole_curve(*key, parts.pop(key, ()), end, known)
                for key, end in ends_of.items()
            }
