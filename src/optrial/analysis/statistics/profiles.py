"""Profiles: on what share of the problems, or in what share of the runs, is one good enough?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optrial.analysis.statistics.intervals import percentile_limits, resample_weights
from optrial.analysis.statistics.merit import Floats, merit

__all__ = ["ScoreProfile", "performance_profile", "score_profile"]


def performance_profile(costs: ArrayLike, factors: ArrayLike) -> Floats:
    """Return the share of problems that each optimizer solves within a factor of the best cost.

    rho_s(tau) = |{p : cost_ps <= tau min_s cost_ps}| / N.

    Args:
        costs: (N, k) positive, such as steps to a target; one that is not finite marks a problem
            that was not solved. A problem that none solves counts in N.
        factors: (m,) tau >= 1.

    Returns:
        (k, m) shares.

    Source: Dolan & More 2002.
    """
    costs = np.asarray(costs, np.float64)
    solved = np.isfinite(costs)
    if (costs[solved] <= 0).any():
        raise ValueError(f"costs must be positive, got {costs[solved].min()}")
    ranked = np.where(solved, costs, np.inf)
    limits = ranked.min(axis=1)[:, None, None] * np.asarray(factors, np.float64)
    within = solved[:, :, None] & (ranked[:, :, None] <= limits)
    return np.asarray(within.mean(axis=0), np.float64)


@dataclass(frozen=True, eq=False)
class ScoreProfile:
    """Share of runs that are better than each threshold.

    Attributes:
        thresholds: (m,) in the unit of the metric.
        share: (m,) mean over problems of the share of runs.
        low: (m,) lower limit, point by point; NaN for a single run a problem.
        high: (m,) upper limit, likewise.
        level: nominal coverage.
    """

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats
    level: float


def score_profile(
    values: ArrayLike,
    thresholds: ArrayLike,
    generator: np.random.Generator,
    *,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 2_000,
) -> ScoreProfile:
    """Return the score distribution of one optimizer, with percentile bootstrap limits.

    Runs are resampled within each problem.

    Args:
        values: (runs, problems) normalised to compare between problems; one that is not finite
            marks a run that diverged, which is better than no threshold.
        thresholds: (m,).
        generator: draws the resamples.
        higher_is_better: of the metric.
        level: nominal coverage, point by point.
        resamples: number of bootstrap resamples.

    Source: Agarwal et al. 2021.
    """
    at = np.asarray(thresholds, np.float64)
    merits = merit(values, higher_is_better=higher_is_better)
    better = merits[:, :, None] > (at if higher_is_better else -at)
    runs, problems = merits.shape
    low = high = np.full(len(at), np.nan)
    if runs > 1:
        shares = sum(
            resample_weights(runs, resamples, generator) @ better[:, problem]
            for problem in range(problems)
        )
        low, high = percentile_limits(shares / problems, level)
    return ScoreProfile(at, better.mean(axis=(0, 1)), low, high, level)
