"""Small plans, segments and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from optrial.records import Curve, PlannedRun, Segment
from optrial.spec import Status
from tests.specs import SPEC, STACK, changed


def planned(run_id: str, **changes: Any) -> PlannedRun:
    spec = replace(SPEC, hyperparameters={"lr": 0.1, "beta1": 0.9})
    run = PlannedRun(run_id=run_id, problem="moons", setting="lr=0.1", spec=spec, stack=STACK)
    return changed(run, **changes)


def curve(first: int, values: Sequence[float]) -> Curve:
    return Curve(np.arange(first, first + len(values)), np.array(values, np.float64))


def segment(run_id: str, step: int, status: Status = Status.INTERRUPTED, **fields: Any) -> Segment:
    return Segment(**({"run_id": run_id, "step": step, "status": status, "curves": {}} | fields))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()
