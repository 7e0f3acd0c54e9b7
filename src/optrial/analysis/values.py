"""Final values of runs by seed or by fold, as comparisons take them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from optrial.analysis.statistics import FoldValues, Values
from optrial.records import Record
from optrial.spec import FINAL, MetricName, Status

__all__ = ["evaluated_ratio", "final_values"]


def final_values(records: Iterable[Record], metric: str) -> Values:
    """Return the final values of runs that finished or diverged, by seed.

    NaN for a run that diverged, None for one that finished without a finite value of the metric.

    Runs of a cross-validation give one value per fold, the mean over its seeds: a fold is left out
    until all of them have ended, and has NaN or None if one of them has.
    """
    records = list(records)
    if not any(record.spec.fold for record in records):
        return {record.seed: _final(record, metric) for record in records if _ended(record)}
    folds: dict[int, list[Record]] = {}
    for record in records:
        folds.setdefault(record.pair, []).append(record)
    ended = {fold: runs for fold, runs in folds.items() if all(map(_ended, runs))}
    values = {fold: _mean([_final(run, metric) for run in runs]) for fold, runs in ended.items()}
    return FoldValues(values, evaluated_ratio(ended, metric))


def _ended(record: Record) -> bool:
    return record.status in FINAL


def _final(record: Record, metric: str) -> float | None:
    return math.nan if record.status is Status.DIVERGED else record.final(metric)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; NaN if a run diverged, None if one has no value."""
    known = [value for value in values if value is not None]
    if any(map(math.isnan, known)):
        return math.nan
    return fmean(known) if len(known) == len(values) else None


def evaluated_ratio(folds: Mapping[int, Sequence[Record]], metric: str) -> float:
    """Return the number of evaluated samples per training sample, over all folds.

    A metric of training samples has 1. A metric of no samples has that of the test split.
    """
    name = MetricName.parse(metric)
    split = "train" if name.of_training else name.split or "test"
    sizes = [runs[0].facts.split_sizes or {} for runs in folds.values()]
    trained = sum(size.get("train", 0) for size in sizes)
    return sum(size.get(split, 0) for size in sizes) / trained if trained else 1.0
