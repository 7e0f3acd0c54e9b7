"""The interface of a tracker, and the values that it receives for each run."""

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
"""Approximate limit of points per metric and run; `train_loss` has one per step."""


class Tracker(Protocol):
    """A service that shows runs while they train.

    Any method may raise any exception: the tracker is then dropped, and training goes on.
    """

    @property
    def place(self) -> str:
        """Destination of the tracker; no point is sent to the same place twice."""

    def start(self, run: Record, service_id: str | None) -> str:
        """Start a run in the service, or continue one.

        Args:
            run: the run as recorded so far.
            service_id: the id that an earlier `start` returned, perhaps in another process; None
                for a new run.

        Returns:
            The id of the run in the service.
        """

    def log(self, run: Record, rows: Rows) -> None:
        """Send new points of a run that was started."""

    def end(self, run: Record) -> None:
        """Close a run that was started; `run.status` tells whether it ended or was interrupted."""


def title_of(run: Record) -> str:
    """Return the title of a run, such as ``adam lr=0.01 seed=0``."""
    fold = "" if run.fold is None else f" fold={run.fold}"
    return f"{group_of(run)}{fold} seed={run.seed}"


def group_of(run: Record) -> str:
    """Return the common title of runs that differ in seed and fold alone: ``adam lr=0.01``."""
    rung = "" if run.rung is None else f" rung={run.rung}"
    return f"{run.optimizer} {run.setting}".strip() + rung


def described(run: Record) -> dict[str, bool | float | str]:
    """Return what distinguishes a run, as flat values: names, seed and every hyperparameter."""
    spec = run.spec
    values = {
        "optimizer": spec.optimizer,
        "setting": run.setting,
        "phase": run.phase,
        "rule": spec.rule,
        "seed": spec.seed,
        "fold": run.fold,
        "rung": run.rung,
        "dataset": spec.dataset,
        "model": spec.model,
        "loss": spec.loss,
        "batch_size": spec.batch_size,
        "weight_decay": spec.weight_decay,
        "schedule": spec.schedule,
        "precision": spec.precision,
        **spec.all_hyperparameters,
    }
    return {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for key, value in values.items()
        if value is not None
    }


def rows_between(curves: Mapping[str, Curve], after: int, run: Record) -> Rows:
    """Return the points of a run's curves after the step `after`, up to the run's step.

    Curves with more than about `POINTS` points are thinned evenly; the last point is always kept.
    """
    every = max(1, run.steps // POINTS)
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for metric, curve in curves.items():
        first_of_its_interval = np.diff(curve.steps // every, prepend=-1) > 0
        kept = first_of_its_interval | (curve.steps == run.steps)
        new = kept & (curve.steps > after) & (curve.steps <= run.step)
        for step, value in zip(curve.steps[new].tolist(), curve.values[new].tolist(), strict=True):
            rows[step][metric] = value
    return dict(sorted(rows.items()))
