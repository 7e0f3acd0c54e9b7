"""Queries of the tables of a store, and what their rows mean; `Store` runs them in transactions."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.garbage import collecting_no_garbage
from optrial.records.encoding import decode_curve, from_json, strict, value_in_json
from optrial.records.forms import fields_fit
from optrial.records.record import Curve, PlannedRun, Record
from optrial.records.rows import (
    COVERED,
    DECODE_ERRORS,
    DamagedError,
    Latest,
    check,
    check_values,
    decoding,
    name_of,
    run_row,
    sealed,
    undecodable,
)
from optrial.records.schema import (
    curves,
    meta,
    outcomes,
    plan_runs,
    plans,
)
from optrial.records.schema import runs as all_runs
from optrial.records.texts import TextReader
from optrial.spec import StackId, Status

__all__ = [
    "ENDS",
    "IDS_PER_QUERY",
    "check_sizes",
    "current_plan",
    "decoded_study",
    "ends_of_curves",
    "fill_in",
    "has_unfinished",
    "insert",
    "is_plan",
    "latest_ends",
    "parts_of_curves",
    "plan_ids",
    "planned_ids",
    "records_of",
    "replace_rows",
    "run_query",
    "set_meta",
    "stored_version",
    "whole_curve",
]

LATEST_PLAN = (
    sql.select(sql.func.max(plan_runs.c.plan_id))
    .where(plan_runs.c.run_id == all_runs.c.run_id)
    .correlate(all_runs)
    .scalar_subquery()
)


ENDS = sql.select(outcomes.c.run_id, outcomes.c.latest)
"""Query of the ends of the curves of each run."""

End = tuple[int, float | None, int]
"""Last step, last value and number of points of a curve."""

StoredPart = tuple[int, tuple[Any, ...]]
"""First step of a part of a curve, and the columns that `decode_curve` takes."""

Errors = Callable[[], AbstractContextManager[None]]

IDS_PER_QUERY = 10_000  # below the limit on parameters of either database
MOST_LOOKUPS = 1_000  # of single runs; to look more of them up takes longer than to read all
_ROWS_AT_ONCE = 1_000


def stored_version(connection: sql.Connection) -> str | None:
    """Return the version of a store; None if there is no store."""
    if not sql.inspect(connection).has_table("meta"):
        return None
    version = connection.scalar(sql.select(meta.c.value).where(meta.c.key == "version"))
    return str(version)


def current_plan(connection: sql.Connection) -> sql.RowMapping | None:
    """Return the row of the current plan; None before any plan is saved."""
    stored = sql.select(meta).where(meta.c.key == "plan")
    entry = connection.execute(stored).mappings().one_or_none()
    if entry is None:
        raise DamagedError("the number of the current plan is missing")
    check(meta, entry)
    with decoding(name_of(meta, entry)):
        number = int(entry["value"])
    if not number:
        return None
    plan = connection.execute(sql.select(plans).where(plans.c.id == number)).mappings()
    row = plan.one_or_none()
    if row is None:
        raise DamagedError(f"plan {number} is missing")
    check(plans, row)
    return row


def plan_ids(connection: sql.Connection) -> list[int]:
    """Return the numbers of all plans: 1, 2, ..."""
    current = current_plan(connection)
    return [] if current is None else list(range(1, current["id"] + 1))


def is_plan(
    connection: sql.Connection,
    plan: sql.RowMapping | None,
    plan_hash: str,
    study: Mapping[str, Any],
    run_ids: Sequence[str],
) -> bool:
    """Return whether a stored plan has this hash, study and runs."""
    if plan is None or plan["hash"] != plan_hash or plan["runs"] != len(run_ids):
        return False
    return json.loads(plan["study"]) == strict(study) and planned_ids(connection, plan) == run_ids


def planned_ids(connection: sql.Connection, plan: sql.RowMapping | None) -> list[str]:
    """Return the runs of a plan in its order; none without a plan."""
    if plan is None:
        return []
    query = sql.select(*_checked_columns(plan_runs)).where(plan_runs.c.plan_id == plan["id"])
    run_ids = []
    for row in _rows(connection, query.order_by(plan_runs.c.position)):
        check_values(plan_runs, row[:-1], row[-1])
        run_ids.append(row[_RUN_OF_PLACE])
    if len(run_ids) != plan["runs"]:
        raise DamagedError("runs are missing")
    return run_ids


_RUN_OF_PLACE = COVERED[plan_runs].index("run_id")


def _checked_columns(table: sql.Table) -> list[sql.Column[Any]]:
    """Return the columns that a checksum covers, and the checksum."""
    return [table.c[name] for name in (*COVERED[table], "checksum")]


def _rows(connection: sql.Connection, query: sql.Select[Any]) -> Iterator[Sequence[Any]]:
    """Yield the rows of a query, read many at once."""
    return chain.from_iterable(connection.execute(query).partitions(_ROWS_AT_ONCE))


def check_sizes(connection: sql.Connection) -> None:
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


def has_unfinished(connection: sql.Connection, stack: StackId) -> bool:
    """Return whether a run of a stack has started and not ended."""
    query = (
        sql.select(outcomes.c.run_id)
        .join(all_runs, outcomes.c.run_id == all_runs.c.run_id)
        .where(all_runs.c.stack == str(stack), outcomes.c.status == Status.INTERRUPTED.value)
    )
    return connection.execute(query.limit(1)).first() is not None


def decoded_study(plan: sql.RowMapping) -> dict[str, Any]:
    """Return the study of a plan."""
    with decoding(name_of(plans, plan)):
        study: dict[str, Any] = json.loads(plan["study"])
        if not fields_fit(_Study, study):
            raise ValueError("a key of the study has a value of another type")
        return study


class _Optimizer(NamedTuple):
    name: str | None
    rule: str | None
    torch: str | None
    rule_factory: str | None
    groups: tuple[Mapping[str, Any], ...] | None


class _Tuning(NamedTuple):
    select: str | None


class _Study(NamedTuple):
    """Types of the keys of a stored study that are read without the code that checks studies."""

    name: str
    problem: Mapping[str, Any] | None
    budget: Mapping[str, float | int | None] | None
    evaluate: Mapping[str, Any] | None
    seeds: int | tuple[int, ...] | None
    folds: Mapping[str, Any] | None
    optimizers: tuple[_Optimizer, ...] | None
    tune: _Tuning | None
    targets: Mapping[str, float] | None
    claims: tuple[str, ...] | None
    waive: Mapping[str, Any] | None
    reported: Mapping[str, Mapping[str, Any]] | None
    notes: str | None


_OF_A_RUN = {table: (*COVERED[table], "checksum") for table in (all_runs, outcomes, plan_runs)}
"""The tables, and their columns, that make the record of a run."""

_LAST = list(accumulate(len(names) for names in _OF_A_RUN.values()))
_PLACES = {
    table: (last - len(names), last - 1)
    for (table, names), last in zip(_OF_A_RUN.items(), _LAST, strict=True)
}
"""Places of the covered columns of each table in a row of `run_query`; the checksum follows."""

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
_UNPLANNED = 1 << 62  # beyond any position in a plan
_STATUSES = {status.value: status for status in Status}


def run_query(plan_id: int, everything: bool) -> sql.Select[Any]:
    """Return the query of `_OF_A_RUN` and the place of a run: one row per run, in any order.

    The database would sort whole rows, of several kB each. The outer joins make SQLite read the
    runs in the order in which they were stored, which is about that of a plan; it would otherwise
    look them up one by one. Columns of runs without a place are None.
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
        .outerjoin(plan_runs, place)
        .outerjoin(outcomes, outcomes.c.run_id == all_runs.c.run_id)
    )


