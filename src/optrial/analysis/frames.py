"""The tables of runs and of curves: one definition of their columns for every format.

`optrial runs`, `optrial curves` and `Results` print, write and return these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from optrial.errors import StoreError, suggest
from optrial.records import Record, StoreReader, strict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CURVE_COLUMNS", "RUN_COLUMNS", "Value", "curves_frame", "run_rows", "runs_frame"]

Value: TypeAlias = bool | int | float | str | list[object] | None
"""A cell of the table of runs; a hyperparameter may be a list."""

RUN_COLUMNS = (
    *("run_id", "problem", "optimizer", "setting", "phase", "rule"),
    *("seed", "status", "step", "reason"),
)
"""First columns of the table of runs; hyperparameters and then final metrics follow.

Runs of a cross-validation also have the column ``fold``, after ``seed``; those of a study with
successive halving ``rung``, which is empty for runs with the whole budget.
"""

_SOMETIMES = ("fold", "rung")

_CURVE_TYPES = {
    "metric": "str",
    "run_id": "str",
    "problem": "str",
    "optimizer": "str",
    "setting": "str",
    "phase": "str",
    "seed": "int64",
    "step": "int64",
    "epoch": "float64",
    "value": "float64",
}
CURVE_COLUMNS = tuple(_CURVE_TYPES)
"""Columns of the table of curves."""


def run_columns(records: Iterable[Record]) -> list[str]:
    """Return `RUN_COLUMNS`, and ``fold`` and ``rung`` if any run has one."""
    after = RUN_COLUMNS.index("seed") + 1
    return [*RUN_COLUMNS[:after], *_further(records), *RUN_COLUMNS[after:]]


def _further(records: Iterable[Record]) -> list[str]:
    """Return the names of the columns that only some studies have."""
    specs = [record.spec for record in records]
    return [name for name in _SOMETIMES if any(getattr(spec, name) for spec in specs)]


def run_rows(records: Sequence[Record]) -> list[dict[str, Value]]:
    """Return one row per run, each with the same columns.

    The columns are those of `run_columns`, the hyperparameters by name and the final metrics by
    name. A hyperparameter called like another column has the prefix ``hyperparameter_``. Values are
    as JSON holds them: None where a run lacks a hyperparameter or has no final metric.
    """
    hyperparameters = [dict(_flat(record.hyperparameters)) for record in records]
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    first = run_columns(records)
    columns = _column_names(hyperparameters, {*first, *metrics})
    return [
        strict(
            {
                **{name: getattr(record, name) for name in first},
                **{column: values.get(name) for name, column in columns.items()},
                **{metric: record.metrics.get(metric) for metric in metrics},
            }
        )
        for record, values in zip(records, hyperparameters, strict=True)
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the items of nested mappings by dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _column_names(rows: Iterable[Mapping[str, object]], taken: set[str]) -> dict[str, str]:
    """Return a column for each name in the rows, none of them taken."""
    columns: dict[str, str] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        column = name
        while column in taken:
            column = f"hyperparameter_{column}"
        columns[name] = column
        taken.add(column)
    return columns


def runs_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per run, with the columns of `run_rows`; missing metrics are NaN."""
    import pandas as pd  # heavy  # noqa: PLC0415

    records = list(records)
    rows = run_rows(records)
    frame = pd.DataFrame(rows, columns=list(rows[0]) if rows else list(RUN_COLUMNS))
    metrics = {name for record in records for name in record.metrics}
    return frame.astype({"status": "str"} | dict.fromkeys(metrics, "float64"))


def curves_frame(store: StoreReader, metrics: Iterable[str]) -> pd.DataFrame:
    """Return one row per recorded value, with the columns `CURVE_COLUMNS`.

    Further columns are those of `run_columns`. ``epoch`` is the step divided by the
    steps per epoch; ``value`` may be infinite or NaN. Runs of earlier plans are left out.

    Raises:
        StoreError: nothing is recorded for a metric.
    """
    import pandas as pd  # heavy  # noqa: PLC0415

    records = {record.run_id: record for record in store.runs()}
    recorded = store.metrics()
    further = _further(records.values())
    types = {**_CURVE_TYPES, **dict.fromkeys(further, "Int64")}
    parts = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})]
    for metric in metrics:
        if metric not in recorded:
            raise StoreError(f"no curve of '{metric}' is stored. {suggest(metric, recorded)}")
        for (run_id, _), curve in store.curves(metric, list(records)).items():
            record = records[run_id]
            points = pd.DataFrame(
                {
                    "step": curve.steps,
                    "epoch": curve.steps / record.steps_per_epoch,
                    "value": curve.values,
                }
            )
            names = ["problem", "optimizer", "setting", "phase", "seed", *further]
            about = {name: getattr(record, name) for name in names}
            parts.append(points.assign(metric=metric, run_id=run_id, **about))
    return pd.concat(parts, ignore_index=True)[list(types)].astype(types)
