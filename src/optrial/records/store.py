"""The store of a study: append and query, never edit."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.errors import StoreBusyError, StoreError, suggest
from optrial.records.database import Database, find_database
from optrial.records.encoding import (
    decode_checkpoint,
    decode_curve,
    encode_checkpoint,
    encode_curve,
    strict,
)
from optrial.records.record import Curve, PlannedRun, Record, Segment
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
from optrial.spec import ENDED, FINAL, StackId, Status

__all__ = ["Store"]

PLAN_COLUMNS = [field.name for field in fields(PlannedRun)]
OF_A_PLAN = ("problem", "setting", "phase")
OUTCOME_COLUMNS = ["status", "step", "reason", "facts", "latest"]
IDS_PER_QUERY = 10_000  # below the limit on parameters of either database

CURRENT_PLAN = sql.select(sql.func.max(plans.c.id)).correlate(None).scalar_subquery()
LATEST_PLAN = (
    sql.select(sql.func.max(plan_runs.c.plan_id))
    .where(plan_runs.c.run_id == all_runs.c.run_id)
    .correlate(all_runs)
    .scalar_subquery()
)
LATEST_OUTCOME = (
    sql.select(sql.func.max(outcomes.c.id))
    .where(outcomes.c.run_id == all_runs.c.run_id)
    .correlate(all_runs)
    .scalar_subquery()
)


class Store:
    """Records of one study, in a folder or on a PostgreSQL server.

    One process at a time writes, holding `lock`; any number may read. Every method raises
    `StoreError` when the database fails, with a message of one line that suggests a remedy.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
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
                connection.execute(meta.insert().values(key="version", value=str(VERSION)))

    def _check_version(self) -> None:
        with self._reading() as connection:
            if not sql.inspect(connection).has_table("meta"):
                raise StoreError(
                    f"no study is stored in {self._database.shown}. Check the location, or make "
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
                f"{self._database.shown} holds a store of version {version}; this optrial reads "
                f"version {VERSION}. {way_out}"
            )

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
                        f"{self._database.shown}: {self._writer_name()} is training into it. Wait "
                        "until it is done, stop it, or train into another folder."
                    )
            with self._writing() as connection:
                connection.execute(meta.delete().where(meta.c.key == "writer"))
                name = f"process {os.getpid()} on {socket.gethostname()}"
                connection.execute(meta.insert().values(key="writer", value=name))
            yield

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
            newest = connection.execute(sql.select(plans).order_by(plans.c.id.desc()).limit(1))
            current = newest.one_or_none()
            if current is not None and (
                (current.hash, current.study) == (plan_hash, strict(study))
                and _planned_ids(connection) == run_ids
            ):
                return
            known = set(connection.scalars(sql.select(all_runs.c.run_id)))
            added = [_columns(run) for run in runs if run.run_id not in known]
            _insert(connection, all_runs, added)
            plan = plans.insert().values(hash=plan_hash, study=study).returning(plans.c.id)
            plan_id = connection.scalar(plan)
            positions = [
                {"plan_id": plan_id, "run_id": run.run_id, "position": position}
                | {name: getattr(run, name) for name in OF_A_PLAN}
                for position, run in enumerate(runs)
            ]
            _insert(connection, plan_runs, positions)

    def study(self) -> dict[str, Any]:
        """Return the study of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            study = sql.select(plans.c.study).where(plans.c.id == CURRENT_PLAN)
            return connection.scalar(study) or {}

    def plan_hash(self) -> str:
        """Return the hash of the current plan; empty before any plan is saved."""
        with self._reading() as connection:
            return (
                connection.scalar(sql.select(plans.c.hash).where(plans.c.id == CURRENT_PLAN)) or ""
            )

    def plans(self) -> list[tuple[dict[str, Any], int]]:
        """Return the study of every plan, oldest first, and how many runs had ended before it."""
        ended = (
            sql.select(sql.func.count(sql.distinct(outcomes.c.run_id)))
            .where(outcomes.c.saved_at <= plans.c.saved_at)
            .where(outcomes.c.status.in_(sorted(ENDED)))
            .scalar_subquery()
        )
        with self._reading() as connection:
            query = sql.select(plans.c.study, ended).order_by(plans.c.id)
            return [(study, int(count)) for study, count in connection.execute(query)]

    def runs(self, *, everything: bool = False) -> list[Record]:
        """Return the runs of the current plan, in its order.

        Args:
            everything: also return the runs that only earlier plans contain, as described by the
                latest of these plans.
        """
        position = sql.case((plan_runs.c.plan_id == CURRENT_PLAN, plan_runs.c.position))
        latest = sql.and_(
            plan_runs.c.run_id == all_runs.c.run_id, plan_runs.c.plan_id == LATEST_PLAN
        )
        columns = [plan_runs.c[name] for name in OF_A_PLAN]
        columns += [outcomes.c[name] for name in OUTCOME_COLUMNS]
        query = (
            sql.select(all_runs, *columns)
            .select_from(all_runs)
            .join(plan_runs, latest)
            .outerjoin(outcomes, outcomes.c.id == LATEST_OUTCOME)
            .order_by(position.is_(None), position, all_runs.c.id)
        )
        if not everything:
            query = query.where(position.is_not(None))
        with self._reading() as connection:
            rows = connection.execute(query).mappings().all()
        metrics: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for row in rows:
            metrics[row["problem"]] |= dict.fromkeys(row["latest"] or {})
        return [_record(row, list(metrics[row["problem"]])) for row in rows]

    def commit(
        self,
        segments: Sequence[Segment],
        stack: StackId,
        checkpoint: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        """Append the progress of a stack and replace its checkpoint, in one transaction.

        Args:
            segments: the progress of each run.
            stack: the stack of these runs.
            checkpoint: arrays from which training continues; None deletes the stored checkpoint.

        Raises:
            StoreError: a run is not part of any plan, or a step of a curve is already stored.
        """
        parts = [] if checkpoint is None else encode_checkpoint(checkpoint)
        with self._writing() as connection:
            latest = _latest_values(connection, [segment.run_id for segment in segments])
            results, chunks = [], []
            for segment in segments:
                self._check_segment(segment, latest)
                latest[segment.run_id] = latest[segment.run_id] | _ends(segment)
                results.append(_outcome(segment, latest[segment.run_id]))
                chunks += _chunks(segment)
            _insert(connection, outcomes, results)
            _insert(connection, curves, chunks)
            connection.execute(checkpoints.delete().where(checkpoints.c.stack == stack))
            numbered = [
                {"stack": stack, "part": part, "data": data} for part, data in enumerate(parts)
            ]
            _insert(connection, checkpoints, numbered)

    def _check_segment(self, segment: Segment, latest: Mapping[str, Any]) -> None:
        """Refuse a segment that does not continue a planned run where it stopped."""
        if segment.run_id not in latest:
            raise StoreError(
                f"{self._database.shown}: run '{segment.run_id}' is not part of any plan. Save the "
                "plan first."
            )
        before = latest[segment.run_id]
        for metric, curve in segment.curves.items():
            if metric in before and len(curve) and curve.steps[0] <= before[metric][0]:
                raise StoreError(
                    f"{self._database.shown}: step {curve.steps[0]} of '{metric}' of run "
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
        moved = [run_id for run_ids in stacks.values() for run_id in run_ids]
        ended = {run.run_id for run in self.runs(everything=True) if run.status in FINAL}
        if final := sorted(ended.intersection(moved)):
            raise StoreError(f"run {final[0]} has ended; its stack is part of its numbers.")
        with self._writing() as connection:
            left = sql.select(all_runs.c.stack).where(all_runs.c.run_id.in_(moved)).distinct()
            left_stacks = connection.scalars(left).all()
            connection.execute(checkpoints.delete().where(checkpoints.c.stack.in_(left_stacks)))
            connection.execute(curves.delete().where(curves.c.run_id.in_(moved)))
            connection.execute(outcomes.delete().where(outcomes.c.run_id.in_(moved)))
            for stack, run_ids in stacks.items():
                of_stack = all_runs.update().where(all_runs.c.run_id.in_(run_ids))
                connection.execute(of_stack.values(stack=stack))

    def checkpoint(self, stack: StackId) -> dict[str, NDArray[Any]] | None:
        """Return the arrays from which the training of a stack continues, or None.

        Nothing is unpickled.
        """
        query = sql.select(checkpoints.c.data).where(checkpoints.c.stack == stack)
        with self._reading() as connection:
            parts = connection.scalars(query.order_by(checkpoints.c.part)).all()
            return decode_checkpoint(parts) if parts else None

    def metrics(self) -> list[str]:
        """Return the names of all metrics that have a stored curve, in alphabetical order."""
        with self._reading() as connection:
            return sorted(connection.scalars(sql.select(curves.c.metric).distinct()))

    def curve(self, run_id: str, metric: str) -> Curve:
        """Return one metric of one run; empty if the run has no values of it.

        Raises:
            StoreError: the store holds no such run, or no such metric.
        """
        if curves_of_run := self.curves(metric, [run_id]):
            return curves_of_run[run_id, metric]
        if metric not in (known := self.metrics()):
            raise StoreError(
                f"{self._database.shown} holds no metric '{metric}'. {suggest(metric, known)}"
            )
        if run_id not in {run.run_id for run in self.runs(everything=True)}:
            raise StoreError(
                f"{self._database.shown} holds no run '{run_id}'. List them with: optrial runs"
            )
        return Curve(np.empty(0, np.int64), np.empty(0))

    def curves(
        self, metric: str | None = None, run_ids: Sequence[str] | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return the stored curves of many runs at once, by run id and metric.

        Args:
            metric: only this metric; by default all.
            run_ids: only these runs, in this order; by default those of the current plan.
        """
        chunks = defaultdict(list)
        query = sql.select(curves).order_by(curves.c.run_id, curves.c.metric, curves.c.first_step)
        if metric is not None:
            query = query.where(curves.c.metric == metric)
        with self._reading() as connection:
            wanted = _planned_ids(connection) if run_ids is None else list(run_ids)
            for start in range(0, len(wanted), IDS_PER_QUERY):
                some = curves.c.run_id.in_(wanted[start : start + IDS_PER_QUERY])
                for row in connection.execute(query.where(some)):
                    chunks[row.run_id, row.metric].append(row)
            order = {run_id: position for position, run_id in enumerate(wanted)}
            keys = sorted(chunks, key=lambda key: order[key[0]])
            return {key: decode_curve(chunks[key]) for key in keys}


