"""Mean curve of the runs of one setting with its interval, reduced to few points for drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.statistics.folds import fold_intervals
from optrial.analysis.statistics.intervals import RESAMPLES, Interval, mean_intervals
from optrial.analysis.values import evaluated_ratio
from optrial.records import Curve, Record
from optrial.spec import UNBOUNDED

__all__ = ["Band", "FoldsOfRuns", "make_band", "points_shown", "seed_intervals"]

Floats = NDArray[np.float64]

RESAMPLES_OF_A_POINT = 1_000
"""Bootstrap resamples per point: errors of a few percent of the width of a band are invisible."""


_NUMBERS_OF_CURVES = 300_000
"""Approximate number of values kept for drawing, over all runs and metrics."""


def points_shown(runs: int, metrics: int) -> int:
    """Return the number of points of a curve that are kept for drawing."""
    return min(200, max(20, _NUMBERS_OF_CURVES // max(1, runs * metrics)))


@dataclass(frozen=True, eq=False)
class Band:
    """One metric of several runs by step, and its mean.

    Attributes:
        runs: ids of the runs that have a curve.
        steps: (n,) increasing.
        window: number of recorded values averaged into each point.
        values: (runs, n); NaN where a run has no finite value.
        mean: (n,) over all runs; NaN once any run has ended, because a mean over the remaining runs
            would favour those that did well.
        low: (n,) lower limit of the interval; NaN for a single run.
        high: (n,) upper limit; NaN for a single run.
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
    generator: np.random.Generator | int,
    *,
    points: int = 200,
    level: float = 0.95,
    bounds: tuple[float, float] = UNBOUNDED,
    folds: FoldsOfRuns | None = None,
) -> Band:
    """Return the curves of runs that differ only in their seeds or folds, and their mean.

    Args:
        curves: run id -> curve of at least one value; shorter for a run that ended early.
        generator: draws the bootstrap resamples; or its seed, see `mean_intervals`.
        points: maximum number of points; if more are recorded, each is the mean of a window.
        level: nominal coverage, point by point.
        bounds: least and greatest possible value of the metric.
        folds: the folds of the runs of a cross-validation.
    """
    steps, values = _table(list(curves.values()))
    window = -(-len(steps) // points)
    steps, values = _windows(steps, values, window)
    mean, low, high = np.full((3, len(steps)), np.nan)
    whole = np.isfinite(values).all(axis=0)
    if whole.any():
        rows = values.T[whole]
        intervals = seed_intervals(
            rows,
            generator,
            level=level,
            resamples=RESAMPLES_OF_A_POINT,
            bounds=bounds,
            folds=folds,
        )
        limits = [(interval.estimate, interval.low, interval.high) for interval in intervals]
        mean[whole], low[whole], high[whole] = np.asarray(limits).T
    return Band(tuple(curves), steps, window, values, mean, low, high, level)


def seed_intervals(
    samples: Floats,
    generator: np.random.Generator | int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] = UNBOUNDED,
    folds: FoldsOfRuns | None = None,
) -> list[Interval]:
    """Return the mean of each row and its interval, which ends at the bounds of its values.

    See `mean_intervals` for the other arguments. Rows are shifted by their first value, so that
    equal values have exactly their mean and an interval of no width. With `folds`, the intervals
    are those of `fold_intervals` over the means of the runs of each fold.
    """
    least, greatest = bounds
    first = samples[:, 0]
    if folds is not None:
        shifted = fold_intervals(folds.means(samples - first[:, None]), folds.test_ratio, level)
    else:
        shifted = mean_intervals(
            samples - first[:, None], generator, level=level, resamples=resamples
        )
    return [
        Interval(
            float(x + i.estimate),
            max(float(x + i.low), least),  # NaN stays
            min(float(x + i.high), greatest),
            level,
        )
        for x, i in zip(first, shifted, strict=True)
    ]


class FoldsOfRuns(NamedTuple):
    """The folds of some runs of a cross-validation.

    Attributes:
        of_run: fold of each run.
        test_ratio: evaluated samples per training sample.
    """

    of_run: Sequence[int]
    test_ratio: float

    @classmethod
    def of(cls, records: Iterable[Record], metric: str) -> FoldsOfRuns | None:
        """Return the folds of runs that have some."""
        folds: dict[int, list[Record]] = {}
        records = list(records)
        for record in records:
            if record.fold is not None:
                folds.setdefault(record.fold, []).append(record)
        if not folds:
            return None
        return cls([record.pair for record in records], evaluated_ratio(folds, metric))

    def means(self, samples: Floats) -> Floats:
        """Return (m, folds) means over the runs of each fold of (m, runs) values."""
        folds = np.asarray(self.of_run)
        columns = [samples[:, folds == fold].mean(axis=1) for fold in np.unique(folds)]
        return np.stack(columns, axis=1)


def _table(curves: Sequence[Curve]) -> tuple[NDArray[np.int64], Floats]:
    """Return all steps, and the values as (runs, steps) with NaN for missing ones."""
    if all(curve.steps is curves[0].steps for curve in curves):  # as curves of one store are
        values = np.stack([curve.values for curve in curves])
        return curves[0].steps, np.where(np.isfinite(values), values, np.nan)
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    values = np.full((len(curves), len(steps)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[np.searchsorted(steps, curve.steps)] = curve.values
    return steps, np.where(np.isfinite(values), values, np.nan)


def _windows(
    steps: NDArray[np.int64], values: Floats, window: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return means over windows of columns, at the last step of each window.

    The first window may be shorter; a short last one would look like a jump.
    """
    if window == 1:
        return steps, values
    starts = np.unique([0, *range(len(steps) % window, len(steps), window)])
    widths = np.diff([*starts, len(steps)])
    return steps[starts + widths - 1], np.add.reduceat(values, starts, axis=1) / widths
