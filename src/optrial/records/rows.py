"""Rows of the store: objects to plain values with a checksum, and back.

A checksum is the CRC-32 of the other columns of a row. It shows damage by hardware and by programs
that edit the database; it is no protection against forgery.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sql

from optrial.records.encoding import encode_curve, strict
from optrial.records.record import Curve, PlannedRun, Segment
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
from optrial.records.texts import FactsWriter, spec_text
from optrial.spec import Status

__all__ = [
    "COVERED",
    "DECODE_ERRORS",
    "DamagedError",
    "Latest",
    "as_json",
    "check",
    "check_values",
    "checksum",
    "curve_rows",
    "decoding",
    "latest_of",
    "name_of",
    "now",
    "outcome_rows",
    "plan_run_row",
    "planned_outcomes",
    "run_row",
    "sealed",
    "undecodable",
]

Row = Mapping[Any, Any]  # columns by name: a dict, or a row of SQLAlchemy

Latest = Mapping[str, Sequence[Any]]
"""Step, value and number of points at the end of each curve of a run, by metric."""

COVERED = {
    table: [
        column.name
        for column in table.columns
        if column.name != "checksum" and column is not table.autoincrement_column
    ]
    for table in metadata.tables.values()
}
"""The columns of each table that its checksums cover: all but numbers that the database assigns."""

_TYPES = {
    table: [table.c[name].type.python_type for name in names] for table, names in COVERED.items()
}
"""Types of the covered columns: SQLite stores any type in any column."""

_NAMES = {
    meta: "entry '{key}' of the table meta",
    plans: "plan {id}",
    runs: "run {run_id}: its spec",
    plan_runs: "run {run_id}: its place in plan {plan_id}",
    outcomes: "run {run_id}: its outcome",
    curves: "run {run_id}: its {metric} from step {first_step}",
    checkpoints: "stack {stack}: its checkpoint",
}
"""Name of a row in messages, by table."""

DECODE_ERRORS = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RecursionError),
    *(zlib.error, zipfile.BadZipFile, NotImplementedError),
)
"""Errors that the decoders raise for data that they did not write."""


class DamagedError(Exception):
    """Rows of the store are damaged or missing; the message names them."""


def checksum(values: Sequence[object]) -> int:
    """Return the CRC-32 of the lengths and bytes of a row's values."""
    return _of_parts(values) if bytes in map(type, values) else _of_texts(values)


def _of_texts(values: Sequence[object]) -> int:
    texts = [*map(str, values)]
    joined = "".join(texts)
    if not joined.isascii():  # lengths in characters are not those in bytes
        return _of_parts(values)
    return zlib.crc32(joined.encode(), _of_lengths((*map(len, texts),)))


def _of_parts(values: Sequence[object]) -> int:
    parts = [
        value if type(value) is bytes else str(value).encode("utf-8", "surrogatepass")
        for value in values
    ]
    return zlib.crc32(b"".join(parts), _of_lengths((*map(len, parts),)))


@lru_cache(4096)
def _of_lengths(lengths: tuple[int, ...]) -> int:
    """Return the CRC-32 of lengths; most rows of a table share a few of them."""
    return zlib.crc32(",".join(map(str, lengths)).encode())


_CHECKSUM_OF = {
    table: _of_parts if bytes in types else _of_texts for table, types in _TYPES.items()
}


def sealed(table: sql.Table, row: Row) -> dict[str, Any]:
    """Return a row with its checksum."""
    return {**row, "checksum": checksum([row[name] for name in COVERED[table]])}


def check(table: sql.Table, row: Row) -> None:
    """Compare a row with its checksum and the types of its columns.

    Raises:
        DamagedError: they differ.
    """
    check_values(table, [row[name] for name in COVERED[table]], row["checksum"])


def name_of(table: sql.Table, row: Row) -> str:
    """Return the words that messages use for a row."""
    return _NAMES[table].format_map(row)


class _Decoding:
    """Context of `decoding`; a generator would take longer than most of what is decoded."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DECODE_ERRORS):
            raise undecodable(self._name, error) from error


def decoding(name: str) -> _Decoding:
    """Turn any of `DECODE_ERRORS` into the error `undecodable` about what has this name.

    Loops over many rows catch the errors themselves, which takes no time where there are none.
    """
    return _Decoding(name)


def undecodable(name: str, error: BaseException) -> DamagedError:
    """Return the error about what has this name, from that of its decoder."""
    return DamagedError(f"{name} cannot be decoded ({type(error).__name__})")


def as_json(value: object) -> str:
    """Return strict JSON; numbers that are not finite become null."""
    return json.dumps(strict(value), allow_nan=False)


def now() -> str:
    """Return the time in UTC, for people to read."""
    return datetime.now(UTC).isoformat(" ", "milliseconds")


def run_row(run: PlannedRun) -> dict[str, Any]:
    """Return the row of a run's spec and stack."""
    row = {"run_id": run.run_id, "spec": spec_text(run.spec), "stack": str(run.stack)}
    return sealed(runs, row)


def plan_run_row(plan_id: int, position: int, run: PlannedRun) -> dict[str, Any]:
    """Return the row of a run's place in a plan."""
    row = {"plan_id": plan_id, "position": position, "run_id": run.run_id}
    names = {"problem": run.problem, "setting": run.setting, "phase": run.phase}
    return sealed(plan_runs, row | names)


def planned_outcomes(run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return the outcomes of runs that have not started."""
    nothing = Segment(run_id="", step=0, curves={}, status=Status.PLANNED)
    row = outcome_row(nothing, "{}", {})
    return [sealed(outcomes, {**row, "run_id": run_id}) for run_id in run_ids]


def outcome_rows(segments: Sequence[Segment], latest: Mapping[str, Latest]) -> list[dict[str, Any]]:
    """Return the outcomes of runs after a segment of each.

    Args:
        segments: the segments.
        latest: the ends of the curves by run id.
    """
    writer = FactsWriter()
    return [outcome_row(s, writer.text(s.facts), latest[s.run_id]) for s in segments]


def outcome_row(segment: Segment, facts: str, latest: Latest) -> dict[str, Any]:
    """Return the outcome of a run after a segment, with its facts and the ends of its curves."""
    # PostgreSQL refuses NUL and lone surrogates, which messages of user code may contain.
    reason = segment.reason.replace("\0", " ").encode(errors="replace").decode()
    row = {
        "run_id": segment.run_id,
        "status": segment.status.value,
        "step": segment.step,
        "reason": " ".join(reason.split()),
        "facts": facts,
        "latest": as_json(latest),
        "saved_at": now(),
    }
    return sealed(outcomes, row)


def latest_of(segment: Segment, before: Latest) -> Latest:
    """Return the ends of a run's curves after a segment."""
    added = {
        metric: (
            int(curve.steps[-1]),
            float(curve.values[-1]),
            len(curve) + (before[metric][2] if metric in before else 0),
        )
        for metric, curve in segment.curves.items()
        if len(curve)
    }
    return {**before, **added}


def curve_rows(run_id: str, parts: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """Return a row for the new part of each curve of a run."""
    return [
        sealed(curves, {"run_id": run_id, "metric": metric, **encode_curve(curve)})
        for metric, curve in parts.items()
        if len(curve)
    ]


def check_values(table: sql.Table, values: Sequence[object], stored: object) -> None:
    """Compare the covered columns of a row with their checksum and types; see `check`."""
    if [*map(type, values)] != _TYPES[table] or stored != _CHECKSUM_OF[table](values):
        row = dict(zip(COVERED[table], values, strict=True))
        raise DamagedError(f"{name_of(table, row)} is damaged")
