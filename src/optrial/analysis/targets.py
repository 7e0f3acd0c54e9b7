"""Targets of a study: steps and seconds that runs take to reach a value of a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from optrial.analysis.contenders import Contender
from optrial.analysis.statistics import (
    Arrival,
    Interval,
    Survival,
    first_step_reaching,
    kaplan_meier,
    median_time,
)
from optrial.errors import Problem, suggest
from optrial.records import Curve, Record
from optrial.spec import (
    FINAL,
    TRAINING_SECONDS,
    Direction,
    Directions,
    Status,
    metric_title,
    undeclared,
)

__all__ = [
    "Target",
    "TargetTimes",
    "Unit",
    "shared_seconds",
    "target_metric_problem",
    "target_problems",
    "target_times",
    "targets_of",
]

Unit = Literal["steps", "seconds"]
"""Unit of the time to a target."""


@dataclass(frozen=True)
class Target:
    """A value of a metric to reach: at least it, or at most it if lower values are better.

    Attributes:
        metric: name of the metric.
        value: as recorded; a fraction for an accuracy.
        percent: whether the text shows the value in percent.
    """

    metric: str
    value: float
    percent: bool = field(compare=False)

    def __str__(self) -> str:
        """Return the target for people: ``95 % test accuracy`` or ``test loss 0.5``."""
        title = metric_title(self.metric)
        return f"{100 * self.value:g} % {title}" if self.percent else f"{title} {self.value:g}"


def targets_of(study: Mapping[str, Any], problem: str, directions: Directions) -> list[Target]:
    """Return the targets of one problem of a study.

    Args:
        study: after defaults, as a store holds it.
        problem: name of the problem, whose own `targets` replace those of the study.
        directions: directions and units of the metrics.
    """
    entry = (study.get("problem") or {}).get(problem)
    replaced = entry.get("targets") if isinstance(entry, Mapping) else None
    targets: Mapping[str, float] = replaced if replaced is not None else study.get("targets") or {}
    return [Target(name, value, directions.percent(name)) for name, value in targets.items()]


@dataclass(frozen=True, eq=False)
class TargetTimes:
    """Steps or seconds that one optimizer took to a target, over seeds.

    Attributes:
        contender: the optimizer and its chosen setting.
        target: the target.
        unit: unit of the times.
        arrivals: arrivals by seed, of runs that finished or diverged.
    """

    contender: Contender
    target: Target
    unit: Unit
    arrivals: Mapping[int, Arrival]

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.arrivals)

    @property
    def reached(self) -> int:
        """Number of runs that reached the target."""
        return sum(arrival.reached for arrival in self.arrivals.values())

    @property
    def diverged(self) -> int:
        """Number of runs that diverged before they reached the target."""
        return sum(arrival.diverged for arrival in self.arrivals.values())

    @property
    def censored(self) -> int:
        """Number of runs that were trained to their end without reaching the target."""
        return self.runs - self.reached - self.diverged

    @property
    def observed(self) -> float:
        """The longest time that a run without divergence was observed; 0 if all diverged."""
        times = (a.time for a in self.arrivals.values() if not a.diverged)
        return max(times, default=0.0)

    @cached_property
    def survival(self) -> Survival:
        """Kaplan-Meier estimate of the share of runs that have not reached the target."""
        return kaplan_meier(*self._censored)

    @cached_property
    def median(self) -> Interval:
        """Kaplan-Meier median; infinite if fewer than half of the runs reached the target."""
        return median_time(*self._censored)

    @property
    def _censored(self) -> tuple[list[float], list[bool]]:
        arrivals = self.arrivals.values()
        return [a.time for a in arrivals], [a.reached for a in arrivals]


def target_times(
    contenders: Iterable[Contender],
    curves: Mapping[str, Curve],
    target: Target,
    better: Direction,
    unit: Unit = "steps",
) -> tuple[TargetTimes, ...]:
    """Return the times to a target, of each contender with a run that finished or diverged.

    Args:
        contenders: the optimizers that are compared.
        curves: run id -> curve of the metric of the target.
        target: the target.
        better: which values of the metric are better.
        unit: unit of the times. Seconds are those of training without evaluation, equal for every
            step; check `shared_seconds` before use.
    """
    times = (
        TargetTimes(contender, target, unit, _arrivals(contender, curves, target, better, unit))
        for contender in contenders
    )
    return tuple(one for one in times if one.arrivals)


def _arrivals(
    contender: Contender,
    curves: Mapping[str, Curve],
    target: Target,
    better: Direction,
    unit: Unit,
) -> dict[int, Arrival]:
    """Return the arrivals by seed, without runs that finished but did not record the metric."""
    arrivals = {}
    for record in contender.records:
        curve = curves.get(record.run_id)
        step = _step_reaching(curve, target, better) if curve else None
        if step is None and record.status is Status.DIVERGED:
            arrivals[record.seed] = Arrival(math.inf, False)
        elif curve and record.status in FINAL:
            time = float(record.step if step is None else step)
            arrivals[record.seed] = Arrival(time * _scale(record, unit), step is not None)
    return arrivals


def _step_reaching(curve: Curve, target: Target, better: Direction) -> int | None:
    higher = better == "higher"
    return first_step_reaching(curve.steps, curve.values, target.value, higher_is_better=higher)


def _scale(record: Record, unit: Unit) -> float:
    """Return the time of one step in the unit; NaN where seconds are not recorded."""
    if unit == "steps":
        return 1.0
    seconds = record.facts.seconds
    return seconds.training / record.step if seconds and record.step else math.nan


def shared_seconds(records: Iterable[Record]) -> str:
    """Say why seconds of runs cannot be compared; empty where each was trained alone."""
    ended = [r for r in records if r.status in FINAL]
    widths = [record.width for record in ended]
    shared = sum(width > 1 for width in widths)
    if shared:
        together = f"{shared} of {len(ended)} runs were trained in stacks of up to {max(widths)}"
        return f"{together}, whose seconds are shared by all of their runs"
    if not all(record.facts.seconds for record in ended):
        return "not every run recorded how long it was trained"
    return ""


def target_problems(
    targets: Mapping[str, float], metrics: Sequence[str], directions: Directions
) -> list[Problem]:
    """Return the problems with the key `targets` of a study.

    Args:
        targets: metric -> value.
        metrics: names of the metrics that the study records.
        directions: directions of the metrics.
    """
    problems = []
    for metric in targets:
        if message := target_metric_problem(metric, metrics, directions):
            problems.append(Problem(f"targets.{metric}", message))
    return problems


def target_metric_problem(metric: str, metrics: Sequence[str], directions: Directions) -> str:
    """Say why no target can be set for a metric; empty where one can.

    An empty `metrics` allows every name.
    """
    if metric == TRAINING_SECONDS:
        return f"'{metric}' has no curve that reaches a target; name another metric."
    if metrics and metric not in metrics:
        return f"'{metric}' is not recorded. {suggest(metric, metrics)}"
    if directions.better(metric) is None:
        way_out = "declare it under problem.metrics: {name: module:function, better: lower}"
        return f"{undeclared(metric)}; {way_out}, or higher."
    return ""
