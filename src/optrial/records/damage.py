"""Finds what is damaged or missing in a store and the weights beside it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError

from optrial.records.database import DATABASE_ERRORS
from optrial.records.encoding import (
    PART_OF_A_CURVE,
    decode_checkpoint,
    decode_curve,
    decode_facts,
    strict,
)
from optrial.records.rows import DamagedError, Row, check, decoding, name_of
from optrial.records.schema import (
    checkpoints,
    curves,
    meta,
    metadata,
    outcomes,
    plan_runs,
    plans,
    runs,
)
from optrial.records.weights import WeightFiles
from optrial.spec import RunSpec, StackId, Status

__all__ = ["Damage", "look_for_damage", "spec_of"]

_IDS_AT_ONCE = 500
_PROBLEMS_SHOWN = 20  # of the database's own check


@dataclass
class Damage:
    """Everything that is damaged or missing in a store.

    Attributes:
        findings: one line per finding.
        counts: number of rows that were read, by table, and of files of weights.
        file: whether the database itself is damaged, not just the contents of rows.
        plans: whether plans, or places of runs in them, are damaged.
        runs: damaged rows of the table of runs.
        results: ids of runs whose outcome, curves or weights are damaged.
        stacks: stacks whose checkpoint is damaged or missing.
        strays: whether there are rows of runs or stacks that the store does not know.
    """

    findings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    file: bool = False
    plans: bool = False
    runs: list[Row] = field(default_factory=list)
    results: set[str] = field(default_factory=set)
    stacks: set[str] = field(default_factory=set)
    strays: bool = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note damage of rows, and that a table cannot be read."""
        try:
            yield
        except DamagedError as error:
            self.findings.append(str(error))
        except DATABASE_ERRORS as error:
            self.file = True
            cause = error.orig if isinstance(error, DBAPIError) else error
            self.findings.append(f"the database cannot be read: {str(cause).splitlines()[0]}")


@dataclass(frozen=True)
class _Outcome:
    status: Status
    step: int
    latest: Mapping[str, Sequence[Any]]
    weights_sha256: str | None


def look_for_damage(
    damage: Damage, connection: sql.Connection, weights: WeightFiles | None
) -> None:
    """Read every row of a store, in one transaction, and every file of weights.

    Args:
        damage: where findings are added.
        connection: a connection to the database.
        weights: the weights beside the store; None on a server.
    """
    with damage.noting():
        _check_file(connection, damage)
    with damage.noting():
        _check_plans(connection, damage)
    stack_of: dict[str, str] = {}
    saving: set[str] = set()
    with damage.noting():
        _check_runs(connection, damage, stack_of, saving)
    unfinished: defaultdict[str, set[str]] = defaultdict(set)
    with damage.noting():
        for run_id, outcome in _outcomes(connection, damage, stack_of):
            if outcome.status is Status.INTERRUPTED and outcome.step:
                unfinished[stack_of[run_id]].add(run_id)
            if weights and outcome.status is Status.DONE and run_id in saving:
                damage.counts["weights"] += 1
                if problem := weights.damage(run_id, outcome.weights_sha256):
                    damage.findings.append(f"run {run_id}: its weights {problem}")
                    damage.results.add(run_id)
    with damage.noting():
        _check_checkpoints(connection, damage, set(stack_of.values()), set(unfinished))
    with damage.noting():
        _check_strays(connection, damage)


def spec_of(row: Row) -> RunSpec:
    """Return the spec of a row of the table of runs.

    Raises:
        DamagedError: it cannot be decoded.
    """
    with decoding(name_of(runs, row)):
        spec = RunSpec.from_dict(json.loads(row["spec"]))
        spec.run_id  # noqa: B018  # fails on values that no spec has
        return spec


def _rows(
    connection: sql.Connection, damage: Damage, query: sql.Select[Any], table: sql.Table
) -> Iterator[Row]:
    for row in connection.execute(query).mappings():
        damage.counts[table.name] += 1
        yield row


