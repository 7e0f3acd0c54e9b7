"""Verdicts on claims: paired tests, corrected for all claims of a study, and their sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from optrial.analysis.claims.language import Claim, ClaimKind
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
    sentence,
    target_sentence,
    without_value,
)
from optrial.analysis.statistics.wording import number_text
from optrial.analysis.targets import Target, Unit
from optrial.errors import counted, quoted

__all__ = [
    "Arrivals",
    "ClaimCase",
    "ClaimResult",
    "ClaimVerdict",
    "evaluate_cases",
]


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


class ClaimCase(NamedTuple):
    """A claim and the values to decide it on one problem.

    Attributes:
        claim: the claim.
        values: metric -> optimizer -> seed -> final value; one that is not finite marks a run that
            diverged, which is worse than every other, None a run without a value.
        arrivals: times to each target, in each unit, that the claim names.
        problem: name of the problem; empty if the study has no other.
    """

    claim: Claim
    values: Mapping[str, Mapping[str, Values]]
    arrivals: Mapping[tuple[Target, Unit], Arrivals]
    problem: str = ""


def evaluate_cases(
    cases: Sequence[ClaimCase], *, alpha: float = 0.05, seed: int = 0
) -> list[ClaimResult]:
    """Decide claims, each on one problem, with Holm's correction over all of them.

    "A > B by D" tests the differences less D by paired sign-flip tests. "A is best" is supported
    where A is better than every rival, so that its p-value is the largest of theirs (an
    intersection-union test, Berger 1982), and refuted where any rival is better, by Bonferroni.
    "A ~ B within D" takes two one-sided tests (Schuirmann 1987). "A reaches ..." takes the sign
    test of `compare_arrivals`.

    Args:
        cases: the claims, each with the values to decide it.
        alpha: chance of any false decision among all claims.
        seed: seed of the resamples; see `compare_all`.
    """
    evidence = [_evidence(case.claim, case.values, case.arrivals, seed) for case in cases]
    adjusted = holm([min(one.support, one.refutation) for one in evidence])
    return [
        _result(case, one, float(p_value), len(cases), alpha)
        for case, one, p_value in zip(cases, evidence, adjusted, strict=True)
    ]


def _evidence(
    claim: Claim,
    values: Mapping[str, Mapping[str, Values]],
    arrivals: Mapping[tuple[Target, Unit], Arrivals],
    seed: int,
) -> _Evidence:
    measured = values.get(claim.metric, {})
    match claim.kind:
        case ClaimKind.BETTER:
            return _better(claim, measured, seed)
        case ClaimKind.BEST:
            return _best(claim, measured, seed)
        case ClaimKind.EQUIVALENT:
            return _equivalent(claim, measured, seed)
        case ClaimKind.REACHES:
            assert claim.target is not None  # as every claim of this kind has
            return _sooner(claim, arrivals.get((claim.target, claim.unit), {}), seed)


def _result(
    case: ClaimCase, evidence: _Evidence, adjusted: float, family: int, alpha: float
) -> ClaimResult:
    claim = case.claim
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
        f"{_stated(case)} is {verdict}: {text}",
        min(evidence.support, evidence.refutation),
        adjusted,
        alpha,
        evidence.comparisons,
        evidence.arrivals,
    )


def _stated(case: ClaimCase) -> str:
    """Return the claim in quotes, and the problem if the claim does not name it."""
    on = f" on {case.problem}" if case.problem and not case.claim.problem else ""
    return f"{quoted(case.claim.text)}{on}"


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
        name: f"; {count} of {counted(pair.pairs, 'run')} of {name} diverged"
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
