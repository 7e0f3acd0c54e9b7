"""Gain from tuning: the best of k trials, and the sensitivity to the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optrial.analysis.statistics.intervals import Interval, percentile_limits, resample_weights
from optrial.analysis.statistics.merit import Floats, merit

__all__ = ["BestOfK", "RateRange", "best_of_k", "crossings", "learning_rate_range"]

_EACH_TRIAL = 100
"""Number of trials up to which the best of k is computed for every k; then for thirty more."""
_MOST_DRAWS, _FEWEST_RESAMPLES = 2_000_000, 200
"""Trials drawn for an interval: of thousands of trials, fewer resamples."""


@dataclass(frozen=True, eq=False)
class BestOfK:
    """The expected value of the best of k random trials, for k = 1, 2, ..., n.

    Beyond k = 100, only thirty more values of k are computed, up to n.

    Attributes:
        trials: (m,) k.
        expected: (m,) expected best value, given that at least one of the k trials finished.
        low: (m,) lower limit; NaN for a single trial.
        high: (m,) upper limit; NaN for a single trial.
        all_diverged: (m,) chance that none of the k trials finishes.
        level: nominal coverage.
    """

    trials: Floats
    expected: Floats
    low: Floats
    high: Floats
    all_diverged: Floats
    level: float


def best_of_k(
    values: ArrayLike,
    generator: np.random.Generator,
    *,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 1_000,
) -> BestOfK:
    """Return the expected best value of k trials drawn from those that were run.

    With v_1 <= ... <= v_n by merit, E_k = sum v_i ((i / n)^k - ((i - 1) / n)^k). Trials that
    diverged have the lowest ranks and no value; the expectation is then over draws with a finished
    trial, and `all_diverged` is the chance of the others. As an estimate for new trials the curve
    is pessimistic for k close to n (Tang et al. 2020).

    Args:
        values: (n,) one value per trial, all drawn from the same search space; a value that is not
            finite marks a trial that diverged.
        generator: draws the resamples of the percentile intervals.
        higher_is_better: of the metric.
        level: nominal coverage.
        resamples: number of bootstrap resamples.

    Source: Dodge et al. 2019, Show Your Work.
    """
    merits = np.sort(merit(values, higher_is_better=higher_is_better))
    count = len(merits)
    resamples = min(resamples, max(_FEWEST_RESAMPLES, _MOST_DRAWS // count))
    trials = _numbers_of_trials(count)
    expected, all_diverged = _expected_best(merits, np.full((1, count), 1 / count), trials)
    low = high = np.full(len(trials), np.nan)
    if count > 1:
        weights = resample_weights(count, resamples, generator)
        low, high = percentile_limits(_expected_best(merits, weights, trials)[0], level)
    if not higher_is_better:
        low, high = -high, -low
    sign = 1 if higher_is_better else -1
    return BestOfK(trials, sign * expected[0], low, high, all_diverged[0], level)


def _numbers_of_trials(count: int) -> Floats:
    """Return 1, 2, ... up to `count`; beyond a hundred, ever fewer of them."""
    few = np.arange(1.0, min(count, _EACH_TRIAL) + 1)
    if count <= _EACH_TRIAL:
        return few
    return np.union1d(few, np.geomspace(_EACH_TRIAL, count, 30).round())


def _expected_best(merits: Floats, weights: Floats, trials: Floats) -> tuple[Floats, Floats]:
    """Return (resamples, K) expected merits and chances that every trial diverged.

    Args:
        merits: (n,) sorted, -inf first.
        weights: (resamples, n) fraction of draws of each trial.
        trials: (K,).
    """
    below = np.cumsum(weights, axis=1)
    lost = int(np.isneginf(merits).sum())
    none = np.where(lost, below[:, lost - 1], 0.0)[:, None]
    expected, start = np.empty((2, len(weights), len(trials)))
    for place, k in enumerate(trials):  # one at a time: all of them at once do not fit a cache
        chances = np.diff(below[:, lost:] ** k, axis=1, prepend=none**k)
        expected[:, place], start[:, place] = chances @ merits[lost:], none[:, 0] ** k
    unknown = np.full_like(expected, -np.inf)  # a resample without a finished trial
    return np.divide(expected, 1 - start, out=unknown, where=start < 1), start


def crossings(positions: ArrayLike, first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the positions at which two curves cross, linear between their points.

    Curves that touch and part in the same order do not cross; if they cross at points where they
    are equal, the first such point counts.

    Args:
        positions: (n,) increasing.
        first: (n,) finite values of one curve.
        second: (n,) of the other.
    """
    at = np.asarray(positions, np.float64)
    gaps = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    apart = np.flatnonzero(gaps)
    left, right = apart[:-1], apart[1:]
    changed = gaps[left] * gaps[right] < 0
    left, right = left[changed], right[changed]
    share = gaps[left] / (gaps[left] - gaps[right])
    between = at[left] + share * (at[right] - at[left])
    return np.where(right > left + 1, at[left + 1], between)


