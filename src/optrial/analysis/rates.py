"""Final values by learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optrial.analysis.bands import seed_intervals
from optrial.analysis.contenders import finished
from optrial.analysis.statistics import Interval
from optrial.records import Record
from optrial.spec import Direction

__all__ = ["RateLine", "RatePoint", "rate_line"]


@dataclass(frozen=True)
class RatePoint:
    """Final values of an optimizer with one learning rate.

    Attributes:
        rate: the learning rate.
        setting: the values that vary; the best of those with this rate.
        setting_id: id of the setting.
        interval: interval of the mean over the finished runs; NaN without any.
        done: number of finished runs.
        runs: number of all runs.
    """

    rate: float
    setting: str
    setting_id: str
    interval: Interval
    done: int
    runs: int


@dataclass(frozen=True)
class RateLine:
    """One metric of an optimizer by learning rate, increasing."""

    optimizer: str
    points: tuple[RatePoint, ...]


def rate_line(
    optimizer: str,
    settings: Mapping[str, Sequence[Record]],
    metric: str,
    better: Direction | None,
    seed: int,
) -> RateLine | None:
    """Return final values by learning rate; None for fewer than two rates or no finished run.

    If other values vary too, each rate shows the setting with the best mean, which needs a
    direction: without one there is no line.

    Args:
        optimizer: name of the optimizer.
        settings: runs of the optimizer by setting.
        metric: name of the metric.
        better: which values of the metric are better; None where unknown.
        seed: of the bootstrap resamples.
    """
    rates: dict[float, list[RatePoint]] = {}
    for point in _points(settings, metric, seed):
        rates.setdefault(point.rate, []).append(point)
    if better is None and any(len(points) > 1 for points in rates.values()):
        return None
    points = tuple(_best(rates[rate], better) for rate in sorted(rates))
    if len(points) < 2 or not any(point.done for point in points):
        return None
    return RateLine(optimizer, points)


def _points(
    settings: Mapping[str, Sequence[Record]], metric: str, seed: int
) -> Iterator[RatePoint]:
    for setting_id, records in settings.items():
        rate = records[0].hyperparameters.get("lr")
        if isinstance(rate, int | float) and rate > 0:
            values = finished(records, metric)
            interval = Interval(math.nan, math.nan, math.nan, 0.95)
            if values:
                (interval,) = seed_intervals(np.array([values]), np.random.default_rng(seed))
            yield RatePoint(
                rate=float(rate),
                setting=records[0].setting,
                setting_id=setting_id,
                interval=interval,
                done=len(values),
                runs=len(records),
            )


def _best(points: Sequence[RatePoint], better: Direction | None) -> RatePoint:
    """Return the best setting with one learning rate: most finished runs, then best mean."""
    sign = -1 if better == "lower" else 1

    def order(point: RatePoint) -> tuple[float, float]:
        estimate = sign * point.interval.estimate
        return point.done / point.runs, estimate if point.done else -math.inf

    return max(points, key=order)
