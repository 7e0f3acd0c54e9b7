"""Verdicts on claims: paired tests, corrected for all claims of a study, and their sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    sentence,
    target_sentence,
    without_value,
)
from optrial.analysis.statistics.wording import difference_text, p_text, seeds_text
from optrial.analysis.targets import Target, Unit
from optrial.errors import counted, quoted
from optrial.spec import metric_title

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
        adjusted_p_value: multiplied by the number of all claims (Bonferroni), at most 1.
        alpha: chance of any false decision among all claims.
        comparisons: the pairs behind it, corrected for the number of claims: one, or for "is best"
            one per rival; none for a target.
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
            numbers["level"] = interval.level
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
    inner: Comparison | None = None  # the pair at the level of two one-sided tests


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
    """Decide claims, each on one problem, at `alpha` divided by their number.

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
    family = _Family(len(cases), alpha, seed)
    return [_result(case, _evidence(case, family), family) for case in cases]


class _Family(NamedTuple):
    """Number of claims, chance of any false decision among them, and seed of the resamples."""

    claims: int
    alpha: float
    seed: int


def _evidence(case: ClaimCase, family: _Family) -> _Evidence:
    claim = case.claim
    values = case.values.get(claim.metric, {})
    match claim.kind:
        case ClaimKind.BETTER:
            return _better(claim, values, family)
        case ClaimKind.BEST:
            return _best(claim, values, family)
        case ClaimKind.EQUIVALENT:
            return _equivalent(claim, values, family)
        case ClaimKind.REACHES:
            assert claim.target is not None  # as every claim of this kind has
            return _sooner(claim, case.arrivals.get((claim.target, claim.unit), {}), family)


def _result(case: ClaimCase, evidence: _Evidence, family: _Family) -> ClaimResult:
    claim = case.claim
    p_value = min(evidence.support, evidence.refutation)
    adjusted = min(1.0, family.claims * p_value)
    verdict = ClaimVerdict.UNDECIDED
    if adjusted <= family.alpha:
        supported = evidence.support <= evidence.refutation
        verdict = ClaimVerdict.SUPPORTED if supported else ClaimVerdict.REFUTED
    if verdict is ClaimVerdict.SUPPORTED and evidence.inner:
        evidence = evidence._replace(comparisons=(evidence.inner,))
    text = _explanation(claim, evidence, adjusted, family.claims)
    missing = dict.fromkeys(note for pair in evidence.comparisons for note in without_value(pair))
    text = "; ".join([text, *(note for note in missing if note not in text)])
    return ClaimResult(
        claim,
        verdict,
        f"{_stated(case)} is {verdict}: {text}",
        p_value,
        adjusted,
        family.alpha,
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
    family: _Family,
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
        alpha=family.alpha,
        comparisons=max(1, family.claims),
        seed=family.seed,
    )


def _directions(comparison: Comparison) -> tuple[float, float]:
    """Return the p-values that the first is ahead and that it is behind, each two-sided."""
    ahead = comparison.wins - comparison.losses
    if comparison.statistic != Statistic.SIGN:
        ahead = int(np.sign(comparison.improvements.sum()))
    return (
        comparison.p_value if ahead > 0 else 1.0,
        comparison.p_value if ahead < 0 else 1.0,
    )


def _better(claim: Claim, values: Mapping[str, Values], family: _Family) -> _Evidence:
    names = (claim.first, claim.second)
    plain = _compared(claim, names, values, family)
    least = claim.amount.of(values.get(claim.second, {}))
    if math.isnan(least):
        return _Evidence(1.0, 1.0, (plain,))
    tested = _compared(claim, names, values, family, least) if least else plain
    return _Evidence(*_directions(tested), (plain,))


def _best(claim: Claim, values: Mapping[str, Values], family: _Family) -> _Evidence:
    pairs = tuple(
        _compared(claim, (claim.first, rival), values, family)
        for rival in values
        if rival != claim.first
    )
    if not pairs or claim.first not in values:
        return _Evidence(1.0, 1.0, pairs)
    ahead, behind = zip(*map(_directions, pairs), strict=True)
    return _Evidence(max(ahead), min(1.0, len(pairs) * min(behind)), pairs)


