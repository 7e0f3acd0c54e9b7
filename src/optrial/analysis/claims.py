"""Claims: what a study is meant to show, fixed before its runs, and their verdicts.

    A > B on METRIC               A is better than B: lower for a loss, as declared for a metric
    A > B on METRIC by AMOUNT     better by more than that
    A is best on METRIC           better than every other optimizer of the study
    A ~ B on METRIC within AMOUNT they differ by less than that
    A reaches METRIC VALUE in fewer steps than B
    A reaches METRIC VALUE in less time than B
    A reaches METRIC VALUE sooner than B          the same as in fewer steps

A name with spaces or one of ``> ~ ' "`` in it is put in quotes. An amount is a number in the unit
of the metric, ``0.01``; for an accuracy ``0.5 points`` or ``0.5%`` is 0.005; for any other metric
``0.5%`` is that share of B's mean. A value is a number in the unit of the metric; for an accuracy
``95%`` is 0.95.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from optrial.analysis.statistics import (
    Arrival,
    Comparison,
    Statistic,
    TargetComparison,
    Values,
    Verdict,
    compare,
    compare_arrivals,
    holm,
    known_values,
    sentence,
    target_sentence,
    without_value,
)
from optrial.analysis.statistics.wording import number_text
from optrial.analysis.targets import Target, Unit, target_metric_problem
from optrial.errors import Problem, suggest
from optrial.spec import TRAINING_SECONDS, Direction, Directions, undeclared

__all__ = [
    "Amount",
    "Arrivals",
    "Claim",
    "ClaimKind",
    "ClaimResult",
    "ClaimVerdict",
    "evaluate_claims",
    "parse_claims",
]


class ClaimKind(StrEnum):
    """The relation that a claim states."""

    BETTER = ">"
    BEST = "is best"
    EQUIVALENT = "~"
    REACHES = "reaches"


@dataclass(frozen=True)
class Amount:
    """A difference: a number in the unit of the metric, or a share of the second's mean."""

    value: float
    relative: bool = False

    def of(self, values: Values) -> float:
        """Return the difference in the unit of the metric; NaN if no value is finite."""
        if not self.relative:
            return self.value
        finite = [value for value in known_values(values).values() if math.isfinite(value)]
        return self.value * abs(math.fsum(finite) / len(finite)) if finite else math.nan


@dataclass(frozen=True)
class Claim:
    """One claim of a study.

    Attributes:
        text: the claim as written.
        kind: the relation that it states.
        first: name of an optimizer.
        second: name of the other one; empty for "is best".
        metric: name of the metric.
        amount: the least difference of ``by``, the margin of ``within``; otherwise 0.
        better: direction of the metric; may be None only for "~", which needs none.
        percent: whether the metric is a fraction, shown in percentage points.
        target: the target of "reaches"; None for every other kind.
        unit: of the time to the target.
    """

    text: str
    kind: ClaimKind
    first: str
    second: str
    metric: str
    amount: Amount = Amount(0.0)
    better: Direction | None = None
    percent: bool = False
    target: Target | None = None
    unit: Unit = "steps"

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that the claim names."""
        return (self.first, self.second) if self.second else (self.first,)

    @property
    def about_seconds(self) -> bool:
        """Whether the claim is about the time that training takes."""
        return self.metric == TRAINING_SECONDS or self.unit == "seconds"


class _Token(NamedTuple):
    text: str
    column: int  # 1 for the first character
    quoted: bool


_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([>~"'])|([^\s"'>~]+))""")
_NUMBER = r"\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
_AMOUNT = re.compile(rf"({_NUMBER})\s*(points?|%)?", re.IGNORECASE)
_VALUE = re.compile(rf"([+-]?(?:{_NUMBER}))(%)?", re.IGNORECASE)


class _ClaimError(ValueError):
    """The first thing that is wrong with a claim."""


