"""Records as pandas frames with clean dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from optrial.records import Record, Store, curve_rows

__all__ = ["curves_frame", "runs_frame"]

_COLUMNS = ["run_id", "optimizer", "setting", "rule", "seed", "status", "step", "reason"]


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


def curves_frame(store: Store, metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row a point: metric, run_id, optimizer, setting, seed, step, epoch, value."""
    parts = [pd.DataFrame(list(curve_rows(store, metric))) for metric in metrics]
    frames = [part.assign(metric=name) for name, part in zip(metrics, parts, strict=True)]
    columns = ["metric", "run_id", "optimizer", "setting", "seed", "step", "epoch", "value"]
    filled = [frame for frame in frames if len(frame)]
    return (
        pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)
    )