def _equivalent(claim: Claim, values: Mapping[str, Values], family: _Family) -> _Evidence:
    names = (claim.first, claim.second)
    plain = _compared(claim, names, values, family)
    margin = claim.amount.of(values.get(claim.second, {}))
    if math.isnan(margin) or not plain.pairs:
        return _Evidence(1.0, 1.0, (plain,))
    inside, outside = [], []
    for order in (names, names[::-1]):  # neither is behind the other by more than the margin
        within, beyond = _directions(_compared(claim, order, values, family, -margin))
        inside.append(within / 2 if within < 1 else 1.0)  # one-sided: the test is symmetric
        outside.append(beyond)
    twice = family._replace(alpha=2 * family.alpha)
    inner = _compared(claim, names, values, twice)
    return _Evidence(max(inside), min(outside), (plain,), inner=inner)


def _sooner(claim: Claim, arrivals: Arrivals, family: _Family) -> _Evidence:
    pair = compare_arrivals(
        arrivals.get(claim.first, {}),
        arrivals.get(claim.second, {}),
        target=str(claim.target),
        unit=claim.unit,
        names=(claim.first, claim.second),
        alpha=family.alpha,
        comparisons=max(1, family.claims),
    )
    ahead = pair.wins - pair.losses
    return _Evidence(
        pair.p_value if ahead > 0 else 1.0, pair.p_value if ahead < 0 else 1.0, (), pair
    )


def _explanation(claim: Claim, evidence: _Evidence, adjusted: float, claims: int) -> str:
    """Return the measured numbers in words that follow the verdict."""
    if evidence.arrivals:
        return target_sentence(evidence.arrivals)
    if not evidence.comparisons:
        return f"{claim.first} has no rival with a result on {metric_title(claim.metric)}"
    if claim.kind == ClaimKind.BEST:
        return f"{_standing(claim, evidence)} ({_basis(evidence, adjusted, claims)})"
    (only,) = evidence.comparisons
    plain = claim.kind == ClaimKind.BETTER and not claim.amount.value
    if plain or only.verdict == Verdict.UNDECIDED_DIVERGED:
        return sentence(only)
    return _difference(only, _basis(evidence, adjusted, claims))


def _basis(evidence: _Evidence, adjusted: float, claims: int) -> str:
    """Return the p-value of a claim, its correction and the number of seeds."""
    correction = f", adjusted for {claims} claims" if claims > 1 else ""
    fewest = min(pair.pairs for pair in evidence.comparisons)
    lost = {
        f"{count} of {counted(pair.pairs, 'run')} of {name} diverged": None
        for pair in evidence.comparisons
        for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
        if count
    }
    pairs = seeds_text(fewest, evidence.comparisons[0].unit)
    return "; ".join([f"{p_text(adjusted)}{correction}", pairs, *lost])


def _difference(pair: Comparison, basis: str) -> str:
    """Return the difference of a pair, its interval and the number of seeds."""
    if not pair.pairs:
        return f"{pair.first} and {pair.second} have no {pair.unit} in common"
    if pair.statistic == Statistic.SIGN:
        won = f"{pair.first} won {pair.wins} and lost {pair.losses} seeds"
        return f"{won}; runs that diverged count as lost ({basis})"
    amount, interval = difference_text(pair)
    between = f"{pair.first} - {pair.second} on {metric_title(pair.metric)}"
    return f"{between} is {amount} ({interval}, {basis})"


_NOT_COMPARED = "not compared, as runs diverged, with"
_STANDINGS = ("ahead of", "behind", "undecided against", _NOT_COMPARED)


def _standing(claim: Claim, evidence: _Evidence) -> str:
    """Name the rivals that an optimizer is ahead of, behind, and undecided against."""
    groups: dict[str, list[str]] = {standing: [] for standing in _STANDINGS}
    for pair in evidence.comparisons:
        groups[_standing_of(pair, len(evidence.comparisons))].append(pair.second)
    parts = [f"{standing} {', '.join(names)}" for standing, names in groups.items() if names]
    return f"{claim.first} is {'; '.join(parts)} on {metric_title(claim.metric)}"


def _standing_of(pair: Comparison, rivals: int) -> str:
    ahead, behind = _directions(pair)
    if pair.comparisons * ahead <= pair.alpha:
        return "ahead of"
    if pair.comparisons * rivals * behind <= pair.alpha:
        return "behind"
    diverged = pair.verdict == Verdict.UNDECIDED_DIVERGED
    return _NOT_COMPARED if diverged else "undecided against"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
