"""Claims: what a study sets out to show, fixed before the runs, and what the runs say of it.

    A > B on METRIC               A is better than B: lower for a loss, as declared for a metric
    A > B on METRIC by AMOUNT     better by more than that
    A is best on METRIC           better than every other optimizer of the study
    A ~ B on METRIC within AMOUNT they differ by less than that

A name with spaces or one of ``> ~ ' "`` in it is put in quotes. An amount is a number in the unit
of the metric, ``0.01``; for an accuracy ``0.5 points`` or ``0.5%`` is 0.005; for any other metric
``0.5%`` is that share of B's mean.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from optrial.analysis.statistics import (
    Comparison,
    Statistic,
    Values,
    Verdict,
    compare,
    holm,
    known_values,
    sentence,
    without_value,
)
from optrial.analysis.statistics.wording import number_text
from optrial.errors import Problem, StudyError, suggest
from optrial.spec import Direction, Directions, undeclared

__all__ = [
    "Amount",
    "Claim",
    "ClaimKind",
    "ClaimResult",
    "ClaimVerdict",
    "claims_hash",
    "evaluate_claims",
    "parse_claim",
    "parse_claims",
]


class ClaimKind(StrEnum):
    """What a claim says of its first optimizer."""

    BETTER = ">"
    BEST = "is best"
    EQUIVALENT = "~"


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
        text: as it was written.
        kind: what it says.
        first: name of an optimizer.
        second: name of the other one; empty for "is best".
        metric: name of the metric.
        amount: the least difference of ``by``, the margin of ``within``; 0 if none is given.
        better: which values of the metric are better; None only for "~", which needs no direction.
        percent: whether the metric is a fraction, shown in percentage points.
    """

    text: str
    kind: ClaimKind
    first: str
    second: str
    metric: str
    amount: Amount = Amount(0.0)
    better: Direction | None = None
    percent: bool = False

    @property
    def optimizers(self) -> tuple[str, ...]:
        """The optimizers that it names."""
        return (self.first, self.second) if self.second else (self.first,)


class _Token(NamedTuple):
    text: str
    column: int  # 1 for the first character
    quoted: bool


