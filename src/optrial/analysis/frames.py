"""Records as pandas frames with clean dtypes."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from optrial.errors import StoreError, suggest
from optrial.records import Record, Store

__all__ = ["curves_frame", "runs_frame"]

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
_COLUMNS = [
    *("run_id", "problem", "optimizer", "setting", "phase", "rule", "seed", "status", "step"),
    "reason",
]


def runs_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row a run: what it is, its status, its hyperparameters, its final metrics.

    Hyperparameters are columns by their names, metrics by theirs; what a run does not have, and
    every metric of a run that is not done, is missing (NaN).
    """
    records = list(records)
    frame = pd.DataFrame(
        [[getattr(r, name) for name in _COLUMNS] for r in records], columns=_COLUMNS
    )
    frame["status"] = frame["status"].astype(str)
    for part in ("hyperparameters", "metrics"):
        columns = dict.fromkeys(name for record in records for name in getattr(record, part))
        for name in columns:
            frame[name] = [getattr(record, part).get(name) for record in records]
            if part == "metrics":
                frame[name] = frame[name].astype("float64")
    return frame


def curves_frame(store: Store, metrics: Iterable[str]) -> pd.DataFrame:
    """Return one row per recorded value of the metrics.

    Columns: metric, run_id, problem, optimizer, setting, phase, seed, step, epoch, value.

    Raises:
        StoreError: a metric of which nothing is stored.
    """
    records = {record.run_id: record for record in store.runs()}
    recorded = store.metrics()
    parts = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _CURVE_TYPES.items()})]
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
            names = ("problem", "optimizer", "setting", "phase", "seed")
            about = {name: getattr(record, name) for name in names}
            parts.append(points.assign(metric=metric, run_id=run_id, **about))
    return pd.concat(parts, ignore_index=True)[list(_CURVE_TYPES)].astype(_CURVE_TYPES)
