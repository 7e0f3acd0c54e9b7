"""Curves of the runs of one setting -> their mean and its interval, on few points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.statistics.intervals import RESAMPLES, Interval, mean_intervals
from optrial.records import Curve

__all__ = ["Band", "make_band", "points_shown", "seed_intervals"]

Floats = NDArray[np.float64]

RESAMPLES_OF_A_POINT = 1_000
"""Bootstrap resamples for each point of a curve: a limit that is off by a few percent of the width
of a band does not show."""


_NUMBERS_OF_CURVES = 300_000
"""About how many values of single runs are kept for drawing, over all runs and metrics."""


def points_shown(runs: int, metrics: int) -> int:
    """Return how many points of a curve are kept for drawing."""
    return min(200, max(20, _NUMBERS_OF_CURVES // max(1, runs * metrics)))


@dataclass(frozen=True, eq=False)
class Band:
    """One metric of several runs over the steps, and their mean.

    Attributes:
        runs: ids, those that left a curve.
        steps: (n,) increasing.
        window: how many recorded values each point is the mean of; 1 for the values themselves.
        values: (runs, n); NaN where a run has no value, or one that is not finite.
        mean: (n,) of all runs; NaN from where any run has no value any more, because a mean of
            those that are left would be one of those that did well.
        low: (n,) lower limit of its interval; NaN for a single run.
        high: (n,) upper limit, likewise.
        level: nominal coverage, point by point.
    """

    runs: tuple[str, ...]
    steps: NDArray[np.int64]
    window: int
    values: Floats
    mean: Floats
    low: Floats
    high: Floats
    level: float


def make_band(
    curves: Mapping[str, Curve],
    generator: np.random.Generator,
    *,
    points: int = 200,
    level: float = 0.95,
) -> Band:
    """Return the curves of runs that differ only in their seeds, and their mean.

    Args:
        curves: run id -> curve, of at least one value; a run that ended early has a shorter one.
        generator: draws the bootstrap resamples.
        points: how many to keep at most; where more are recorded, each is the mean of a window.
        level: nominal coverage, point by point.
    """
    steps, values = _table(list(curves.values()))
    window = -(-len(steps) // points)
    steps, values = _windows(steps, values, window)
    mean, low, high = np.full((3, len(steps)), np.nan)
    whole = np.isfinite(values).all(axis=0)
    if whole.any():
        rows = values.T[whole]
        intervals = seed_intervals(rows, generator, level=level, resamples=RESAMPLES_OF_A_POINT)
        found = [(each.estimate, each.low, each.high) for each in intervals]
        mean[whole], low[whole], high[whole] = np.asarray(found).T
    return Band(tuple(curves), steps, window, values, mean, low, high, level)


def seed_intervals(
    samples: Floats,
    generator: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Return the mean of each row and its interval; see `mean_intervals` for the arguments.

    Seeds that agree exactly have an interval of no width: the rows are taken relative to their
    first value, so that the mean of equal values is not off by a rounding.
    """
    first = samples[:, 0]
    shifted = mean_intervals(samples - first[:, None], generator, level=level, resamples=resamples)
    return [
        Interval(float(x + each.estimate), float(x + each.low), float(x + each.high), level)
        for x, each in zip(first, shifted, strict=True)
    ]


def _table(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], Floats]:
    """Return all steps, and (runs, steps) values with NaN where there is none."""
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    values = np.full((len(curves), len(steps)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[np.searchsorted(steps, curve.steps)] = curve.values
    return steps, np.where(np.isfinite(values), values, np.nan)


def _windows(
    steps: NDArray[np.int64], values: Floats, window: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return the means over windows of columns, and their ends.

    The first window may be shorter: a short one at the end would look like a jump.
    """
    if window == 1:
        return steps, values
    starts = np.unique([0, *range(len(steps) % window, len(steps), window)])
    widths = np.diff([*starts, len(steps)])
    return steps[starts + widths - 1], np.add.reduceat(values, starts, axis=1) / widths