def _columns(run: PlannedRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in PLAN_COLUMNS if name not in OF_A_PLAN}


def _insert(connection: sql.Connection, table: sql.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _planned_ids(connection: sql.Connection) -> list[str]:
    query = sql.select(plan_runs.c.run_id).where(plan_runs.c.plan_id == CURRENT_PLAN)
    return list(connection.scalars(query.order_by(plan_runs.c.position)))


def _latest_values(connection: sql.Connection, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the end of every curve, ``{metric: [step, value]}``, for each stored run."""
    query = (
        sql.select(all_runs.c.run_id, outcomes.c.latest)
        .select_from(all_runs)
        .outerjoin(outcomes, outcomes.c.id == LATEST_OUTCOME)
        .where(all_runs.c.run_id.in_(run_ids))
    )
    return {row.run_id: row.latest or {} for row in connection.execute(query)}


def _outcome(segment: Segment, latest: Mapping[str, Any]) -> dict[str, Any]:
    # PostgreSQL refuses NUL and lone surrogates, which messages of user code may contain.
    reason = segment.reason.replace("\0", " ").encode(errors="replace").decode()
    return {
        "run_id": segment.run_id,
        "status": segment.status.value,
        "step": segment.step,
        "reason": " ".join(reason.split()),
        "facts": segment.facts,
        "latest": latest,
    }


def _ends(segment: Segment) -> dict[str, tuple[int, float]]:
    return {
        metric: (int(curve.steps[-1]), float(curve.values[-1]))
        for metric, curve in segment.curves.items()
        if len(curve)
    }


def _chunks(segment: Segment) -> list[dict[str, Any]]:
    return [
        {"run_id": segment.run_id, "metric": metric, **encode_curve(curve)}
        for metric, curve in segment.curves.items()
        if len(curve)
    ]


def _record(row: sql.RowMapping, metrics: Sequence[str]) -> Record:
    plan = {name: row[name] for name in PLAN_COLUMNS}
    if row["status"] is None:
        return Record(**plan, metrics=dict.fromkeys(metrics))
    status = Status(row["status"])
    latest = row["latest"] if status is Status.DONE else {}
    return Record(
        **plan,
        status=status,
        step=row["step"],
        reason=row["reason"],
        facts=row["facts"],
        metrics={metric: latest.get(metric, (0, None))[1] for metric in metrics},
    )
