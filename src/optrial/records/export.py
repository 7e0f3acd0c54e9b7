"""Export of records and curves as JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TextIO

from optrial.errors import StoreError, suggest
from optrial.records.encoding import strict
from optrial.records.record import Record
from optrial.records.store import Store

__all__ = ["curve_rows", "flat_rows", "run_rows", "write_csv", "write_json"]

COLUMNS = (
    "run_id",
    "problem",
    "optimizer",
    "setting",
    "phase",
    "rule",
    "hyperparameters",
    "seed",
    "status",
    "step",
    "reason",
    "metrics",
)


def run_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return one JSON-able object per run, with nested hyperparameters and final metrics."""
    return [strict({name: getattr(record, name) for name in COLUMNS}) for record in records]


def flat_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return one flat row per run: columns ``hyperparameters.lr``, ``metrics.test_accuracy``, ...

    Every row has every column; None where a run lacks the hyperparameter or value.
    """
    rows = [_flat(row) for row in run_rows(records)]
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = sorted(names, key=lambda name: COLUMNS.index(name.partition(".")[0]))
    return [{name: row.get(name) for name in columns} for row in rows]


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return flat


def curve_rows(store: Store, metric: str) -> Iterator[dict[str, Any]]:
    """Yield one row per stored value of a metric, in the order of the current plan.

    Columns: run_id, problem, optimizer, setting, phase, seed, step, epoch (step / steps per epoch)
    and value, which may be infinite or NaN.

    Raises:
        StoreError: the store holds no curve of the metric.
    """
    known = store.metrics()
    if metric not in known:
        raise StoreError(f"no curve of '{metric}' is stored. {suggest(metric, known)}")
    records = {record.run_id: record for record in store.runs()}
    for (run_id, _), curve in store.curves(metric, list(records)).items():
        record = records[run_id]
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            yield {
                "run_id": run_id,
                "problem": record.problem,
                "optimizer": record.optimizer,
                "setting": record.setting,
                "phase": record.phase,
                "seed": record.seed,
                "step": step,
                "epoch": step / record.steps_per_epoch,
                "value": value,
            }


def write_json(value: Any, stream: TextIO) -> None:
    """Write plain values, such as a list of rows, as strict JSON.

    Numbers that are not finite become null. Characters outside the stream's encoding are escaped.
    """
    text = json.dumps(strict(value), indent=2, allow_nan=False, ensure_ascii=False)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(strict(value), indent=2, allow_nan=False)
    stream.write(text + "\n")


def write_csv(rows: Iterable[Mapping[str, Any]], stream: TextIO) -> None:
    """Write rows with equal columns as CSV with a header; floats are restored exactly.

    None becomes an empty field. Nothing is written if there are no rows.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is not None:
        writer = csv.DictWriter(stream, list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerows(chain([first], remaining))
