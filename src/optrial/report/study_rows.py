"""Tables of the page of a study: rows, each with a small drawing on a common scale."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from optrial.analysis.costs import Cost
from optrial.analysis.funnel import Flow
from optrial.analysis.reported import ReportedValue
from optrial.analysis.statistics import RankComparison, RateRange, p_text, ranks_sentence
from optrial.analysis.target_results import TargetResult
from optrial.analysis.targets import TargetTimes
from optrial.analysis.view import Search
from optrial.report.strips import Scale, Strip
from optrial.timing import Quartiles, StudyTiming, reported_times
from optrial.timing.table import reported_time_notes, reported_time_rows, timing_rows

__all__ = [
    "RankTable",
    "ReportedTimeTable",
    "Rows",
    "TargetRow",
    "cost_rows",
    "flow_rows",
    "range_text",
    "rank_table",
    "rate_rows",
    "reported_tables",
    "reported_time_table",
    "search_rows",
    "target_rows",
    "timing_table",
]

ARROW = 10.0
"""Pixels by which a line extends beyond an open end."""


T = TypeVar("T")

Rows = tuple[Scale, list[tuple[T, Strip]]]
"""A table with small drawings: their scale, and the rows with their drawings."""

TargetRow = tuple[TargetTimes, TargetTimes | None, Strip]
"""Steps to a target, seconds if they can be compared, and the drawing of the steps."""


@dataclass(frozen=True)
class RankTable:
    """Average ranks over problems.

    Attributes:
        ranks: the ranks.
        sentence: the ranks in one sentence without a full stop.
        p_value: p-value of Friedman's test, in words.
        scale: scale of all rows.
        rows: name, average rank, and its drawing with half a critical difference to either side:
            lines overlap if two optimizers are undecided.
    """

    ranks: RankComparison
    sentence: str
    p_value: str
    scale: Scale
    rows: Sequence[tuple[str, float, Strip]]


@dataclass(frozen=True)
class ReportedTimeTable:
    """Published and measured times, as ratios to those of the first named setting.

    Attributes:
        scale: scale of all rows; it includes 1.
        columns: headers of the columns; the first column has names.
        rows: cells, and the drawing of the published ratio and of the measured one with its middle
            half.
        notes: how to read the table.
    """

    scale: Scale
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[object], Strip]]
    notes: Sequence[str]


def cost_rows(costs: Sequence[Cost]) -> Rows[Cost]:
    """Return training times: median and range."""
    scale = Scale.of((second for cost in costs for second in cost.seconds), include=0.0)
    rows = []
    for cost in costs:
        rows.append((cost, scale.strip(cost.median, min(cost.seconds), max(cost.seconds))))
    return scale, rows


def search_rows(searches: Sequence[Search], factor: float = 1) -> Rows[Search]:
    """Return each trial as a small dot, the chosen one as a large dot.

    Args:
        searches: the trials of each optimizer.
        factor: 100 for percent.
    """
    scores = [
        {t.setting_id: factor * t.metrics[s.metric].mean for t in s.trials if s.metric in t.metrics}
        for s in searches
    ]
    scale = Scale.of(value for by_seed in scores for value in by_seed.values())
    return scale, [
        (
            search,
            scale.strip(
                by_seed.get(search.chosen_id, math.nan), math.nan, math.nan, by_seed.values()
            ),
        )
        for search, by_seed in zip(searches, scores, strict=True)
    ]


def target_rows(result: TargetResult, settings: Collection[str]) -> tuple[Scale, list[TargetRow]]:
    """Return steps and seconds to a target, with median, interval and runs that reached it.

    An interval that extends beyond the longest run is cut off there.

    Args:
        result: the times of all contenders.
        settings: ids of the settings that are shown.
    """
    observed = [times.observed for times in result.steps]
    scale = Scale.of(observed, include=0.0)
    seconds: Sequence[TargetTimes | None] = result.seconds or [None] * len(result.steps)
    rows = []
    for times, alone in zip(result.steps, seconds, strict=True):
        if times.contender.setting_id not in settings:
            continue
        median = times.median
        arrived = [arrival.time for arrival in times.arrivals.values() if arrival.reached]
        low = math.nan if math.isinf(median.low) else median.low
        rows.append((times, alone, scale.strip(median.estimate, low, median.high, arrived)))
    return scale, rows


class FlowRow(NamedTuple):
    """Runs of one optimizer on one problem; a phase is None if no run of it is planned yet."""

    problem: str
    optimizer: str
    tune: Flow | None
    report: Flow | None


def flow_rows(flows: Sequence[Flow]) -> list[FlowRow]:
    """Return one row per problem and optimizer: its trials, then its runs for the report."""
    phases = {(flow.problem, flow.optimizer, flow.phase): flow for flow in flows}
    return [
        FlowRow(*pair, phases.get((*pair, "tune")), phases.get((*pair, "report")))
        for pair in dict.fromkeys((flow.problem, flow.optimizer) for flow in flows)
    ]


def rank_table(ranks: RankComparison | None) -> RankTable | None:
    """Return average ranks, each with half a critical difference to either side."""
    if ranks is None:
        return None
    half = ranks.critical_difference / 2
    rows = list(zip(ranks.order, ranks.average_ranks, strict=True))
    scale = Scale.of(rank + side for _, rank in rows for side in (-half, half))
    p_value = ranks.friedman.permutation_p_value
    return RankTable(
        ranks,
        ranks_sentence(ranks),
        p_text(p_value),
        scale,
        [(name, rank, scale.strip(rank, rank - half, rank + half)) for name, rank in rows],
    )


def rate_rows(
    ranges: Mapping[str, RateRange], tried: Sequence[float]
) -> tuple[Scale, list[tuple[str, RateRange, Strip]]]:
    """Return the learning rates about as good as the best, on an axis of all that were tried."""
    scale = Scale.of_logarithms(math.log10(rate) for rate in tried)
    rows = []
    for optimizer, entry in ranges.items():
        strip = scale.strip(_log10(entry.best), _log10(entry.low), _log10(entry.high))
        if entry.open_low:
            strip = replace(strip, low=(strip.low or 0) - ARROW, cut_low=True)
        if entry.open_high:
            strip = replace(strip, high=(strip.high or 0) + ARROW, cut_high=True)
        rows.append((optimizer, entry, strip))
    return scale, rows


def range_text(entry: RateRange) -> str:
    """Return the learning rates about as good as the best, which is finite: ``0.04 to ≥ 0.4``."""
    low, high = f"{entry.low:.2g}", f"{entry.high:.2g}"
    first, last = f"{'≤ ' * entry.open_low}{low}", f"{'≥ ' * entry.open_high}{high}"
    if low == high and not (entry.open_low and entry.open_high):
        return first if entry.open_low else last if entry.open_high else f"only {low}"
    return f"{first} to {last}"


def _log10(value: float) -> float:
    return math.log10(value) if math.isfinite(value) else math.nan


def reported_tables(values: Sequence[ReportedValue]) -> dict[str, Rows[ReportedValue]]:
    """Return published values beside measured ones by metric.

    The dot is the measured mean, the line the range of one more run, the circle the published
    value.
    """
    tables: dict[str, list[ReportedValue]] = {}
    for value in values:
        tables.setdefault(value.metric, []).append(value)
    return {metric: _reported_rows(values) for metric, values in tables.items()}


def _reported_rows(
    values: Sequence[ReportedValue],
) -> Rows[ReportedValue]:
    limits = [_around(value) for value in values]
    scale = Scale.of(
        v for value, row in zip(values, limits, strict=True) for v in (*row, value.reported)
    )
    return scale, [
        (value, scale.strip(*row, [value.reported]))
        for value, row in zip(values, limits, strict=True)
    ]


def _around(value: ReportedValue) -> tuple[float, float, float]:
    """Return the measured mean and its prediction interval."""
    mean = value.reported + value.difference
    return mean, mean - value.margin, mean + value.margin


def reported_time_table(
    seconds: Mapping[str, float], timing: StudyTiming | None
) -> ReportedTimeTable | None:
    """Return published times beside measured ones; None if none were published.

    Args:
        seconds: published times by name of a setting.
        timing: measured times; None if nothing was timed.
    """
    times = reported_times(seconds, timing)
    if not times:
        return None
    unknown = Quartiles(math.nan, math.nan, math.nan)
    measured = [entry.measured or unknown for entry in times]
    published = [entry.reported for entry in times]
    limits = [value for entry in measured for value in (entry.low, entry.high)]
    scale = Scale.of([*published, *limits], include=1.0)
    strips = [
        scale.strip(entry.median, entry.low, entry.high, [ratio])
        for entry, ratio in zip(measured, published, strict=True)
    ]
    columns, rows = reported_time_rows(times)
    notes = reported_time_notes(times) if timing else []
    return ReportedTimeTable(scale, columns, list(zip(rows, strips, strict=True)), notes)


def timing_table(
    timing: StudyTiming,
) -> tuple[Scale, list[str], list[tuple[Sequence[object], Strip]]]:
    """Return a scale in milliseconds, the columns, and the rows of times measured alone."""
    columns, rows = timing_rows(timing)
    steps = [entry.step.times(1e3) for entry in timing.settings]
    scale = Scale.of((step.high for step in steps), include=0.0)
    strips = [scale.strip(step.median, step.low, step.high) for step in steps]
    return scale, columns, list(zip(rows, strips, strict=True))