def _check_file(connection: sql.Connection, damage: Damage) -> None:
    """Run SQLite's own check; a server checks its files itself."""
    if connection.dialect.name == "sqlite":
        lines = connection.scalars(sql.text(f"PRAGMA integrity_check({_PROBLEMS_SHOWN})")).all()
        problems = [line.splitlines()[-1] for line in lines if line != "ok"]
        damage.findings += [f"the database is damaged: {problem}" for problem in problems]
        damage.file = bool(problems)
    tables = set(sql.inspect(connection).get_table_names())
    if missing := metadata.tables.keys() - tables:
        damage.findings.append(f"the database lacks the tables {', '.join(sorted(missing))}")
        damage.file = True


def _check_plans(connection: sql.Connection, damage: Damage) -> None:
    """Check plans, the places of runs in them, and the number of the current plan."""
    with _of_plans(damage):
        entries = {}
        for row in _rows(connection, damage, sql.select(meta), meta):
            with _of_plans(damage):
                check(meta, row)
                entries[row["key"]] = row["value"]
        numbers: list[int] = []
        sizes: dict[int, int] = {}
        known: dict[int, int] = {}
        for row in _rows(connection, damage, sql.select(plans).order_by(plans.c.id), plans):
            with _of_plans(damage):
                check(plans, row)
                with decoding(name_of(plans, row)):
                    dict(json.loads(row["study"]))
                sizes[row["id"]], known[row["id"]] = row["runs"], row["known"]
            numbers.append(row["id"])
        places: defaultdict[int, set[int]] = defaultdict(set)
        run_ids: set[str] = set()
        everything = sql.select(plan_runs).order_by(plan_runs.c.plan_id, plan_runs.c.position)
        last, before = 0, len(damage.findings)
        for row in _rows(connection, damage, everything, plan_runs):
            with _of_plans(damage):
                check(plan_runs, row)
                places[row["plan_id"]].add(row["position"])
                run_ids.add(row["run_id"])
                last = row["plan_id"]
        for number, size in sizes.items() if len(damage.findings) == before else ():
            if places[number] != set(range(size)):
                with _of_plans(damage):
                    raise DamagedError(f"plan {number} lacks runs")
        if len(damage.findings) == before and len(run_ids) != known.get(last, 0):
            raise DamagedError("runs of former plans are missing")
        current = entries.get("plan", "missing")
        if current != str(len(numbers)) or numbers != list(range(1, len(numbers) + 1)):
            raise DamagedError(
                f"a plan is missing: {len(numbers)} are stored, the last is {current}"
            )


@contextmanager
def _of_plans(damage: Damage) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        damage.plans = True
        damage.findings.append(str(error))


def _check_runs(
    connection: sql.Connection, damage: Damage, stack_of: dict[str, str], saving: set[str]
) -> None:
    """Check specs against the ids of their runs; collect the stacks, and the runs with weights."""
    for row in _rows(connection, damage, sql.select(runs).order_by(runs.c.id), runs):
        try:
            check(runs, row)
            with decoding(name_of(runs, row)):
                StackId.parse(row["stack"])
            if row["spec"]:  # the spec of a run that was repaired is empty until it is planned
                spec = spec_of(row)
                if spec.run_id != row["run_id"]:
                    raise DamagedError(f"run {row['run_id']}: its spec is that of {spec.run_id}")
                if spec.save is not None:
                    saving.add(row["run_id"])
        except DamagedError as error:
            damage.findings.append(str(error))
            damage.runs.append(row)
        stack_of[row["run_id"]] = row["stack"]


