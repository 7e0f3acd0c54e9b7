"""Gain from trying more settings: the best of k trials, and the range of good learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.contenders import OptimizerRuns, finished
from optrial.analysis.rates import RateLine
from optrial.analysis.statistics import BestOfK, RateRange, best_of_k, learning_rate_range
from optrial.analysis.view import ProblemView, StudyView
from optrial.records import Record
from optrial.spec import ENDED, Direction

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "best_of_trials",
    "best_of_trials_frame",
    "rate_ranges",
    "tolerance",
    "tolerance_text",
    "tried_rates",
]

POINTS = 0.01
"""Difference of two accuracies that count as about as good."""
SHARE = 0.1
"""The same for any other metric, as a fraction of the best."""

Floats = NDArray[np.float64]


def best_of_trials(problem: ProblemView) -> dict[str, BestOfK]:
    """Return the expected best value of k trials, for each optimizer with two trials or more.

    The value of a trial is its mean over seeds on the metric that selects. A trial with a failed
    run has none. Successive halving has no such curve: its trials are trained for unequal times.
    """
    selection = problem.selection
    if selection is None:
        return {}
    curves = {}
    for optimizer in problem.optimizers:
        if len(optimizer.rungs) > 1:
            continue
        values = _trial_values(optimizer, selection.metric)
        if len(values) > 1 and np.isfinite(values).any():
            curves[optimizer.name] = best_of_k(
                values,
                np.random.default_rng(problem.seed),
                higher_is_better=selection.better == "higher",
            )
    return curves


def best_of_trials_frame(view: StudyView) -> pd.DataFrame:
    """Return one row for each optimizer and number of trials; see `BestOfK`."""
    import pandas as pd  # heavy  # noqa: PLC0415

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
    """Return the mean of each ended trial; NaN for a trial with a failed run."""
    trials = [runs for runs in optimizer.tried.values() if all(r.status in ENDED for r in runs)]
    values = [finished(runs, metric) for runs in trials]
    return [
        fmean(finals) if len(finals) == len(runs) else math.nan
        for finals, runs in zip(values, trials, strict=True)
    ]


def rate_ranges(problem: ProblemView, metric: str) -> dict[str, RateRange]:
    """Return the range of learning rates that are about as good as the best; see `tolerance`.

    Each rate has the runs of the setting that `ProblemView.sensitivity` shows. Empty for a metric
    without a direction, and for folds, whose resamples are not independent.
    """
    better = problem.directions.better(metric)
    if better is None or problem.pairing == "fold":
        return {}
    tried = {optimizer.name: optimizer.finalists for optimizer in problem.optimizers}
    ranges = {}
    for line in problem.sensitivity(metric):
        values = _by_seed(line, tried[line.optimizer], metric)
        if values.size:
            ranges[line.optimizer] = learning_rate_range(
                [point.rate for point in line.points],
                values,
                np.random.default_rng(problem.seed),
                tolerance=tolerance(values, better, percent=problem.directions.percent(metric)),
                higher_is_better=better == "higher",
            )
    return ranges


def _by_seed(line: RateLine, tried: Mapping[str, Sequence[Record]], metric: str) -> Floats:
    """Return final values as (rates, seeds) for common seeds; NaN for a run that failed."""
    rows = [
        {
            run.seed: run.metrics.get(metric)
            for run in tried[point.setting_id]
            if run.status in ENDED
        }
        for point in line.points
    ]
    seeds = sorted(set.intersection(*map(set, rows)))
    values = [[row[seed] for seed in seeds] for row in rows]
    return np.array(values, np.float64)  # None becomes NaN


def tried_rates(problem: ProblemView, metric: str) -> list[float]:
    """Return all learning rates of the optimizers tried with several."""
    return [point.rate for line in problem.sensitivity(metric) for point in line.points]


def tolerance(values: Floats, better: Direction, *, percent: bool) -> float:
    """Return how much worse than the best a mean may be: a point of accuracy, or a tenth.

    Args:
        values: (rates, seeds); NaN for a run that failed.
        better: which values of the metric are better.
        percent: whether the metric is a fraction, shown in percentage points.
    """
    if percent:
        return POINTS
    means = values.mean(axis=1)
    known: list[float] = means[np.isfinite(means)].tolist() or [0.0]
    return SHARE * abs(max(known) if better == "higher" else min(known))


def tolerance_text(percent: bool) -> str:
    """Return the tolerance in words."""
    return f"{100 * POINTS:g} point" if percent else f"{100 * SHARE:g} %"
