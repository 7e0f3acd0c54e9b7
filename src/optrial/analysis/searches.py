"""What trying more settings gains: the best of k trials, and the learning rates that do as well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from optrial.analysis.contenders import OptimizerRuns, finished
from optrial.analysis.gather import ProblemView, RateLine, StudyView
from optrial.analysis.statistics import BestOfK, RateRange, best_of_k, learning_rate_range
from optrial.records import Record
from optrial.spec import ENDED, Direction

__all__ = [
    "best_of_trials",
    "best_of_trials_frame",
    "rate_ranges",
    "tolerance",
    "tolerance_text",
    "tried_rates",
]

POINTS = 0.01
"""How much worse an accuracy may be and still count as about as good."""
SHARE = 0.1
"""The same for any other metric, as a share of the best."""

Floats = NDArray[np.float64]


def best_of_trials(problem: ProblemView) -> dict[str, BestOfK]:
    """Return the expected best value of k trials of each optimizer that has two or more.

    A trial's value is its mean over seeds on what chooses settings; it has none if a run failed.
    """
    found = {}
    selection = problem.selection
    if selection is None:
        return {}
    for optimizer in problem.runs.optimizers:
        values = _trial_values(optimizer, selection.metric)
        if len(values) > 1 and np.isfinite(values).any():
            found[optimizer.name] = best_of_k(
                values,
                np.random.default_rng(problem.seed),
                higher_is_better=selection.better == "higher",
            )
    return found


def best_of_trials_frame(view: StudyView) -> pd.DataFrame:
    """Return one row for each optimizer and number of trials; see `BestOfK`."""
    columns = ["trials", "expected", "low", "high", "all_diverged"]
    tables = [
        pd.DataFrame({name: getattr(best, name) for name in columns}).assign(
            problem=problem.name, optimizer=optimizer, trials=best.trials.astype(int)
        )
        for problem in view.problems
        for optimizer, best in best_of_trials(problem).items()
    ]
    shown = ["problem", "optimizer", *columns]
    return pd.concat(tables or [pd.DataFrame(columns=shown)], ignore_index=True)[shown]


def _trial_values(optimizer: OptimizerRuns, metric: str) -> list[float]:
    """The mean of every trial that has ended; NaN for one with a run that did not finish."""
    trials = [runs for runs in optimizer.tried.values() if all(r.status in ENDED for r in runs)]
    values = [finished(runs, metric) for runs in trials]
    return [
        fmean(own) if len(own) == len(runs) else math.nan
        for own, runs in zip(values, trials, strict=True)
    ]


def rate_ranges(problem: ProblemView, metric: str) -> dict[str, RateRange]:
    """Return how far the learning rate of each optimizer may be off: see `tolerance`.

    Of each rate the runs are those of the setting that `ProblemView.sensitivity` shows. Empty where
    nothing declares which values of the metric are better.
    """
    better = problem.directions.better(metric)
    if better is None:
        return {}
    tried = {optimizer.name: optimizer.tried for optimizer in problem.runs.optimizers}
    found = {}
    for line in problem.sensitivity(metric):
        values = _by_seed(line, tried[line.optimizer], metric)
        if values.size:
            found[line.optimizer] = learning_rate_range(
                [point.rate for point in line.points],
                values,
                np.random.default_rng(problem.seed),
                tolerance=tolerance(values, better, percent=problem.directions.percent(metric)),
                higher_is_better=better == "higher",
            )
    return found


def _by_seed(line: RateLine, tried: Mapping[str, Sequence[Record]], metric: str) -> Floats:
    """Final values, (rates, seeds), of the seeds that all rates have; NaN where a run failed."""
    rows = [
        {run.seed: run.metrics.get(metric) for run in tried[point.setting] if run.status in ENDED}
        for point in line.points
    ]
    seeds = sorted(set.intersection(*map(set, rows)))
    values = [[row[seed] for seed in seeds] for row in rows]
    return np.array(values, np.float64)  # None becomes NaN


def tried_rates(problem: ProblemView, metric: str) -> list[float]:
    """Return every learning rate that `rate_ranges` is about."""
    return [point.rate for line in problem.sensitivity(metric) for point in line.points]


def tolerance(values: Floats, better: Direction, *, percent: bool) -> float:
    """Return by how much a mean may be worse than the best: a point of accuracy, or a tenth.

    Args:
        values: (rates, seeds); NaN where a run failed.
        better: which values of the metric are better.
        percent: whether the metric is a fraction, shown in percentage points.
    """
    if percent:
        return POINTS
    means = values.mean(axis=1)
    known: list[float] = means[np.isfinite(means)].tolist() or [0.0]
    return SHARE * abs(max(known) if better == "higher" else min(known))


def tolerance_text(percent: bool) -> str:
    """Return what `tolerance` allows, for a metric shown in percentage points or another."""
    return f"{100 * POINTS:g} point" if percent else f"{100 * SHARE:g} %"
