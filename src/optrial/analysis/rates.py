"""Final values by learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optrial.analysis.bands import FoldsOfRuns, seed_intervals
from optrial.analysis.contenders import finished
from optrial.analysis.statistics import Interval
from optrial.records import Record
from optrial.spec import Direction, Directions

__all__ = ["RateLine", "RatePoint", "rate_line"]

_UNKNOWN = Interval(math.nan, math.nan, math.nan, 0.95)


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
    directions: Directions,
    seed: int,
) -> RateLine | None:
    """Return final values by learning rate; None for fewer than two rates or no finished run.

    If other values vary too, each rate shows the setting with the best mean, which needs a
    direction: without one there is no line.

    Args:
        optimizer: name of the optimizer.
        settings: runs of the optimizer by setting.
        metric: name of the metric.
        directions: directions of the metrics.
        seed: of the bootstrap resamples.
    """
    better = directions.better(metric)
    rates: dict[float, list[RatePoint]] = {}
    for point in _points(settings, metric, directions.bounds(metric), seed):
        rates.setdefault(point.rate, []).append(point)
    if better is None and any(len(points) > 1 for points in rates.values()):
        return None
    points = tuple(_best(rates[rate], better) for rate in sorted(rates))
    if len(points) < 2 or not any(point.done for point in points):
        return None
    return RateLine(optimizer, points)


def _points(
    settings: Mapping[str, Sequence[Record]],
    metric: str,
    bounds: tuple[float, float],
    seed: int,
) -> Iterator[RatePoint]:
    rates = {
        setting_id: float(rate)
        for setting_id, records in settings.items()
        if isinstance(rate := records[0].hyperparameters.get("lr"), int | float) and rate > 0
    }
    done = {
        setting_id: [r for r in settings[setting_id] if r.final(metric) is not None]
        for setting_id in rates
    }
    values = {setting_id: finished(records, metric) for setting_id, records in done.items()}
    folded = any(record.spec.fold for records in done.values() for record in records)
    if folded:
        intervals = {
            setting_id: _over_folds(done[setting_id], metric, bounds)
            for setting_id in rates
            if done[setting_id]
        }
    else:
        intervals = _intervals(values, bounds, seed)
    for setting_id, rate in rates.items():
        yield RatePoint(
            rate=rate,
            setting=settings[setting_id][0].setting,
            setting_id=setting_id,
            interval=intervals.get(setting_id, _UNKNOWN),
            done=len(values[setting_id]),
            runs=len(settings[setting_id]),
        )


def _over_folds(records: Sequence[Record], metric: str, bounds: tuple[float, float]) -> Interval:
    """Return the interval of the mean over the folds of a cross-validation."""
    row = np.array([finished(records, metric)])
    folds = FoldsOfRuns.of(records, metric)
    return seed_intervals(row, np.random.default_rng(0), bounds=bounds, folds=folds)[0]


def _intervals(
    values: Mapping[str, Sequence[float]], bounds: tuple[float, float], seed: int
) -> dict[str, Interval]:
    """Return the interval of each mean; settings with as many values share their resamples."""
    by_count: dict[int, list[str]] = {}
    for setting_id, finals in values.items():
        by_count.setdefault(len(finals), []).append(setting_id)
    intervals: dict[str, Interval] = {}
    for count, ids in by_count.items():
        if count:
            rows = np.array([values[setting_id] for setting_id in ids])
            means = seed_intervals(rows, seed, bounds=bounds)
            intervals |= zip(ids, means, strict=True)
    return intervals


def _best(points: Sequence[RatePoint], better: Direction | None) -> RatePoint:
    """Return the best setting with one learning rate: most finished runs, then best mean."""
    sign = -1 if better == "lower" else 1

    def order(point: RatePoint) -> tuple[float, float]:
        estimate = sign * point.interval.estimate
        return point.done / point.runs, estimate if point.done else -math.inf

    return max(points, key=order)