def records_of(rows: Iterable[Sequence[Any]], errors: Errors) -> list[Record]:
    """Return records from rows of `run_query`, in the order of the plan, then of storing.

    Those of one problem have the same metrics.

    Args:
        rows: the rows.
        errors: makes a context that explains a `DamagedError`; facts are decoded in one, later.
    """
    with collecting_no_garbage():
        entries = list(_entries(rows, errors))
    entries.sort(key=itemgetter(0))
    metrics: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for problem, known in {(r.problem, tuple(final)): None for _, r, final in entries}:
        metrics[problem] |= dict.fromkeys(known)
    names = {problem: list(known) for problem, known in metrics.items()}
    for _, record, final in entries:
        if record.status is not Status.DONE:
            final.clear()
        if list(final) != names[record.problem]:
            known_values = dict(final)
            final.clear()
            final.update((name, known_values.get(name)) for name in names[record.problem])
    return [record for _, record, _ in entries]


def _entries(
    rows: Iterable[Sequence[Any]], errors: Errors
) -> Iterator[tuple[int, Record, dict[str, float | None]]]:
    """Yield a number that orders the records, the record, and its metrics, to be completed."""

    @contextmanager
    def decoding_facts(run_id: str) -> Iterator[None]:
        with errors(), decoding(f"run {run_id}"):
            yield

    reader = TextReader(decoding_facts)
    for row in rows:
        if row[_PLACE_OF] is None:  # a run of another plan
            continue
        if row[_OUTCOME_OF] is None:
            raise DamagedError(f"run {row[0]}: its outcome is missing")
        for table, (first, last) in _PLACES.items():
            check_values(table, row[first:last], row[last])
        if not row[0] == row[_OUTCOME_OF] == row[_PLACE_OF]:
            raise DamagedError(f"run {row[0]}: an index of the database is damaged")
        try:
            ends = _ends(_latest_text(row)).items()
            final = {sys.intern(metric): value for metric, (_, value, _) in ends}
            record = _record(row, reader, final)
        except DECODE_ERRORS as error:
            raise undecodable(f"run {row[0]}", error) from error
        current, number = row[-2:]
        yield _position(row) if current else _UNPLANNED + number, record, final


