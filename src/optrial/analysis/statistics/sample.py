"""One optimizer on one metric: location, spread, and the runs that diverged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optrial.analysis.statistics.intervals import Interval, iqm_interval, mean_interval
from optrial.analysis.statistics.merit import worst

__all__ = ["SampleSummary", "summarize_sample"]


@dataclass(frozen=True)
class SampleSummary:
    """A metric over the seeds of one setting.

    Attributes:
        count: number of runs, those that diverged included.
        diverged: how many of them diverged; whoever shows the mean must show this beside it.
        mean: of the runs that finished; NaN if none did.
        deviation: standard deviation of the same runs with ddof 1; NaN for fewer than two.
        median: of all runs, those that diverged being the worst; infinite if half of them did.
        iqm: interquartile mean of all runs, likewise.
    """

    count: int
    diverged: int
    mean: Interval
    deviation: float
    median: float
    iqm: Interval


def summarize_sample(
    values: ArrayLike,
    generator: np.random.Generator,
    *,
    higher_is_better: bool,
    level: float = 0.95,
) -> SampleSummary:
    """Summarise a metric over seeds.

    Args:
        values: (n,) with n >= 1; a value that is not finite marks a run that diverged.
        generator: draws the bootstrap resamples.
        higher_is_better: whether a run that diverged counts as -inf or as +inf.
        level: nominal coverage of the intervals.
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    finished, ranked = values[finite], np.where(finite, values, worst(higher_is_better))
    nothing = Interval(math.nan, math.nan, math.nan, level)
    return SampleSummary(
        count=len(values),
        diverged=int((~finite).sum()),
        mean=mean_interval(finished, generator, level=level) if len(finished) else nothing,
        deviation=float(np.std(finished, ddof=1)) if len(finished) > 1 else math.nan,
        median=float(np.median(ranked)),
        iqm=iqm_interval(ranked, generator, level=level),
    )