def _outcomes(
    connection: sql.Connection, damage: Damage, stack_of: Mapping[str, str]
) -> Iterator[tuple[str, _Outcome]]:
    """Check every outcome with the curves of its run; yield those that are intact."""
    run_ids = list(stack_of)
    for start in range(0, len(run_ids), _IDS_AT_ONCE):
        some = run_ids[start : start + _IDS_AT_ONCE]
        query = sql.select(curves).where(curves.c.run_id.in_(some))
        parts: defaultdict[str, list[Row]] = defaultdict(list)
        ordered = query.order_by(curves.c.run_id, curves.c.metric, curves.c.first_step)
        for row in _rows(connection, damage, ordered, curves):
            parts[row["run_id"]].append(row)
        of_some = sql.select(outcomes).where(outcomes.c.run_id.in_(some))
        rows = {row["run_id"]: row for row in _rows(connection, damage, of_some, outcomes)}
        for run_id in some:
            try:
                if run_id not in rows:
                    raise DamagedError(f"run {run_id}: its outcome is missing")
                outcome = _decoded(rows[run_id])
                _check_curves(run_id, outcome.latest, parts[run_id])
                yield run_id, outcome
            except DamagedError as error:
                damage.findings.append(str(error))
                damage.results.add(run_id)


def _decoded(row: Row) -> _Outcome:
    check(outcomes, row)
    with decoding(name_of(outcomes, row)):
        facts, latest = decode_facts(json.loads(row["facts"])), json.loads(row["latest"])
        ends = {str(metric): (int(s), v, int(n)) for metric, (s, v, n) in latest.items()}
        return _Outcome(Status(row["status"]), int(row["step"]), ends, facts.weights_sha256)


def _check_curves(run_id: str, latest: Mapping[str, Sequence[Any]], rows: Sequence[Row]) -> None:
    """Check the parts of the curves of a run, and that they end as its outcome says."""
    parts: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        check(curves, row)
        parts[row["metric"]].append(row)
    for metric in sorted(latest.keys() | parts.keys()):
        with decoding(f"run {run_id}: its {metric}"):
            curve = decode_curve(map(itemgetter(*PART_OF_A_CURVE), parts[metric]))
            counted = [(row["first_step"], row["count"]) for row in parts[metric]]
            steps = curve.steps.tolist()
            firsts = [steps[sum(n for _, n in counted[:i])] for i in range(len(counted))]
            end = [steps[-1], strict(float(curve.values[-1])), len(steps)]
        if metric not in latest or end != list(latest[metric]):
            raise DamagedError(f"run {run_id}: its {metric} does not end as its outcome says")
        if firsts != [first for first, _ in counted]:
            raise DamagedError(f"run {run_id}: the parts of its {metric} do not fit together")


def _check_checkpoints(
    connection: sql.Connection, damage: Damage, stacks: set[str], needed: set[str]
) -> None:
    """Check the checkpoints, and that every stack with interrupted runs has one."""
    stored = connection.scalars(sql.select(checkpoints.c.stack).distinct()).all()
    for stack in stored:
        query = sql.select(checkpoints).where(checkpoints.c.stack == stack)
        try:
            parts = list(_rows(connection, damage, query.order_by(checkpoints.c.part), checkpoints))
            for row in parts:
                check(checkpoints, row)
            with decoding(f"stack {stack}: its checkpoint"):
                decode_checkpoint(row["data"] for row in parts)
            if stack not in stacks:
                damage.strays = True
                raise DamagedError(f"stack {stack}: it has a checkpoint, but no runs")
        except DamagedError as error:
            damage.findings.append(str(error))
            damage.stacks.add(stack)
    for stack in sorted(needed - set(stored)):
        damage.findings.append(f"stack {stack}: its checkpoint is missing")
        damage.stacks.add(stack)


def _check_strays(connection: sql.Connection, damage: Damage) -> None:
    known = sql.select(runs.c.run_id)
    for table, words in ((outcomes, "an outcome"), (curves, "a curve"), (plan_runs, "a place")):
        query = sql.select(table.c.run_id).where(table.c.run_id.not_in(known)).distinct()
        for run_id in connection.scalars(query):
            damage.findings.append(f"run {run_id}: it has {words}, but no spec")
            damage.strays = True
            damage.plans |= table is plan_runs