@dataclass(frozen=True)
class RateRange:
    """Range of learning rates around the best one that are about as good.

    Attributes:
        best: rate with the best mean; NaN if every rate has a run that diverged.
        low: lowest rate of the range.
        high: highest rate of the range.
        decades: log10(high / low), and its percentile bootstrap interval over seeds.
        open_low: whether the range ends at the lowest rate tried and may extend further.
        open_high: whether it ends at the highest rate tried.
    """

    best: float
    low: float
    high: float
    decades: Interval
    open_low: bool
    open_high: bool


def learning_rate_range(
    rates: ArrayLike,
    values: ArrayLike,
    generator: np.random.Generator,
    *,
    tolerance: float,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 1_000,
) -> RateRange:
    """Return the range of learning rates whose metric is within `tolerance` of the best.

    It consists of the rate with the best mean over seeds and the adjacent rates within `tolerance`.
    Its ends are interpolated in log(rate), except next to a rate at which a run diverged: the range
    then ends at the last rate without divergence.

    Args:
        rates: (r,) positive, increasing.
        values: (r, seeds); a value that is not finite marks a run that diverged.
        generator: draws the seeds for the interval.
        tolerance: in the unit of the metric.
        higher_is_better: of the metric.
        level: nominal coverage.
        resamples: number of bootstrap resamples of the seeds.

    Source: Asi & Duchi 2019, who plot this range of step sizes.
    """
    merits = merit(values, higher_is_better=higher_is_better)
    logs = np.log10(np.asarray(rates, np.float64))
    means, seeds = merits.mean(axis=1), merits.shape[1]
    stable = np.isfinite(means)
    if not stable.any():
        nothing = Interval(math.nan, math.nan, math.nan, level)
        return RateRange(math.nan, math.nan, math.nan, nothing, False, False)
    low, high = _range_of(logs, means, tolerance)
    below = above = np.asarray(np.nan)
    if seeds > 1:
        weights = resample_weights(seeds, resamples, generator)
        redrawn = np.full((resamples, len(logs)), -np.inf)
        redrawn[:, stable] = weights @ merits[stable].T
        widths = [np.subtract(*_range_of(logs, row, tolerance)[::-1]) for row in redrawn]
        below, above = percentile_limits(np.array(widths), level)
    return RateRange(
        best=float(10 ** logs[np.argmax(means)]),
        low=float(10**low),
        high=float(10**high),
        decades=Interval(float(high - low), float(below), float(above), level),
        open_low=bool(low == logs[0]),
        open_high=bool(high == logs[-1]),
    )


def _range_of(logs: Floats, means: Floats, tolerance: float) -> tuple[float, float]:
    """Return the ends of the range, as logarithms of rates."""
    best = int(np.argmax(means))
    least = float(means[best]) - tolerance
    high = _end(logs[best:], means[best:], least)
    low = _end(logs[best::-1], means[best::-1], least)
    return low, high


def _end(logs: Floats, means: Floats, least: float) -> float:
    """Return the end of the range, going from the best rate to where the mean is below `least`."""
    outside = np.flatnonzero(means < least)
    if not len(outside):
        return float(logs[-1])
    after = int(outside[0])
    inside = after - 1
    # Beside a rate that diverged, -inf, the share is 0: the range ends at the last good rate.
    share = (means[inside] - least) / (means[inside] - means[after])
    return float(logs[inside] + share * (logs[after] - logs[inside]))
