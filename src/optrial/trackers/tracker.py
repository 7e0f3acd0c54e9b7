"""What a tracker is given of each run, and what it must be able to do with it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from optrial.records import Curve, Record

__all__ = ["Rows", "Tracker", "described", "group_of", "rows_between", "title_of"]

Rows = Mapping[int, Mapping[str, float]]
"""Step -> metric -> value, in the order of steps."""

POINTS = 200
"""About how many points of a metric are sent of each run at most: `train_loss` has one a step."""


class Tracker(Protocol):
    """A service that shows runs while they train.

    Every method may raise anything: the tracker is then dropped, and training goes on.
    """

    @property
    def place(self) -> str:
        """Where it writes; what was sent to one place is not sent there again."""

    def start(self, run: Record, known: str | None) -> str:
        """Begin a run, or go on with one.

        Args:
            run: what is known of it.
            known: what an earlier `start` returned, perhaps in another process; None for a new run.

        Returns:
            What the service calls it.
        """

    def log(self, run: Record, rows: Rows) -> None:
        """Send points of a run that was started; none of them is sent twice."""

    def end(self, run: Record) -> None:
        """Close a run that was started; `run.status` says whether it ended or is only left."""


def title_of(run: Record) -> str:
    """What a run is called: ``adam lr=0.01 seed=0``."""
    return f"{group_of(run)} seed={run.seed}"


def group_of(run: Record) -> str:
    """What runs that differ only in their seeds are called: ``adam lr=0.01``."""
    return f"{run.optimizer} {run.setting}".strip()


def described(run: Record) -> dict[str, bool | float | str]:
    """What sets a run apart, as flat values: names, seed and every hyperparameter."""
    spec = run.spec
    values = {
        "optimizer": spec.optimizer,
        "setting": run.setting,
        "phase": run.phase,
        "rule": spec.rule,
        "seed": spec.seed,
        "dataset": spec.dataset,
        "model": spec.model,
        "loss": spec.loss,
        "batch_size": spec.batch_size,
        "weight_decay": spec.weight_decay,
        "schedule": spec.schedule,
        "precision": spec.precision,
        **spec.hyperparameters,
    }
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }


def rows_between(curves: Mapping[str, Curve], after: int, run: Record) -> Rows:
    """Return the points of a run's curves past the step `after` and up to the run's own.

    Of a metric with more than about `POINTS` in the whole run, evenly spread ones and the last.
    """
    every = max(1, run.steps // POINTS)
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for metric, curve in curves.items():
        first_of_its_part = np.diff(curve.steps // every, prepend=-1) > 0
        kept = first_of_its_part | (curve.steps == run.steps)
        new = kept & (curve.steps > after) & (curve.steps <= run.step)
        for step, value in zip(curve.steps[new].tolist(), curve.values[new].tolist(), strict=True):
            rows[step][metric] = value
    return dict(sorted(rows.items()))
