"""Decisions during a training that depend on its validation results: plateaus, early stopping."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.engine.learner import Arrays
from optrial.spec import RunSpec

__all__ = ["EarlyStops", "Plateaus", "schedule_key"]

Value = Callable[[str], float]
"""Value of a metric of one run in the latest evaluation."""


def schedule_key(schedule: Mapping[str, Any]) -> str:
    """Return the text that equal schedules share."""
    return json.dumps(schedule, sort_keys=True)


class Plateaus:
    """Factors of the learning rates of runs whose schedule is `plateau`; as ReduceLROnPlateau.

    Args:
        specs: the runs.
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._schedules = [_plateaus_of(spec) for spec in specs]
        count = max(map(len, self._schedules))
        self._best = np.full((len(specs), count), np.nan)
        self._bad = np.zeros((len(specs), count), np.int64)  # evaluations without improvement
        self._cooldown = np.zeros((len(specs), count), np.int64)  # evaluations left
        self._scales = np.ones((len(specs), count))

    def update(self, run: int, value: Value) -> None:
        """Take an evaluation of a run into account."""
        for place, schedule in enumerate(self._schedules[run].values()):
            at = run, place
            self._count(at, schedule, value(schedule["metric"]))
            if self._bad[at] > schedule["patience"]:
                scale = self._scales[at] * schedule["factor"]
                self._scales[at] = max(scale, schedule["final"])
                self._cooldown[at], self._bad[at] = schedule["cooldown"], 0

    def _count(self, at: tuple[int, int], schedule: Mapping[str, Any], value: float) -> None:
        """Count an evaluation as an improvement or as a bad one."""
        self._bad[at] += 1
        if _improves(value, self._best[at], schedule):
            self._best[at], self._bad[at] = value, 0
        if self._cooldown[at]:
            self._cooldown[at] -= 1
            self._bad[at] = 0

    def scales(self, run: int) -> dict[str, float]:
        """Return the factors of a run, by the key of the schedule."""
        scales = self._scales[run].tolist()
        return dict(zip(self._schedules[run], scales, strict=False))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `load` needs; none without plateaus."""
        if not self._scales.size:
            return {}
        return {
            "training.plateau_best": self._best.copy(),
            "training.plateau_counts": np.stack([self._bad, self._cooldown]),
            "training.plateau_scales": self._scales.copy(),
        }

    def load(self, state: Arrays) -> None:
        """Restore the result of `state`."""
        if self._scales.size:
            self._best = state["training.plateau_best"].copy()
            self._bad, self._cooldown = state["training.plateau_counts"].copy()
            self._scales = state["training.plateau_scales"].copy()


def _plateaus_of(spec: RunSpec) -> dict[str, Mapping[str, Any]]:
    schedules = (spec.schedule, *(group.schedule for group in spec.groups))
    return {schedule_key(s): s for s in schedules if s is not None and s["kind"] == "plateau"}


def _improves(value: float, best: float, schedule: Mapping[str, Any]) -> bool:
    """Return whether a value is better than the best one so far by more than the threshold."""
    if np.isnan(best):
        return not np.isnan(value)
    least = schedule["threshold"]
    if schedule["threshold_mode"] == "rel":
        least *= best
    return bool(value < best - least if schedule["better"] == "lower" else value > best + least)


class EarlyStops:
    """Runs that end before their budget, because validation has not improved for a while.

    Args:
        specs: the runs.

    Attributes:
        stopped: whether each run has ended, (runs,).
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._rule = specs[0].early_stopping
        self.stopped = np.zeros(len(specs), bool)
        self._best = np.full(len(specs), np.nan)
        self._bad = np.zeros(len(specs), np.int64)

    def ends(self, run: int, value: Value) -> bool:
        """Take an evaluation of a run into account; return whether the run ends with it."""
        if self._rule is None:
            return False
        score = value(self._rule.metric) * (-1 if self._rule.better == "lower" else 1)
        self._bad[run] += 1
        first = np.isnan(self._best[run]) and not np.isnan(score)
        if first or score > self._best[run] + self._rule.min_delta:
            self._best[run], self._bad[run] = score, 0
        self.stopped[run] = self._bad[run] >= self._rule.patience
        return bool(self.stopped[run])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `load` needs; none without early stopping."""
        if self._rule is None:
            return {}
        return {
            "training.stopped": self.stopped.copy(),
            "training.stopping_best": self._best.copy(),
            "training.stopping_bad": self._bad.copy(),
        }

    def load(self, state: Arrays) -> None:
        """Restore the result of `state`."""
        if self._rule is not None:
            self.stopped = state["training.stopped"].copy()
            self._best = state["training.stopping_best"].copy()
            self._bad = state["training.stopping_bad"].copy()
