"""Tables of the page of a study: rows, each with a small drawing on a common scale."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple, TypeVar

from optrial.analysis.contenders import setting_text
from optrial.analysis.costs import Cost
from optrial.analysis.funnel import Flow
from optrial.analysis.reported import ReportedValue
from optrial.analysis.statistics import (
    Comparison,
    RankComparison,
    RateRange,
    Statistic,
    Verdict,
    p_text,
    ranks_sentence,
    sentence,
)
from optrial.analysis.statistics.merit import Floats
from optrial.analysis.target_results import TargetResult
from optrial.analysis.targets import TargetTimes
from optrial.analysis.view import ProblemView, Search
from optrial.report.strips import Scale, Strip
from optrial.timing import Quartiles, StudyTiming, reported_times
from optrial.timing.table import reported_time_notes, reported_time_rows, timing_rows

__all__ = [
    "Differences",
    "Pair",
    "RankTable",
    "Ranking",
    "ReportedTimeTable",
    "Rows",
    "TargetRow",
    "cost_rows",
    "differences",
    "flow_rows",
    "rank_table",
    "ranking",
    "rate_rows",
    "reported_tables",
    "reported_time_table",
    "search_rows",
    "target_rows",
    "timing_table",
]

ARROW = 10.0
"""Pixels by which a line extends beyond an open end."""
RANKING_WIDTH = 480.0
PAIRS_AT_FIRST = 21
"""Most pairs to show at once, those of seven optimizers; of more, those of the leader."""


T = TypeVar("T")

Rows = tuple[Scale, list[tuple[T, Strip]]]
"""A table with small drawings: their scale, and the rows with their drawings."""

TargetRow = tuple[TargetTimes, TargetTimes | None, Strip]
"""Steps to a target, seconds if they can be compared, and the drawing of the steps."""


@dataclass(frozen=True)
class Pair:
    """One row of the table of differences.

    Attributes:
        comparison: the comparison, with the better optimizer first.
        sentence: the result in words.
        strip: drawing of the interval.
        groups: numbers of the two settings.
    """

    comparison: Comparison
    sentence: str
    strip: Strip
    groups: str


@dataclass(frozen=True)
class Differences:
    """The table of paired differences.

    Attributes:
        scale: scale of all rows.
        unit: "points" for a fraction; else empty.
        first: the pairs of the leader, or all pairs if there are few.
        others: the remaining pairs.
    """

    scale: Scale
    unit: str
    first: Sequence[Pair]
    others: Sequence[Pair]


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


def differences(problem: ProblemView, groups: Mapping[str, int]) -> Differences | None:
    """Return the table of differences; None if nothing is compared.

    Args:
        problem: the problem.
        groups: number of each setting, by its id.
    """
    if problem.comparisons is None:
        return None
    pairs = problem.pairs
    points = problem.directions.percent(problem.metric)
    factor = 100 if points else 1
    limits = [
        (factor * estimate, factor * low, factor * high)
        for estimate, low, high in (pair.interval for pair in pairs)
    ]
    scale = Scale.of(chain.from_iterable(limits), include=0.0)
    group = {c.name: groups[c.setting_id] for c in problem.contenders}
    rows = [
        Pair(c, sentence(c), scale.strip(*row), f"{group[c.first]} {group[c.second]}")
        for c, row in zip(pairs, limits, strict=True)
    ]
    leading = len(rows) if len(rows) <= PAIRS_AT_FIRST else len(problem.comparisons.order) - 1
    return Differences(scale, "points" if points else "", rows[:leading], rows[leading:])


class Place(NamedTuple):
    """One contender in the ranking.

    Attributes:
        name: name of the contender.
        optimizer: name of its optimizer.
        setting: the values that vary.
        value: mean over seeds, as text.
        strip: the runs, the mean and the interval of the difference to the leader.
        leading: whether it belongs to the leading group; the leader alone if all others do.
        standing: its verdict against the leader, in a few words.
        sentence: the comparison with the leader in words; empty for the leader.
        group: number of its setting.
    """

    name: str
    optimizer: str
    setting: str
    value: str
    strip: Strip
    leading: bool
    standing: str
    sentence: str
    group: int


class Ranking(NamedTuple):
    """All contenders on the metric, best first.

    Attributes:
        scale: scale of all rows.
        leader: pixel of the leader's mean.
        rows: the contenders.
        adjusted: number of comparisons that intervals are adjusted for.
        together: number of optimizers in the leading group that is shaded.
    """

    scale: Scale
    leader: float
    rows: Sequence[Place]
    adjusted: int
    together: int


def ranking(problem: ProblemView, groups: Mapping[str, int]) -> Ranking | None:
    """Return the ranked contenders; None if nothing is compared or no run has a finite value.

    The interval of a row is that of its difference to the leader, drawn from the leader's mean: it
    contains that mean if and only if the two are undecided.

    Args:
        problem: the problem.
        groups: number of each setting, by its id.
    """
    comparisons = problem.comparisons
    if comparisons is None or not comparisons.groups:
        return None
    factor = 100 if problem.directions.percent(problem.metric) else 1
    values = {name: factor * comparisons.finished(name) for name in comparisons.order}
    best = comparisons.groups[0][0]
    leader = float(values[best].mean())
    against = {name: problem.pair(name, best) for name in comparisons.order if name != best}
    scale = Scale.of(_near(values, leader), width=RANKING_WIDTH)
    contenders = {c.name: c for c in problem.contenders}
    everyone = len(comparisons.groups[0]) == len(comparisons.order)
    leading = (best,) if everyone else comparisons.groups[0]
    rows = []
    for name in comparisons.order:
        pair, contender = against.get(name), contenders[name]
        limits = pair.difference if pair and pair.statistic == Statistic.MEAN else None
        low, high = (limits.low, limits.high) if limits else (math.nan, math.nan)
        mean = float(values[name].mean()) if len(values[name]) else math.nan
        rows.append(
            Place(
                name,
                contender.optimizer,
                setting_text(contender.setting),
                f"{mean:.2f}" if factor > 1 else f"{mean:.4g}",
                scale.strip(mean, leader + factor * low, leader + factor * high, values[name]),
                name in leading,
                _place_of(pair, factor),
                sentence(pair) if pair else "",
                groups[contender.setting_id],
            )
        )
    adjusted = comparisons.pairs[0].comparisons
    return Ranking(scale, scale.at(leader), rows, adjusted, len(leading))


def _place_of(pair: Comparison | None, factor: float) -> str:
    """Return the verdict on a contender against the leader in a few words."""
    if pair is None:
        return "leads"
    if pair.all_diverged and pair.first in pair.all_diverged:
        return f"{pair.pairs} of {pair.pairs} diverged"
    lost = f", {pair.diverged[0]} of {pair.pairs} diverged" if pair.diverged[0] else ""
    if pair.verdict != Verdict.WORSE or pair.statistic == Statistic.SIGN:
        return str(pair.verdict).partition(",")[0] + lost
    unit = " points" if pair.percent else ""
    return f"worse by {factor * abs(pair.difference.estimate):.2g}{unit}"


def _near(values: Mapping[str, Floats], leader: float) -> list[float]:
    """Return the values of contenders that are near the leader; others are beyond the scale.

    Near are those within four times the median distance from the leader.
    """
    distances = {name: abs(float(v.mean()) - leader) for name, v in values.items() if len(v)}
    limit = 4 * statistics.median(distances.values()) or max(distances.values())
    near = [values[name] for name, distance in distances.items() if distance <= limit]
    return [float(value) for row in near for value in row]


def cost_rows(costs: Sequence[Cost]) -> Rows[Cost]:
    """Return training times: median and range."""
    scale = Scale.of((second for cost in costs for second in cost.seconds), include=0.0)
    rows = []
    for cost in costs:
        rows.append((cost, scale.strip(cost.median, min(cost.seconds), max(cost.seconds))))
    return scale, rows


def search_rows(searches: Sequence[Search]) -> Rows[Search]:
    """Return each trial as a small dot, the chosen one as a large dot."""
    scores = [
        {t.setting_id: t.metrics[s.metric].mean for t in s.trials if s.metric in t.metrics}
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
