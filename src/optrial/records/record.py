"""What one run is, what it gained, and what it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optrial.spec import TRAINING_SECONDS, Status

__all__ = ["Curve", "PlannedRun", "Record", "Segment"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric over the steps of one run.

    Attributes:
        steps: (n,) int64, strictly increasing.
        values: (n,) float64, any value: infinities and NaN are measurements too.

    Raises:
        ValueError: if the two differ in shape, are not vectors, or the steps do not increase.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", np.asarray(self.steps, np.int64))
        object.__setattr__(self, "values", np.asarray(self.values, np.float64))
        if self.steps.ndim != 1 or self.steps.shape != self.values.shape:
            raise ValueError(
                f"a curve has as many steps as values, got shapes {self.steps.shape} "
                f"and {self.values.shape}"
            )
        if (self.steps[1:] <= self.steps[:-1]).any():
            raise ValueError(f"the steps of a curve increase, got {self.steps}")

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of the plan, before anything is known of its result.

    Attributes:
        run_id: content hash of `spec`.
        optimizer: name of the study's entry.
        setting: the values that vary, as in ``lr=0.1``.
        phase: "tune" if the run helps to choose a setting, with a seed and splits of its own;
            "report" if it is a result.
        rule: name of the update rule.
        hyperparameters: every hyperparameter of the optimizer, JSON-able.
        seed: seed of the run; runs of different optimizers with equal seeds are paired.
        spec: everything that determines the run's numbers, JSON-able.
        stack: id of the stack it is trained in.
        steps: planned number of training steps.
        steps_per_epoch: training steps in one epoch, at least 1.
    """

    run_id: str
    optimizer: str
    setting: str
    rule: str
    hyperparameters: Mapping[str, Any]
    seed: int
    spec: Mapping[str, Any]
    stack: str
    steps: int
    steps_per_epoch: int
    phase: Literal["tune", "report"] = "report"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What one run gained since the last commit.

    Attributes:
        run_id: the run, already part of a saved plan.
        step: training steps taken so far.
        curves: the new part of every curve, by metric.
        status: interrupted while the run is under way; done, diverged or error when it ended.
        reason: why it diverged or failed, or why a metric has no value, in one line.
        facts: JSON-able provenance and timings of the whole run so far (hashes, seconds, engine,
            versions); they replace those of the commit before.
    """

    run_id: str
    step: int
    curves: Mapping[str, Curve]
    status: Status
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record(PlannedRun):
    """One run as stored: its plan and its latest outcome.

    Attributes:
        status: how far it has come.
        step: training steps taken so far.
        reason: why it diverged or failed, or why a metric has no value; else empty.
        facts: provenance and timings, as given by the engine.
        metrics: final value of every metric; None for every metric of a run that is not done, and
            for a value that is not finite.
    """

    status: Status = Status.PLANNED
    step: int = 0
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def not_finite(self) -> Mapping[str, str]:
        """Why metrics of a run that is done have no value, by metric."""
        return self.facts.get("not_finite") or {} if self.status is Status.DONE else {}

    def final(self, metric: str) -> float | None:
        """Return the final value of a metric, None where there is none.

        ``training_seconds`` is the time of training alone, of a run of a stack its equal share.
        """
        if metric != TRAINING_SECONDS:
            return self.metrics.get(metric)
        seconds = self.facts.get("seconds")
        if self.status is not Status.DONE or not seconds:
            return None
        return float(seconds["training"]) / int(self.facts.get("stack_width") or 1)
