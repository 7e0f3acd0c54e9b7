"""Planned runs, what they gain while they train, and the records they leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from optrial.spec import TRAINING_SECONDS, Phase, RunFacts, RunSpec, StackId, Status

__all__ = ["Curve", "PlannedRun", "Progress", "Record", "Segment"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric over the steps of one run.

    Attributes:
        steps: (n,) int64, strictly increasing.
        values: (n,) float64; may contain infinities and NaN.

    Raises:
        ValueError: steps and values are not vectors of one length, or the steps do not increase.
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

    @classmethod
    def unchecked(cls, steps: NDArray[np.int64], values: NDArray[np.float64]) -> Self:
        """Return a curve of arrays that are known to be valid."""
        curve = object.__new__(cls)
        object.__setattr__(curve, "steps", steps)
        object.__setattr__(curve, "values", values)
        return curve

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        run_id: content hash of `spec`.
        problem: name of the study's problem.
        spec: everything that determines the numbers of the run.
        setting: the values that vary in the study, for display: ``lr=0.1``.
        stack: the runs it is trained with.
        phase: "tune" if the run helps to choose a setting, "report" if it is a result.
    """

    run_id: str
    problem: str
    spec: RunSpec
    setting: str
    stack: StackId
    phase: Phase = "report"

    @property
    def optimizer(self) -> str:
        """Name of the study's entry."""
        return self.spec.optimizer

    @property
    def rule(self) -> str:
        """Name of the update rule."""
        return self.spec.rule

    @property
    def hyperparameters(self) -> Mapping[str, Any]:
        """Every hyperparameter of the rule by name, and values of groups: "norm.lr"."""
        return self.spec.all_hyperparameters

    @property
    def seed(self) -> int:
        """Seed of the run; runs of different optimizers with equal seeds are paired."""
        return self.spec.seed

    @property
    def fold(self) -> int | None:
        """Number of the fold that the run is tested on, from 1; None for a fixed test split."""
        return self.spec.fold.place + 1 if self.spec.fold else None

    @property
    def rung(self) -> int | None:
        """Number of the rung of successive halving, from 1; None for the whole budget."""
        return self.spec.rung.place + 1 if self.spec.rung else None

    @property
    def title(self) -> str:
        """Name of the run for messages: ``adam lr=0.01 seed=0``."""
        fold = "" if self.fold is None else f" fold={self.fold}"
        rung = "" if self.rung is None else f" rung={self.rung}"
        return f"{self.optimizer} {self.setting}{fold}{rung} seed={self.seed}"

    @property
    def pair(self) -> int:
        """Number that paired runs of different optimizers share: the fold, or else the seed."""
        return self.seed if self.fold is None else self.fold

    @property
    def setting_id(self) -> str:
        """Id that runs share if they differ in seed, fold, rung and phase alone."""
        return self.spec.setting_id

    @property
    def steps(self) -> int:
        """Planned number of training steps."""
        return self.spec.steps

    @property
    def steps_per_epoch(self) -> int:
        """Training steps per epoch, at least 1."""
        return self.spec.steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class Segment:
    """New data of one run since the last commit.

    Attributes:
        run_id: a run of a saved plan.
        step: training steps taken so far.
        curves: the new part of every curve, by metric.
        status: interrupted while the run is in progress; done, diverged or error once it ended.
        reason: why it diverged or failed, or why a metric has no value, in one line.
        facts: provenance and timings of the whole run so far; they replace the earlier ones.
    """

    run_id: str
    step: int
    curves: Mapping[str, Curve]
    status: Status
    reason: str = ""
    facts: RunFacts = field(default_factory=RunFacts)


class Progress(NamedTuple):
    """Progress of a run.

    Attributes:
        run_id: the run.
        stack: the runs it is trained with.
        status: its status.
        step: training steps taken so far.
    """

    run_id: str
    stack: StackId
    status: Status
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record(PlannedRun):
    """One run as stored: its plan and its latest outcome.

    Attributes:
        status: how far it has come.
        step: training steps taken so far.
        reason: why it diverged or failed, or why a metric has no value; otherwise empty.
        facts: provenance and timings.
        metrics: final value of every metric; None for values that are not finite, and for every
            metric of a run that is not done.
    """

    status: Status = Status.PLANNED
    step: int = 0
    reason: str = ""
    facts: RunFacts = field(default_factory=RunFacts)
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Planned number of training steps; with a budget in seconds, those taken so far."""
        return self.spec.steps if self.spec.budget_seconds is None else max(1, self.step)

    @property
    def not_finite(self) -> Mapping[str, str]:
        """Reasons why metrics of a completed run have no value, by metric; `reason` lists them."""
        if self.status is not Status.DONE or not self.reason:
            return {}
        return self.facts.not_finite or {}

    def final(self, metric: str) -> float | None:
        """Return the final value of a metric, or None if it has none.

        ``training_seconds`` is the time spent on training alone, divided by the number of runs in
        the stack.
        """
        if metric != TRAINING_SECONDS:
            return self.metrics.get(metric)
        seconds = self.facts.seconds
        return seconds.training / self.width if seconds and self.status is Status.DONE else None

    @property
    def width(self) -> int:
        """Number of runs that were trained together; 1 if it is not recorded."""
        return self.facts.stack_width or 1
