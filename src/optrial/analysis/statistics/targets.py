"""How long it takes to reach a target, when some runs never do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.merit import Floats, merit

__all__ = [
    "Survival",
    "area_under_curve",
    "first_step_reaching",
    "kaplan_meier",
    "median_steps",
]


def first_step_reaching(
    steps: ArrayLike,
    values: ArrayLike,
    target: float,
    *,
    higher_is_better: bool,
    window: int = 1,
) -> int | None:
    """Return the first step at which a smoothed curve is at least as good as a target, or None.

    Args:
        steps: (n,) increasing.
        values: (n,); from a value that is not finite on, a full window of finite ones is awaited.
        target: in the unit of the metric.
        higher_is_better: of the metric.
        window: the curve is smoothed by the mean of the last `window` values, which looks at no
            later one; 1 is no smoothing. Before `window` values there is no smoothed one. Report
            it: more smoothing reaches a target later and less by luck.
    """
    if window < 1:
        raise ValueError(f"the window of the smoothing must be at least 1, got {window}")
    merits = merit(values, higher_is_better=higher_is_better)
    if len(merits) < window:
        return None
    smoothed = np.lib.stride_tricks.sliding_window_view(merits, window).mean(axis=1)
    reached = np.flatnonzero(smoothed >= (target if higher_is_better else -target))
    return int(np.asarray(steps)[window - 1 + reached[0]]) if len(reached) else None


def area_under_curve(steps: ArrayLike, values: ArrayLike) -> float:
    """Return the area under a curve by the trapezoidal rule, divided by the steps it spans.

    It is the mean of the metric over training, in the unit of the metric, and so comparable
    between budgets. NaN for a curve that holds a value that is not finite: such a run diverged.

    Args:
        steps: (n,) increasing, n >= 2.
        values: (n,).
    """
    at, heights = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if len(at) < 2:
        raise ValueError(f"an area needs at least two points, got {len(at)}")
    if not np.isfinite(heights).all():
        return math.nan
    return float(np.trapezoid(heights, at) / (at[-1] - at[0]))


@dataclass(frozen=True, eq=False)
class Survival:
    """Share of runs that have not reached the target, as it falls with the steps.

    Attributes:
        steps: (m,) distinct steps at which a run reached the target, increasing.
        share: (m,) Kaplan-Meier estimate from that step on; 1 before the first.
        deviation: (m,) its standard error by Greenwood's formula.
        low: (m,) lower limit, point by point.
        high: (m,) upper limit.
        level: nominal coverage.
    """

    steps: Floats
    share: Floats
    deviation: Floats
    low: Floats
    high: Floats
    level: float


def kaplan_meier(steps: ArrayLike, reached: ArrayLike, *, level: float = 0.95) -> Survival:
    """Estimate the share of runs that need more than t steps, from censored runs too.

    With d_i runs reaching the target at step t_i and n_i runs that had not before it,
    S(t) = prod (1 - d_i / n_i) over t_i <= t, and var S = S^2 sum d_i / (n_i (n_i - d_i)). The
    limits are those of log(-log S), which keeps them between 0 and 1.

    Args:
        steps: (n,) step at which a run reached the target, or up to which it did not. For a run
            that diverged, infinity: it will not reach it however long others train.
        reached: (n,) bool.
        level: nominal coverage, point by point.

    Source: Kaplan & Meier 1958; Greenwood 1926; Kalbfleisch & Prentice 1980 for the limits.
    """
    times, hit = np.asarray(steps, np.float64), np.asarray(reached, bool)
    events, arrived = np.unique(times[hit], return_counts=True)
    at_risk = len(times) - np.searchsorted(np.sort(times), events)
    left = at_risk - arrived
    share = np.asarray(np.cumprod(left / at_risk), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # no run is left after the last event
        error = np.sqrt(np.cumsum(arrived / (at_risk * left)))
        spread = special.ndtri((1 + level) / 2) * error / np.log(share)
        low, high = share ** np.exp(-spread), share ** np.exp(spread)
    over = left == 0
    low, high = (np.where(over, 0.0, limit) for limit in (low, high))
    deviation = np.where(over, 0.0, share * np.where(over, 0.0, error))
    return Survival(events, share, deviation, low, high, level)


def median_steps(steps: ArrayLike, reached: ArrayLike, *, level: float = 0.95) -> Interval:
    """Return the step by which half of the runs reach a target, by Kaplan-Meier.

    The estimate is the first step with S <= 1/2, infinite if fewer than half arrive. The interval
    holds the steps at which the limits of S embrace 1/2; its upper end is infinite where these data
    cannot exclude that half never arrive. A single run has no interval, nor have runs of which none
    arrived.

    Args:
        steps: (n,) as in `kaplan_meier`.
        reached: (n,) bool.
        level: nominal coverage.

    Source: Brookmeyer & Crowley 1982, with the limits of log(-log S).
    """
    survival = kaplan_meier(steps, reached, level=level)
    half = 0.5 + 1e-12  # a product of fractions misses 1/2 by rounding
    estimate, low, high = (
        _first(survival.steps, below)
        for below in (survival.share <= half, survival.low <= half, survival.high < 0.5)
    )
    if np.size(steps) < 2 or not len(survival.steps):
        low = high = math.nan
    return Interval(estimate, low, high, level)


def _first(steps: Floats, chosen: NDArray[np.bool_]) -> float:
    return float(steps[np.argmax(chosen)]) if chosen.any() else math.inf