_TOKEN = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([>~"'])|([^\s"'>~]+))""")
_AMOUNT = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*(points?|%)?", re.IGNORECASE)


class _ClaimError(ValueError):
    """What is wrong with one claim."""


class _Reader:
    """Takes a claim apart, one word after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [
            _Token(
                next(group for group in found.groups() if group is not None),
                found.end() - len(found[0].lstrip()) + 1,
                found.lastindex in (1, 2),
            )
            for found in _TOKEN.finditer(text)
        ]

    def next(self, wanted: str) -> _Token:
        """Take the next word; `wanted` says in an error what it should have been."""
        if not self.tokens:
            raise _ClaimError(f"ends at column {len(self.text.rstrip()) + 1}, expected {wanted}.")
        return self.tokens.pop(0)

    def word(self, *allowed: str) -> str:
        """Take the next word, which must be one of those allowed."""
        shown = " or ".join(f"'{word}'" for word in allowed)
        token = self.next(shown)
        if token.quoted or token.text not in allowed:
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {shown}.")
        return token.text

    def name(self, kind: str, known: Sequence[str]) -> str:
        """Take the name of an optimizer or a metric; an empty `known` allows every name."""
        token = self.next(f"the name of {kind}")
        if not token.quoted and token.text in (">", "~", '"', "'"):
            raise _ClaimError(f"column {token.column}: '{token.text}', expected {kind}'s name.")
        if known and token.text not in known:
            is_not = f"'{token.text}' is not {kind} of this study"
            raise _ClaimError(f"column {token.column}: {is_not}. {suggest(token.text, known)}")
        return token.text

    def amount(self, metric: str, percent: bool) -> Amount:
        """Take everything that is left, which must be an amount; a `percent` metric has points."""
        column = self.tokens[0].column if self.tokens else len(self.text.rstrip()) + 1
        given = " ".join(token.text for token in self.tokens)
        self.tokens = []
        found = _AMOUNT.fullmatch(given)
        if not found or not float(found[1]) > 0:
            accepted = "an amount above 0, as 0.01, 0.5 points or 0.5%"
            raise _ClaimError(f"column {column}: '{given}', expected {accepted}.")
        value, unit = float(found[1]), (found[2] or "").lower()
        if unit.startswith("point") and not percent:
            way_out = "write a number in its unit, or a share, as 5%"
            raise _ClaimError(f"column {column}: '{metric}' has no points; {way_out}.")
        return Amount(value / 100 if unit else value, unit == "%" and not percent)


CATALOGUE = Directions()
"""Directions of a study without user-defined metrics."""


def parse_claim(
    text: str,
    optimizers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    directions: Directions = CATALOGUE,
) -> Claim:
    """Read one claim.

    Args:
        text: as in the module's description.
        optimizers: the names that exist; none allows every name.
        metrics: likewise.
        directions: of the metrics.

    Raises:
        StudyError: with the one thing that is wrong, its column and what is allowed there.
    """
    try:
        return _claim(str(text), optimizers, metrics, directions)
    except _ClaimError as error:
        raise StudyError([Problem(f'claim "{text}"', str(error))]) from error


def parse_claims(
    texts: Sequence[str],
    optimizers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    directions: Directions = CATALOGUE,
) -> tuple[list[Claim], list[Problem]]:
    """Read the claims of a study; return those that are valid and one problem for each other."""
    claims, problems = [], []
    for index, text in enumerate(texts):
        try:
            claims.append(_claim(str(text), optimizers, metrics, directions))
        except _ClaimError as error:
            problems.append(Problem(f"claims[{index}]", f'"{text}": {error}'))
    return claims, problems


def _claim(
    text: str, optimizers: Sequence[str], metrics: Sequence[str], directions: Directions
) -> Claim:
    reader, second, amount = _Reader(text), "", Amount(0.0)
    first = reader.name("an optimizer", optimizers)
    relation = reader.word(">", "~", "is")
    if relation == "is":
        reader.word("best")
    else:
        second = reader.name("an optimizer", optimizers)
        if second == first:
            raise _ClaimError(f"compares '{first}' with itself; name two optimizers.")
    reader.word("on")
    metric = reader.name("a metric", metrics)
    better, percent = directions.better(metric), directions.percent(metric)
    if relation == "~":
        reader.word("within")
        amount = reader.amount(metric, percent)
    elif reader.tokens and relation == ">":
        reader.word("by")
        amount = reader.amount(metric, percent)
    if reader.tokens:
        extra = reader.tokens[0]
        raise _ClaimError(f"column {extra.column}: '{extra.text}', expected the end.")
    kind = ClaimKind.BEST if relation == "is" else ClaimKind(relation)
    if better is None and kind is not ClaimKind.EQUIVALENT:
        way_out = "declare it under problem.metrics: {name: module:function, better: lower}"
        raise _ClaimError(f"{undeclared(metric)}; {way_out}, or higher.")
    return Claim(text, kind, first, second, metric, amount, better, percent)


def claims_hash(claims: Iterable[str]) -> str:
    """Return twelve hexadecimal digits that change with any claim, not with spaces within one."""
    text = "\n".join(" ".join(str(claim).split()) for claim in claims)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class ClaimVerdict(StrEnum):
    """What the runs say of a claim."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class ClaimResult:
    """A claim and what came of it.

    Attributes:
        claim: the claim.
        verdict: at level alpha of all claims together.
        sentence: the verdict with its numbers, without a full stop.
        p_value: of the claim alone, in the direction in which it was decided.
        adjusted_p_value: after Holm's correction over all claims.
        comparisons: the pairs behind it, uncorrected: one, or for "is best" one for each rival.
    """

    claim: Claim
    verdict: ClaimVerdict
    sentence: str
    p_value: float
    adjusted_p_value: float
    comparisons: tuple[Comparison, ...]

    @property
    def numbers(self) -> dict[str, float | int | None]:
        """The evidence as data; None for what is not known. Differences are first minus second."""
        found: dict[str, float | int | None] = {
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
        }
        if len(self.comparisons) == 1:
            (pair,) = self.comparisons
            interval = pair.difference
            found |= {"pairs": pair.pairs, "difference": _finite(interval.estimate)}
            found |= {"low": _finite(interval.low), "high": _finite(interval.high)}
        return found


class _Evidence(NamedTuple):
    support: float  # p-value of the claim; 1 where the seeds point the other way
    refutation: float  # p-value of its opposite
    comparisons: tuple[Comparison, ...]


def evaluate_claims(
    claims: Sequence[Claim],
    values: Mapping[str, Mapping[str, Values]],
    *,
    alpha: float = 0.05,
    seed: int = 0,
) -> list[ClaimResult]:
    """Decide every claim by paired sign-flip tests, with Holm's correction over all claims.

    "A > B by D" tests the differences less D. "A is best" is supported where A is better than every
    rival, so that its p-value is the largest of theirs (an intersection-union test, Berger 1982),
    and refuted where any rival is better, by Bonferroni. "A ~ B within D" takes two one-sided
    tests (Schuirmann 1987).

    Args:
        claims: what to decide.
        values: metric -> optimizer -> seed -> value; one that is not finite marks a run that
            diverged, which is worse than every other, None a run without a value.
        alpha: chance of any false decision among all claims.
        seed: of the resamples; see `compare_all`.
    """
    deciders = {
        ClaimKind.BETTER: _better,
        ClaimKind.BEST: _best,
        ClaimKind.EQUIVALENT: _equivalent,
    }
    evidence = [deciders[claim.kind](claim, values.get(claim.metric, {}), seed) for claim in claims]
    adjusted = holm([min(found.support, found.refutation) for found in evidence])
    return [
        _result(claim, found, float(p_value), len(claims), alpha)
        for claim, found, p_value in zip(claims, evidence, adjusted, strict=True)
    ]


def _result(
    claim: Claim, found: _Evidence, adjusted: float, family: int, alpha: float
) -> ClaimResult:
    verdict = ClaimVerdict.UNDECIDED
    if adjusted <= alpha:
        supported = found.support <= found.refutation
        verdict = ClaimVerdict.SUPPORTED if supported else ClaimVerdict.REFUTED
    said = _said(claim, found, adjusted, family)
    missing = dict.fromkeys(note for pair in found.comparisons for note in without_value(pair))
    said = "; ".join([said, *(note for note in missing if note not in said)])
    return ClaimResult(
        claim,
        verdict,
        f'"{claim.text}" is {verdict}: {said}',
        min(found.support, found.refutation),
        adjusted,
        found.comparisons,
    )


def _compared(
    claim: Claim,
    names: tuple[str, str],
    values: Mapping[str, Values],
    seed: int,
    ahead_by: float = 0.0,
) -> Comparison:
    """Compare two optimizers after taking `ahead_by` off the improvement of the first."""
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


def _said(claim: Claim, found: _Evidence, adjusted: float, family: int) -> str:
    """Say what was measured, in words that fit behind the verdict."""
    if not found.comparisons:
        return f"{claim.first} has no rival with a result on {claim.metric}"
    if claim.kind == ClaimKind.BEST:
        return _standing(claim, found, adjusted)
    (pair,) = found.comparisons
    if claim.kind == ClaimKind.BETTER and not claim.amount.value:
        return sentence(replace(pair, adjusted_p_value=adjusted, comparisons=family))
    return f"{_difference(pair)}, p = {adjusted:.2g}{' after Holm' if family > 1 else ''}"


def _difference(pair: Comparison) -> str:
    """The difference of a pair, its interval and the number of seeds."""
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


_STANDINGS = ("ahead of", "behind", "not told apart from", "not compared, as runs diverged, with")


def _standing(claim: Claim, found: _Evidence, adjusted: float) -> str:
    """Say whom an optimizer beats, who beats it, and who cannot be told apart from it."""
    groups: dict[str, list[str]] = {kind: [] for kind in _STANDINGS}
    for pair in found.comparisons:
        ahead, behind = _directions(pair)
        kind = "ahead of" if ahead <= pair.alpha else "behind" if behind <= pair.alpha else ""
        undecided = "not told apart from"
        if pair.verdict == Verdict.UNDECIDED_DIVERGED:
            undecided = "not compared, as runs diverged, with"
        groups[kind or undecided].append(pair.second)
    parts = [f"{kind} {', '.join(names)}" for kind, names in groups.items() if names]
    fewest = min(pair.pairs for pair in found.comparisons)
    seeds = f"{fewest} paired seed{'s' * (fewest != 1)}"
    lost = {
        name: f"; {count} of {pair.pairs} runs of {name} diverged"
        for pair in found.comparisons
        for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
        if count
    }
    standing = f"{claim.first} is {'; '.join(parts)} on {claim.metric}"
    return f"{standing} ({seeds}, p = {adjusted:.2g}){''.join(lost.values())}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
