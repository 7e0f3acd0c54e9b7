"""Results for the targets of a study, and performance profiles over its problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optrial.analysis.statistics import performance_profile
from optrial.analysis.statistics.merit import Floats
from optrial.analysis.targets import (
    Target,
    TargetTimes,
    Unit,
    shared_seconds,
    target_times,
    targets_of,
)
from optrial.analysis.view import ProblemView, StudyView
from optrial.spec import metric_title

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Profile",
    "TargetResult",
    "arrivals_frame",
    "profile_of",
    "profiles",
    "study_targets",
    "target_result",
    "target_results",
    "targets_frame",
]


@dataclass(frozen=True)
class TargetResult:
    """Times of all optimizers to one target on one problem.

    Attributes:
        target: the target.
        steps: steps to the target by contender.
        seconds: seconds to the target; empty if they cannot be compared.
        why_no_seconds: reason for that; empty otherwise.
    """

    target: Target
    steps: tuple[TargetTimes, ...]
    seconds: tuple[TargetTimes, ...]
    why_no_seconds: str

    def drawn_until(self, times: TargetTimes) -> float:
        """Return the step up to which the fraction of runs of one contender is known."""
        longest = max(entry.observed for entry in self.steps)
        return times.observed if times.censored else longest

    def times(self, unit: Unit) -> tuple[TargetTimes, ...]:
        """Return the times in one unit."""
        return self.steps if unit == "steps" else self.seconds


def study_targets(view: StudyView, problem: ProblemView) -> tuple[Target, ...]:
    """Return the targets of one problem: those of the study, then those of its claims."""
    targets = dict.fromkeys([*_own_targets(view, problem), *_claimed(view)])
    return tuple(target for target in targets if target.metric in view.metrics)


def _own_targets(view: StudyView, problem: ProblemView) -> list[Target]:
    return targets_of(view.study, problem.name, view.directions)


def _claimed(view: StudyView) -> list[Target]:
    return [claim.target for claim in view.claims if claim.target]


def target_results(view: StudyView, problem: ProblemView) -> tuple[TargetResult, ...]:
    """Return the results for every target of one problem, of runs that have ended."""
    results = (target_result(view, problem, target) for target in study_targets(view, problem))
    return tuple(result for result in results if result.steps)


def target_result(view: StudyView, problem: ProblemView, target: Target) -> TargetResult:
    """Return how long each contender of a problem took to a target.

    Raises:
        ValueError: the study does not declare which values of the metric are better.
    """
    better = view.directions.better(target.metric)
    if better is None:
        raise ValueError(f"{target.metric} has no direction")
    curves = view.curves(target.metric)
    contenders = problem.contenders
    reason = shared_seconds(record for entry in contenders for record in entry.records)
    return TargetResult(
        target,
        target_times(contenders, curves, target, better),
        () if reason else target_times(contenders, curves, target, better, "seconds"),
        reason,
    )


@dataclass(frozen=True, eq=False)
class Profile:
    """Fraction of problems on which each optimizer is within a factor of the fastest.

    Attributes:
        label: the metric, followed by the value if it is the same on all problems.
        names: names of the contenders that ran on every problem.
        optimizers: their optimizers.
        factors: (m,) from 1 on, increasing.
        shares: (contenders, m) fractions of the problems.
        problems: number of problems.
    """

    label: str
    names: tuple[str, ...]
    optimizers: tuple[str, ...]
    factors: Floats
    shares: Floats
    problems: int


def profiles(view: StudyView) -> tuple[Profile, ...]:
    """Return a performance profile of median steps for every target that all problems have.

    That is a metric of `targets`, whose value may differ between problems, or a target of a claim.
    Empty for fewer than two problems.
    """
    if len(view.problems) < 2:
        return ()
    named = [{t.metric: t for t in _own_targets(view, p)} for p in view.problems]
    rows = [
        [problem[metric] for problem in named]
        for metric in named[0]
        if all(metric in problem for problem in named)
    ]
    rows += [[target] * len(named) for target in _claimed(view)]
    distinct = dict.fromkeys(map(tuple, rows))
    candidates = (
        profile_of([target_result(view, *pair) for pair in zip(view.problems, row, strict=True)])
        for row in distinct
        if all(target.metric in view.metrics for target in row)
    )
    return tuple(profile for profile in candidates if profile)


def profile_of(results: Sequence[TargetResult]) -> Profile | None:
    """Return the performance profile of the same target on several problems.

    None where fewer than two optimizers ran on all of them.

    Args:
        results: one for each problem.
    """
    medians = [{t.contender.name: t.median.estimate for t in result.steps} for result in results]
    names = [name for name in medians[0] if all(name in costs_by_name for costs_by_name in medians)]
    if len(names) < 2:
        return None
    costs = np.array([[costs_by_name[name] for name in names] for costs_by_name in medians])
    with np.errstate(invalid="ignore"):
        ratios = costs / costs.min(axis=1, keepdims=True)
    factors = np.unique([1.0, *ratios[np.isfinite(ratios)].tolist()])
    targets = {result.target for result in results}
    label = str(targets.pop()) if len(targets) == 1 else metric_title(results[0].target.metric)
    shares = performance_profile(costs, factors)
    optimizers = {t.contender.name: t.contender.optimizer for t in results[0].steps}
    entries = tuple(optimizers[name] for name in names)
    return Profile(label, tuple(names), entries, factors, shares, len(results))


def targets_frame(view: StudyView) -> pd.DataFrame:
    """Return one row for each problem, target and contender: runs, arrivals and median times."""
    import pandas as pd  # heavy  # noqa: PLC0415

    rows = []
    for problem in view.problems:
        for result in target_results(view, problem):
            seconds = {t.contender.name: t.median.estimate for t in result.seconds}
            for times in result.steps:
                rows.append(
                    {
                        "problem": problem.name,
                        "metric": result.target.metric,
                        "value": result.target.value,
                        "optimizer": times.contender.optimizer,
                        "setting": times.contender.setting,
                        "runs": times.runs,
                        "reached": times.reached,
                        "diverged": times.diverged,
                        "median_steps": times.median.estimate,
                        "median_steps_low": times.median.low,
                        "median_steps_high": times.median.high,
                        "median_seconds": seconds.get(times.contender.name, math.nan),
                    }
                )
    return pd.DataFrame(rows)


def arrivals_frame(times: Mapping[str, Sequence[TargetTimes]]) -> pd.DataFrame:
    """Return one row per run: whether it reached a target, and its steps or seconds.

    Args:
        times: by problem.
    """
    import pandas as pd  # heavy  # noqa: PLC0415

    rows = []
    for problem, contenders in times.items():
        for entry in contenders:
            runs = {record.seed: record.run_id for record in entry.contender.records}
            rows += [
                {
                    "problem": problem,
                    "optimizer": entry.contender.optimizer,
                    "setting": entry.contender.setting,
                    "seed": seed,
                    "run_id": runs[seed],
                    "reached": arrival.reached,
                    entry.unit: arrival.time,
                }
                for seed, arrival in entry.arrivals.items()
            ]
    return pd.DataFrame(rows)