class _Reader:
    """Reads a claim word by word."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(
                next(group for group in match.groups() if group is not None),
                match.end() - len(match[0].lstrip()) + 1,
                match.lastindex in (1, 2),
            )
            for match in _TOKEN.finditer(text)
        ]

    def next(self, expected: str) -> _Token:
        """Read the next word; `expected` describes it in an error."""
        if not self.tokens:
            raise _ClaimError(f"ends at column {len(self.text.rstrip()) + 1}, expected {expected}.")
        return self.tokens.pop(0)

    def word(self, *allowed: str) -> str:
        """Read the next word, which must be one of those allowed."""
        expected = " or ".join(f"'{word}'" for word in allowed)
        token = self.next(expected)
        if token.quoted or token.text not in allowed:
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {expected}.")
        return token.text

    def name(self, kind: str, known: Sequence[str]) -> str:
        """Read the name of an optimizer or a metric; an empty `known` allows every name."""
        token = self.next(f"the name of {kind}")
        if not token.quoted and token.text in (">", "~", '"', "'"):
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {kind}'s name.")
        if known and token.text not in known:
            is_not = f"'{token.text}' is not {kind} of this study"
            raise _ClaimError(f"column {token.column}: {is_not}. {suggest(token.text, known)}")
        return token.text

    def value(self, percent: bool) -> float:
        """Read a value of a metric; one of a `percent` metric may be in percent."""
        expected = "a value, such as 0.95 or 95%" if percent else "a value, such as 0.1"
        token = self.next(expected)
        match = _VALUE.fullmatch(token.text)
        if not match or (match[2] and not percent):
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {expected}.")
        return float(match[1]) / 100 if match[2] else float(match[1])

    def amount(self, metric: str, percent: bool) -> Amount:
        """Read the rest, which must be an amount; only a `percent` metric has points."""
        column = self.tokens[0].column if self.tokens else len(self.text.rstrip()) + 1
        rest = " ".join(token.text for token in self.tokens)
        self.tokens = []
        match = _AMOUNT.fullmatch(rest)
        if not match or not float(match[1]) > 0:
            expected = "an amount above 0, such as 0.01, 0.5 points or 0.5%"
            raise _ClaimError(f"column {column}: '{rest}', expected {expected}.")
        value, unit = float(match[1]), (match[2] or "").lower()
        if unit.startswith("point") and not percent:
            way_out = "write a number in its unit, or a share such as 5%"
            raise _ClaimError(f"column {column}: '{metric}' has no points; {way_out}.")
        return Amount(value / 100 if unit else value, unit == "%" and not percent)

    def end(self) -> None:
        """Refuse further words."""
        if self.tokens:
            extra = self.tokens[0]
            raise _ClaimError(f"column {extra.column}: '{extra.text}', expected the end.")


@dataclass(frozen=True)
class _Grammar:
    """The names that claims may use; no names allow every name."""

    optimizers: Sequence[str]
    metrics: Sequence[str]
    directions: Directions

    def read(self, text: str) -> Claim:
        """Return the claim of a text."""
        reader = _Reader(text)
        first = reader.name("an optimizer", self.optimizers)
        relation = reader.word(*_READERS)
        claim = _READERS[relation](self, reader, text, first)
        reader.end()
        if claim.second == claim.first:
            raise _ClaimError(f"compares '{first}' with itself; name two optimizers.")
        return claim

    def better(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``> B on METRIC by AMOUNT`` from the second name on."""
        second, metric = reader.name("an optimizer", self.optimizers), self._metric(reader)
        percent, amount = self.directions.percent(metric), Amount(0.0)
        if reader.tokens:
            reader.word("by")
            amount = reader.amount(metric, percent)
        better = self._direction(metric)
        return Claim(text, ClaimKind.BETTER, first, second, metric, amount, better, percent)

    def equivalent(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``~ B on METRIC within AMOUNT`` from the second name on."""
        second, metric = reader.name("an optimizer", self.optimizers), self._metric(reader)
        better, percent = self.directions.better(metric), self.directions.percent(metric)
        reader.word("within")
        amount = reader.amount(metric, percent)
        return Claim(text, ClaimKind.EQUIVALENT, first, second, metric, amount, better, percent)

    def best(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``is best on METRIC`` from "best" on."""
        reader.word("best")
        metric = self._metric(reader)
        better, percent = self._direction(metric), self.directions.percent(metric)
        return Claim(text, ClaimKind.BEST, first, "", metric, better=better, percent=percent)

    def reaches(self, reader: _Reader, text: str, first: str) -> Claim:
        """Read ``reaches METRIC VALUE in fewer steps than B`` from the metric on."""
        metric = reader.name("a metric", self.metrics)
        if problem := target_metric_problem(metric, self.metrics, self.directions):
            raise _ClaimError(problem)
        percent = self.directions.percent(metric)
        target, unit = Target(metric, reader.value(percent)), self._unit(reader)
        reader.word("than")
        second = reader.name("an optimizer", self.optimizers)
        better = self.directions.better(metric)
        return Claim(
            text,
            ClaimKind.REACHES,
            first,
            second,
            metric,
            better=better,
            percent=percent,
            target=target,
            unit=unit,
        )

    def _unit(self, reader: _Reader) -> Unit:
        if reader.word("in", "sooner") == "sooner":
            return "steps"
        if reader.word("fewer", "less") == "fewer":
            reader.word("steps")
            return "steps"
        reader.word("time")
        return "seconds"

    def _metric(self, reader: _Reader) -> str:
        reader.word("on")
        return reader.name("a metric", self.metrics)

    def _direction(self, metric: str) -> Direction:
        better = self.directions.better(metric)
        if better is None:
            way_out = "declare it under problem.metrics: {name: module:function, better: lower}"
            raise _ClaimError(f"{undeclared(metric)}; {way_out}, or higher.")
        return better


_READERS = {
    ">": _Grammar.better,
    "~": _Grammar.equivalent,
    "is": _Grammar.best,
    "reaches": _Grammar.reaches,
}

CATALOGUE = Directions()
"""Directions of a study without user-defined metrics."""


def parse_claims(
    texts: Sequence[str],
    optimizers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    directions: Directions = CATALOGUE,
) -> tuple[list[Claim], list[Problem]]:
    """Read the claims of a study; return the valid ones, and a problem for each other.

    Args:
        texts: claims as the module describes them.
        optimizers: names of the optimizers; none allows every name.
        metrics: names of the metrics; none allows every name.
        directions: directions of the metrics.
    """
    grammar = _Grammar(optimizers, metrics, directions)
    claims, problems = [], []
    for index, text in enumerate(texts):
        try:
            claims.append(grammar.read(str(text)))
        except _ClaimError as error:
            problems.append(Problem(f"claims[{index}]", f'"{text}": {error}'))
    return claims, problems


class ClaimVerdict(StrEnum):
    """Verdict on a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ClaimResult:
    """A claim and its verdict.

    Attributes:
        claim: the claim.
        verdict: at level `alpha` of all claims together.
        sentence: the verdict with its numbers, without a full stop.
        p_value: of the claim alone, in the direction in which it was decided.
        adjusted_p_value: after Holm's correction over all claims.
        alpha: chance of any false decision among all claims.
        comparisons: the pairs behind it, uncorrected: one, or for "is best" one per rival; none for
            a target.
        arrivals: the pair behind a claim about a target; None for every other claim.
    """

    claim: Claim
    verdict: ClaimVerdict
    sentence: str
    p_value: float
    adjusted_p_value: float
    alpha: float
    comparisons: tuple[Comparison, ...]
    arrivals: TargetComparison | None = None

    @property
    def pairs(self) -> int:
        """The largest number of common seeds of any pair behind the claim."""
        of_target = self.arrivals.pairs if self.arrivals else 0
        return max((pair.pairs for pair in self.comparisons), default=of_target)

    @property
    def numbers(self) -> dict[str, float | int | None]:
        """The evidence as data; None where unknown. Differences are first minus second."""
        numbers: dict[str, float | int | None] = {
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
        }
        if len(self.comparisons) == 1:
            (pair,) = self.comparisons
            interval = pair.difference
            numbers |= {"pairs": pair.pairs, "difference": _finite(interval.estimate)}
            numbers |= {"low": _finite(interval.low), "high": _finite(interval.high)}
        if self.arrivals:
            first, second = self.arrivals.medians
            numbers |= {"pairs": self.pairs, "first_median": _finite(first.estimate)}
            numbers["second_median"] = _finite(second.estimate)
            numbers |= dict(
                zip(("first_reached", "second_reached"), self.arrivals.reached, strict=True)
            )
        return numbers


class _Evidence(NamedTuple):
    support: float  # p-value of the claim; 1 where the seeds point the other way
    refutation: float  # p-value of its opposite
    comparisons: tuple[Comparison, ...]
    arrivals: TargetComparison | None = None


Arrivals = Mapping[str, Mapping[int, Arrival]]
"""Optimizer -> seed -> when its run reached a target."""


def evaluate_claims(
    claims: Sequence[Claim],
    values: Mapping[str, Mapping[str, Values]],
    arrivals: Mapping[tuple[Target, Unit], Arrivals] | None = None,
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[ClaimResult]:
    """Decide every claim by paired sign-flip tests, with Holm's correction over all claims.

    "A > B by D" tests the differences less D. "A is best" is supported where A is better than every
    rival, so that its p-value is the largest of theirs (an intersection-union test, Berger 1982),
    and refuted where any rival is better, by Bonferroni. "A ~ B within D" takes two one-sided
    tests (Schuirmann 1987). "A reaches ..." takes the sign test of `compare_arrivals`.

    Args:
        claims: the claims to decide.
        values: metric -> optimizer -> seed -> value; one that is not finite marks a run that
            diverged, which is worse than every other, None a run without a value.
        arrivals: arrivals for each target and unit that a claim names.
        alpha: chance of any false decision among all claims.
        seed: of the resamples; see `compare_all`.
    """
    evidence = [_evidence(claim, values, arrivals or {}, seed) for claim in claims]
    adjusted = holm([min(one.support, one.refutation) for one in evidence])
    return [
        _result(claim, one, float(p_value), len(claims), alpha)
        for claim, one, p_value in zip(claims, evidence, adjusted, strict=True)
    ]


def _evidence(
    claim: Claim,
    values: Mapping[str, Mapping[str, Values]],
    arrivals: Mapping[tuple[Target, Unit], Arrivals],
    seed: int,
) -> _Evidence:
    own = values.get(claim.metric, {})
    match claim.kind:
        case ClaimKind.BETTER:
            return _better(claim, own, seed)
        case ClaimKind.BEST:
            return _best(claim, own, seed)
        case ClaimKind.EQUIVALENT:
            return _equivalent(claim, own, seed)
        case ClaimKind.REACHES:
            assert claim.target is not None  # as every claim of this kind has
            return _sooner(claim, arrivals.get((claim.target, claim.unit), {}), seed)


def _result(
    claim: Claim, evidence: _Evidence, adjusted: float, family: int, alpha: float
) -> ClaimResult:
    verdict = ClaimVerdict.UNDECIDED
    if adjusted <= alpha:
        supported = evidence.support <= evidence.refutation
        verdict = ClaimVerdict.SUPPORTED if supported else ClaimVerdict.REFUTED
    text = _explanation(claim, evidence, adjusted, family)
    missing = dict.fromkeys(note for pair in evidence.comparisons for note in without_value(pair))
    text = "; ".join([text, *(note for note in missing if note not in text)])
    return ClaimResult(
        claim,
        verdict,
        f'"{claim.text}" is {verdict}: {text}',
        min(evidence.support, evidence.refutation),
        adjusted,
        alpha,
        evidence.comparisons,
        evidence.arrivals,
    )


def _compared(
    claim: Claim,
    names: tuple[str, str],
    values: Mapping[str, Values],
    seed: int,
    ahead_by: float = 0.0,
) -> Comparison:
    """Compare two optimizers after subtracting `ahead_by` from the improvement of the first."""
    first, second = (values.get(name, {}) for name in names)
    better_up = claim.better != "lower"  # "~" is the same either way
    shift = ahead_by if better_up else -ahead_by
    moved = {s: None if value is None else value + shift for s, value in second.items()}
    return compare(
        first,
        moved,
        metric=claim.metric,
        higher_is_better=better_up,
        percent=claim.percent,
        names=names,
        seed=seed,
    )


def _directions(comparison: Comparison) -> tuple[float, float]:
    """Return the p-values that the first is ahead and that it is behind, each two-sided."""
    ahead = comparison.wins - comparison.losses
    if comparison.statistic == Statistic.MEAN:
        ahead = int(np.sign(comparison.improvements.sum()))
    return (
        comparison.p_value if ahead > 0 else 1.0,
        comparison.p_value if ahead < 0 else 1.0,
    )


def _better(claim: Claim, values: Mapping[str, Values], seed: int) -> _Evidence:
    names = (claim.first, claim.second)
    plain = _compared(claim, names, values, seed)
    least = claim.amount.of(values.get(claim.second, {}))
    if math.isnan(least):
        return _Evidence(1.0, 1.0, (plain,))
    tested = _compared(claim, names, values, seed, least) if least else plain
    return _Evidence(*_directions(tested), (plain,))


def _best(claim: Claim, values: Mapping[str, Values], seed: int) -> _Evidence:
    pairs = tuple(
        _compared(claim, (claim.first, rival), values, seed)
        for rival in values
        if rival != claim.first
    )
    if not pairs or claim.first not in values:
        return _Evidence(1.0, 1.0, pairs)
    ahead, behind = zip(*map(_directions, pairs), strict=True)
    return _Evidence(max(ahead), min(1.0, len(pairs) * min(behind)), pairs)


def _equivalent(claim: Claim, values: Mapping[str, Values], seed: int) -> _Evidence:
    names = (claim.first, claim.second)
    plain = _compared(claim, names, values, seed)
    margin = claim.amount.of(values.get(claim.second, {}))
    if math.isnan(margin) or not plain.pairs:
        return _Evidence(1.0, 1.0, (plain,))
    inside, outside = [], []
    for order in (names, names[::-1]):  # neither is behind the other by more than the margin
        within, beyond = _directions(_compared(claim, order, values, seed, -margin))
        inside.append(within / 2 if within < 1 else 1.0)  # one-sided: the test is symmetric
        outside.append(beyond)
    return _Evidence(max(inside), min(outside), (plain,))


def _sooner(claim: Claim, arrivals: Arrivals, seed: int) -> _Evidence:
    pair = compare_arrivals(
        arrivals.get(claim.first, {}),
        arrivals.get(claim.second, {}),
        target=str(claim.target),
        unit=claim.unit,
        names=(claim.first, claim.second),
        seed=seed,
    )
    ahead = pair.wins - pair.losses
    return _Evidence(
        pair.p_value if ahead > 0 else 1.0, pair.p_value if ahead < 0 else 1.0, (), pair
    )


def _explanation(claim: Claim, evidence: _Evidence, adjusted: float, family: int) -> str:
    """Return the measured numbers in words that follow the verdict."""
    if evidence.arrivals:
        pair = replace(evidence.arrivals, adjusted_p_value=adjusted, comparisons=family)
        return target_sentence(pair)
    if not evidence.comparisons:
        return f"{claim.first} has no rival with a result on {claim.metric}"
    if claim.kind == ClaimKind.BEST:
        return _standing(claim, evidence, adjusted)
    (only,) = evidence.comparisons
    if claim.kind == ClaimKind.BETTER and not claim.amount.value:
        return sentence(replace(only, adjusted_p_value=adjusted, comparisons=family))
    return f"{_difference(only)}, p = {adjusted:.2g}{' after Holm' if family > 1 else ''}"


def _difference(pair: Comparison) -> str:
    """Return the difference of a pair, its interval and the number of seeds."""
    if not pair.pairs:
        return f"{pair.first} and {pair.second} have no seed in common"
    if pair.verdict == Verdict.UNDECIDED_DIVERGED:
        return sentence(pair)
    if pair.statistic == Statistic.SIGN:
        lost = " and ".join(
            f"{count} of {name}"
            for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
            if count
        )
        won = f"{pair.first} won {pair.wins} and lost {pair.losses} of {pair.pairs} paired seeds"
        return f"{won}, on which {lost} diverged and count as lost"
    scale, unit = (100, " points") if pair.percent else (1, "")
    limits = [scale * pair.difference.low, scale * pair.difference.high]
    half_width = (limits[1] - limits[0]) / 2
    interval = "no interval"
    if pair.difference.known:
        interval = f"{100 * pair.difference.level:g} % interval " + " to ".join(
            number_text(limit, half_width) for limit in limits
        )
    estimate = f"{number_text(scale * pair.difference.estimate, half_width)}{unit}"
    between = f"{pair.first} - {pair.second} on {pair.metric}"
    seeds = f"{pair.pairs} paired seed{'s' * (pair.pairs != 1)}"
    return f"{between} is {estimate} ({interval}, {seeds})"


_NOT_COMPARED = "not compared, as runs diverged, with"
_STANDINGS = ("ahead of", "behind", "not told apart from", _NOT_COMPARED)


def _standing(claim: Claim, evidence: _Evidence, adjusted: float) -> str:
    """Name the rivals that an optimizer is ahead of, behind, and not told apart from."""
    groups: dict[str, list[str]] = {standing: [] for standing in _STANDINGS}
    for pair in evidence.comparisons:
        groups[_standing_of(pair)].append(pair.second)
    parts = [f"{standing} {', '.join(names)}" for standing, names in groups.items() if names]
    fewest = min(pair.pairs for pair in evidence.comparisons)
    seeds = f"{fewest} paired seed{'s' * (fewest != 1)}"
    lost = {
        name: f"; {count} of {pair.pairs} runs of {name} diverged"
        for pair in evidence.comparisons
        for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
        if count
    }
    standing = f"{claim.first} is {'; '.join(parts)} on {claim.metric}"
    return f"{standing} ({seeds}, p = {adjusted:.2g}){''.join(lost.values())}"


def _standing_of(pair: Comparison) -> str:
    ahead, behind = _directions(pair)
    if ahead <= pair.alpha:
        return "ahead of"
    if behind <= pair.alpha:
        return "behind"
    diverged = pair.verdict == Verdict.UNDECIDED_DIVERGED
    return _NOT_COMPARED if diverged else "not told apart from"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
