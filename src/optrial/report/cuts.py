"""Settings and runs of a large study that its page shows: all of a small one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from optrial.analysis.summary import SettingSummary
from optrial.analysis.view import ProblemView, StudyView
from optrial.records import Record

__all__ = ["shown_runs", "shown_settings", "single_runs", "thinned"]

T = TypeVar("T")

MOST_RUNS = 2_000
"""Rows of the table of runs."""
MOST_SETTINGS = 100
"""Settings of one problem in tables and curves."""
MOST_POINTS = 200
"""Points of a line of a chart."""
_NUMBERS_OF_SINGLE_RUNS = 300_000
"""Values of the curves of single runs."""


def shown_settings(problem: ProblemView) -> frozenset[str]:
    """Return the ids of the settings that tables and curves of a problem show.

    Of more than `MOST_SETTINGS`, these are the best of each optimizer: those with the most finished
    runs, then the best mean.
    """
    summaries = problem.summaries
    if len(summaries) <= MOST_SETTINGS:
        return frozenset(summary.setting_id for summary in summaries)
    by_optimizer: dict[str, list[SettingSummary]] = {}
    for summary in summaries:
        by_optimizer.setdefault(summary.optimizer, []).append(summary)
    count = max(1, MOST_SETTINGS // len(by_optimizer))
    return frozenset(
        summary.setting_id
        for tried in by_optimizer.values()
        for summary in _best(tried, problem)[:count]
    )


def _best(summaries: Iterable[SettingSummary], problem: ProblemView) -> list[SettingSummary]:
    """Return the settings of an optimizer, the best first."""
    metric = problem.select or problem.metric
    sign = 1 if problem.directions.better(metric) == "higher" else -1

    def merit(summary: SettingSummary) -> tuple[bool, int, float]:
        spread = summary.metrics.get(metric)
        value = sign * spread.mean if spread else -math.inf
        return summary.best, spread.count if spread else 0, value

    return sorted(summaries, key=merit, reverse=True)


def shown_runs(view: StudyView, failures: Iterable[Record], first: Iterable[str]) -> list[Record]:
    """Return the runs that the table of runs lists, in the order of the plan.

    Of more than `MOST_RUNS`, these are `failures` and as many runs of each setting, beginning with
    the settings `first`.
    """
    if len(view.records) <= MOST_RUNS:
        return list(view.records)
    settings: dict[str, list[str]] = {setting_id: [] for setting_id in first}
    for record in view.records:
        settings.setdefault(record.setting_id, []).append(record.run_id)
    count = max(1, MOST_RUNS // len(settings))
    runs = (run_id for run_ids in settings.values() for run_id in run_ids[:count])
    shown = {*islice(runs, MOST_RUNS), *(record.run_id for record in failures)}
    return [record for record in view.records if record.run_id in shown]


def single_runs(settings: int, metrics: int, points: int) -> int:
    """Return the number of runs of a setting whose curves are drawn one by one."""
    return max(2, _NUMBERS_OF_SINGLE_RUNS // max(1, settings * metrics * points))


def thinned(values: Sequence[T]) -> list[T]:
    """Return at most `MOST_POINTS` values, evenly spread, with the first and the last."""
    if len(values) <= MOST_POINTS:
        return list(values)
    last = len(values) - 1
    return [values[round(place * last / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]