def _ends(text: str, metric: str | None = None) -> dict[str, End]:
    """Return the ends of the curves of a run.

    Args:
        text: the column of its outcome.
        metric: only this metric; None for all.

    Raises:
        ValueError, TypeError, AttributeError: the text says something else.
    """
    ends: dict[str, End]
    if metric is None:
        ends = from_json(text)
    else:
        end = value_in_json(text, metric)
        ends = {} if end is None else {metric: end}
    for step, value, count in ends.values():
        if not (type(step) is type(count) is int and (value is None or type(value) is float)):
            raise ValueError("not the end of a curve")
    return ends


def _record(row: Sequence[Any], reader: TextReader, metrics: Mapping[str, float | None]) -> Record:
    """Return the record of a row of `run_query`."""
    run_id, problem, spec, setting, stack, phase, status, step, reason, facts = _columns(row)
    return Record(
        run_id=run_id,
        problem=sys.intern(problem),
        spec=reader.spec(spec),
        setting=sys.intern(setting),
        stack=reader.stack(stack),
        phase=phase,
        status=_STATUSES[status],
        step=step,
        reason=sys.intern(reason),
        facts=reader.facts(run_id, facts),
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
    """Add or replace entries of the table meta."""
    dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")  # only the one used
    insertion = dialect.insert(meta)
    added = {column: insertion.excluded[column] for column in ("value", "checksum")}
    replacing = insertion.on_conflict_do_update(index_elements=["key"], set_=added)
    rows = [sealed(meta, {"key": key, "value": value}) for key, value in entries.items()]
    connection.execute(replacing, rows)


def fill_in(connection: sql.Connection, runs: Sequence[PlannedRun]) -> None:
    """Store the specs of runs that a repair left empty; such a run keeps its stack."""
    query = sql.select(all_runs.c.run_id, all_runs.c.stack).where(all_runs.c.spec == "")
    stack_of = {row.run_id: row.stack for row in connection.execute(query)}
    rows = [
        run_row(replace(run, stack=StackId.parse(stack_of[run.run_id])))
        for run in runs
        if run.run_id in stack_of
    ]
    replace_rows(connection, all_runs, rows)


def latest_ends(connection: sql.Connection, run_ids: Sequence[str]) -> dict[str, Latest]:
    """Return the ends of the curves of each stored run."""
    latest: dict[str, Latest] = {}
    query = sql.select(outcomes).where(outcomes.c.run_id.in_(run_ids))
    for row in connection.execute(query).mappings():
        check(outcomes, row)
        with decoding(name_of(outcomes, row)):
            latest[row["run_id"]] = _ends(row["latest"])
    return latest


def parts_of_curves(
    connection: sql.Connection, metric: str | None, run_ids: Sequence[str]
) -> dict[tuple[str, str], list[StoredPart]]:
    """Return the parts of curves in the order of their steps, by run id and metric.

    Args:
        connection: a connection to the database.
        metric: only this metric; None for all.
        run_ids: only these runs.
    """
    query = sql.select(*_checked_columns(curves))
    if metric is not None:
        query = query.where(curves.c.metric == metric)
    parts: defaultdict[tuple[str, str], list[StoredPart]] = defaultdict(list)
    for row in _of_runs(connection, query, run_ids):
        check_values(curves, row[:-1], row[-1])
        run_id, name, first_step = row[:3]
        parts[run_id, name].append((first_step, tuple(row[3:-1])))
    for parts_of_curve in parts.values():
        if len(parts_of_curve) > 1:
            parts_of_curve.sort(key=itemgetter(0))
    return parts


def ends_of_curves(
    connection: sql.Connection, metric: str | None, run_ids: Sequence[str]
) -> dict[tuple[str, str], End]:
    """Return the ends of curves, in the order of the runs.

    See `parts_of_curves` for the arguments.
    """
    ends_of: dict[str, Mapping[str, End]] = {}
    for run_id, text in _of_runs(connection, ENDS, run_ids):
        try:
            ends_of[run_id] = _ends(text, metric)
        except DECODE_ERRORS as error:
            raise undecodable(f"run {run_id}: its outcome", error) from error
    return {
        (run_id, name): end
        for run_id in run_ids
        for name, end in sorted(ends_of.get(run_id, {}).items())
    }


def _of_runs(
    connection: sql.Connection, query: sql.Select[Any], run_ids: Sequence[str]
) -> Iterator[Sequence[Any]]:
    """Yield the rows of runs; the first column of the query is the id of the run."""
    if len(run_ids) > MOST_LOOKUPS:
        wanted = set(run_ids)
        yield from (row for row in _rows(connection, query) if row[0] in wanted)
    else:
        yield from _rows(connection, query.where(query.selected_columns[0].in_(run_ids)))


def whole_curve(
    run_id: str,
    metric: str,
    parts: Sequence[StoredPart],
    end: End,
    known: dict[bytes, NDArray[np.int64]],
) -> Curve:
    """Return a curve from its parts.

    Args:
        run_id: the run.
        metric: the metric.
        parts: the parts of `parts_of_curves`.
        end: the end that the outcome of the run gives.
        known: see `decode_curve`.

    Raises:
        DamagedError: a part is missing or cannot be decoded.
    """
    if parts:
        try:
            curve = decode_curve([part for _, part in parts], known)
        except DECODE_ERRORS as error:
            raise undecodable(f"run {run_id}: {metric}", error) from error
        steps = curve.steps
        if len(steps) and (steps[-1], len(steps)) == (end[0], end[2]):
            return curve
    raise DamagedError(f"run {run_id}: parts of {metric} are missing")
