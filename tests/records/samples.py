"""Small plans, segments and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optrial.records import Curve, PlannedRun, Segment
from optrial.spec import Status


def planned(run_id: str, **changes: Any) -> PlannedRun:
    fields: dict[str, Any] = {
        "run_id": run_id,
        "optimizer": "adam",
        "setting": "lr=0.1",
        "rule": "adam",
        "hyperparameters": {"lr": 0.1, "beta1": 0.9},
        "seed": 0,
        "spec": {"problem": {"dataset": "moons"}, "lr": 0.1},
        "stack": "stack",
        "steps": 100,
        "steps_per_epoch": 10,
    }
    return PlannedRun(**(fields | changes))


def curve(first: int, values: Sequence[float]) -> Curve:
    return Curve(np.arange(first, first + len(values)), np.array(values, np.float64))


def segment(run_id: str, step: int, status: Status = Status.INTERRUPTED, **fields: Any) -> Segment:
    return Segment(**({"run_id": run_id, "step": step, "status": status, "curves": {}} | fields))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()
