"""The ranking of optimizers on the page of a study, and the tables of all pairs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from optrial.analysis.statistics import Comparison, Statistic, Verdict, sentence
from optrial.analysis.statistics.merit import Floats
from optrial.analysis.statistics.wording import short_difference
from optrial.analysis.view import ProblemView
from optrial.report.strips import Scale, Strip
from optrial.spec import setting_text

__all__ = ["Differences", "Matrix", "Pair", "Ranking", "differences", "matrix", "ranking"]

RANKING_WIDTH = 480.0
_LARGE = 1e6
_MOST_DECIMALS = 8
PAIRS_AT_FIRST = 21
"""Most pairs to show at once, those of seven optimizers; of more, those of the leader."""
ROWS_AT_FIRST = 12
"""Most contenders to show at once; of more, the first of them, and a button that shows all."""
FEWEST_IN_MATRIX = 4
"""Contenders from which on all pairs are also shown as a matrix."""


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
    usual = 4 * statistics.median([abs(row[0]) for row in limits if math.isfinite(row[0])] or [0])
    near = [row for row in limits if abs(row[0]) <= usual] or limits
    scale = Scale.of(chain.from_iterable(near), include=0.0)
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
        leading: whether it is the leader, or undecided against the leader.
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
    """

    scale: Scale
    leader: float
    rows: Sequence[Place]
    adjusted: int

    @property
    def at_first(self) -> int:
        """Number of rows to show at once."""
        return ROWS_AT_FIRST if len(self.rows) > ROWS_AT_FIRST + 2 else len(self.rows)

    @property
    def intervals(self) -> bool:
        """True if an interval is drawn."""
        return any(row.strip.low is not None and not row.strip.beyond for row in self.rows)

    @property
    def beyond(self) -> bool:
        """True if a contender lies beyond the scale."""
        return any(row.strip.beyond for row in self.rows)

    @property
    def decided(self) -> bool:
        """True if at least one contender is shown to be worse than the leader."""
        return not all(row.leading for row in self.rows)


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
    leading = comparisons.groups[0]
    ahead = "leads" if len(leading) < len(comparisons.order) else "ahead"
    decimals = 2 if factor > 1 else _decimals(leader)
    rows = []
    for name in comparisons.order:
        pair, contender = against.get(name), contenders[name]
        limits = pair.difference if pair and pair.statistic != Statistic.SIGN else None
        low, high = (limits.low, limits.high) if limits else (math.nan, math.nan)
        mean = float(values[name].mean()) if len(values[name]) else math.nan
        rows.append(
            Place(
                name,
                contender.optimizer,
                setting_text(contender.setting),
                f"{mean:.{decimals}f}" if abs(mean) < _LARGE else f"{mean:.4g}",
                scale.strip(mean, leader + factor * low, leader + factor * high, values[name]),
                name in leading,
                _standing(pair) if pair else ahead,
                sentence(pair) if pair else "",
                groups[contender.setting_id],
            )
        )
    adjusted = comparisons.pairs[0].comparisons
    return Ranking(scale, scale.at(leader), rows, adjusted)


def _decimals(leader: float) -> int:
    """Return the decimals of all values, with which that of the leader has four digits."""
    if not leader:
        return 4
    return min(max(0, 3 - math.floor(math.log10(abs(leader)))), _MOST_DECIMALS)


def _standing(pair: Comparison) -> str:
    """Return the verdict on a contender against the leader in a few words."""
    if pair.all_diverged and pair.first in pair.all_diverged:
        return f"{pair.pairs} of {pair.pairs} diverged"
    lost = f", {pair.diverged[0]} of {pair.pairs} diverged" if pair.diverged[0] else ""
    if pair.verdict != Verdict.WORSE or pair.statistic == Statistic.SIGN:
        return str(pair.verdict).partition(",")[0] + lost
    amount = short_difference(pair if pair.difference.estimate > 0 else pair.swapped())
    return f"worse by {amount}"


def _near(values: Mapping[str, Floats], leader: float) -> list[float]:
    """Return the values of contenders that are near the leader; others are beyond the scale.

    Near are those within four times the median distance of the others from the leader.
    """
    distances = {name: abs(float(v.mean()) - leader) for name, v in values.items() if len(v)}
    others = sorted(distances.values())[1:] or [0.0]
    limit = 4 * statistics.median(others) or others[-1]
    near = [values[name] for name, distance in distances.items() if distance <= limit]
    return [float(value) for row in near for value in row]


class Cell(NamedTuple):
    """Verdict on the optimizer of a row against that of a column, with the result in words."""

    verdict: str
    sentence: str


class Matrix(NamedTuple):
    """Verdicts on all pairs.

    Attributes:
        rows: name of each contender, best first, and its cells against all contenders; None on
            the diagonal.
    """

    rows: Sequence[tuple[str, Sequence[Cell | None]]]


def matrix(names: Sequence[str], pairs: Iterable[Pair]) -> Matrix | None:
    """Return the verdicts on all pairs; None for few contenders.

    Args:
        names: the contenders, best first.
        pairs: every two of them.
    """
    if len(names) < FEWEST_IN_MATRIX:
        return None
    cells: dict[tuple[str, str], Cell] = {}
    for pair in pairs:
        for side in (pair.comparison, pair.comparison.swapped()):
            verdict = str(side.verdict).partition(",")[0]
            cells[side.first, side.second] = Cell(verdict, pair.sentence)
    return Matrix([(row, [cells.get((row, column)) for column in names]) for row in names])
