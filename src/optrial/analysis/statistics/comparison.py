"""Paired comparison of optimizers over common seeds, and groups that are undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.statistics.folds import FoldValues, corrected_t_tests
from optrial.analysis.statistics.groups import tie_groups
from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.merit import Floats, merit, worst
from optrial.analysis.statistics.paired import (
    minimum_pairs,
    probability_of_improvement,
    sign_flip_tests,
    sign_test,
)
from optrial.analysis.statistics.power import detectable_effect, seeds_needed

__all__ = [
    "Comparison",
    "Comparisons",
    "Statistic",
    "Values",
    "Verdict",
    "compare",
    "compare_all",
    "known_values",
]

Values = Mapping[int, float | None]
"""One metric of one optimizer by seed, or by fold of a cross-validation (`FoldValues`).

A value that is not finite marks a run that diverged; None marks a finished run without a finite
value of the metric, which cannot be compared.
"""


def known_values(values: Values) -> dict[int, float]:
    """Return the values that are not None."""
    return {seed: value for seed, value in values.items() if value is not None}


class Verdict(StrEnum):
    """Outcome of a comparison for its first optimizer."""

    BETTER = "better"
    """Better than the second; the chance of any such error in the family is at most alpha."""
    WORSE = "worse"
    """Worse than the second, at the same level."""
    UNDECIDED = "undecided"
    """No difference is shown, although these seeds could have shown one. Not equivalence, which is
    a claim with a margin."""
    UNDECIDED_TOO_FEW = "undecided, too few seeds"
    """There are too few common seeds for any result to be significant."""
    UNDECIDED_DIVERGED = "undecided, runs diverged"
    """Too many runs diverged for the others to decide."""


class Statistic(StrEnum):
    """Quantity that the sign-flip test is applied to."""

    MEAN = "mean"
    """The differences: the paired permutation test of their mean."""
    SIGN = "sign"
    """Signs of the differences, if runs diverged: two sign tests, and the median."""
    FOLDS = "folds"
    """Differences on folds: the corrected resampled t test of their mean."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two optimizers on one metric over their common seeds, or folds of a cross-validation.

    Attributes:
        first: name of one optimizer.
        second: name of the other.
        metric: name of the metric.
        higher_is_better: whether higher values of the metric are better.
        percent: whether the metric is a fraction, shown in percentage points.
        differences: first minus second for every common seed, in the order of the seeds; infinite
            if one of the two runs diverged, 0 if both did.
        unpaired: number of seeds that only one of the two has; they are left out.
        without_value: for each of the two, the number of finished runs without a value of the
            metric, which are left out, and the number of all runs.
        diverged: for each of the two, the number of common seeds on which it diverged.
        difference: mean of first minus second, or the median if `statistic` is SIGN, with the
            interval that inverts the corrected test: it excludes 0 if and only if a difference is
            shown. All intervals of the family hold together with its level.
        p_value: two-sided p-value of this comparison alone.
        comparisons: size of the family, at least 1.
        alpha: chance of any false finding in the family.
        test_ratio: evaluated samples per training sample of a fold; None for seeds. With it,
            "seeds" are folds in all other attributes.
    """

    first: str
    second: str
    metric: str
    higher_is_better: bool
    percent: bool = False
    differences: tuple[float, ...]
    unpaired: int
    without_value: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    diverged: tuple[int, int]
    difference: Interval
    p_value: float
    comparisons: int
    alpha: float
    test_ratio: float | None = None

    @property
    def unit(self) -> str:
        """The word for what is paired: "seed" or "fold"."""
        return "seed" if self.test_ratio is None else "fold"

    @property
    def fewest_pairs(self) -> int:
        """Smallest number of pairs with which a difference can be shown."""
        if self.test_ratio is not None:
            return 2
        return minimum_pairs(self.alpha, self.comparisons)

    @property
    def adjusted_p_value(self) -> float:
        """P-value multiplied by the size of the family (Bonferroni), at most 1."""
        return min(1.0, self.comparisons * self.p_value)

    @property
    def pairs(self) -> int:
        """Number of common seeds."""
        return len(self.differences)

    @property
    def statistic(self) -> Statistic:
        """The tested quantity: signs if a run on a common seed diverged."""
        if any(self.diverged):
            return Statistic.SIGN
        return Statistic.MEAN if self.test_ratio is None else Statistic.FOLDS

    @property
    def improvements(self) -> Floats:
        """(pairs,) improvement of the first over the second for each seed."""
        return np.array(self.differences) * (1 if self.higher_is_better else -1)

    @property
    def wins(self) -> int:
        """Number of common seeds on which the first is better."""
        return int((self.improvements > 0).sum())

    @property
    def losses(self) -> int:
        """Number of common seeds on which the second is better."""
        return int((self.improvements < 0).sum())

    @property
    def finished(self) -> int:
        """Number of common seeds on which both finished."""
        one_only = int(np.isinf(self.differences).sum())
        return self.pairs - one_only - (sum(self.diverged) - one_only) // 2

    @property
    def finished_wins(self) -> int:
        """Number of common seeds on which both finished and the first is better."""
        return int((np.isfinite(self.improvements) & (self.improvements > 0)).sum())

    @property
    def finished_losses(self) -> int:
        """Number of common seeds on which both finished and the second is better."""
        return int((np.isfinite(self.improvements) & (self.improvements < 0)).sum())

    @property
    def interval(self) -> tuple[float, float, float]:
        """Estimate, low and high end of the difference; NaN if all runs of a side diverged."""
        if self.all_diverged:
            return math.nan, math.nan, math.nan
        return self.difference.estimate, self.difference.low, self.difference.high

    @property
    def all_diverged(self) -> tuple[str, ...]:
        """Optimizers of the pair whose runs on common seeds all diverged."""
        sides = zip((self.first, self.second), self.diverged, strict=True)
        return tuple(name for name, count in sides if self.pairs and count == self.pairs)

    @property
    def probability(self) -> float:
        """P(first better than second) on a common seed, ties counted as half."""
        return probability_of_improvement(self.improvements)

    @property
    def verdict(self) -> Verdict:
        """The outcome at level `alpha` of the whole family."""
        if self.adjusted_p_value <= self.alpha:
            by_sign = self.wins > self.losses
            by_mean = (self.difference.estimate > 0) == self.higher_is_better
            ahead = by_sign if self.statistic == Statistic.SIGN else by_mean
            return Verdict.BETTER if ahead else Verdict.WORSE
        fewest = self.fewest_pairs
        if self.test_ratio is not None and any(self.diverged):
            return Verdict.UNDECIDED_DIVERGED
        if self.all_diverged or self.finished < fewest <= self.pairs:
            return Verdict.UNDECIDED_DIVERGED
        return Verdict.UNDECIDED if self.pairs >= fewest else Verdict.UNDECIDED_TOO_FEW

    def swapped(self) -> Comparison:
        """Return the same comparison with the two optimizers in the other order."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            differences=tuple(-value for value in self.differences),
            diverged=self.diverged[::-1],
            without_value=self.without_value[::-1],
            difference=-self.difference,
        )

    def seeds_needed(self, effect: float, power: float = 0.8) -> int | None:
        """Return about how many common seeds in all detect a difference; None if unknown.

        Folds have none: more of them share more training samples.
        """
        if self.statistic != Statistic.MEAN or self.pairs < 2:
            return None
        return seeds_needed(
            self.differences, effect, power=power, alpha=self.alpha, comparisons=self.comparisons
        )

    def detectable_effect(self, power: float = 0.8) -> float | None:
        """Return the smallest difference that these seeds can detect; None if unknown."""
        if self.statistic != Statistic.MEAN or self.pairs < 2:
            return None
        return detectable_effect(
            self.differences, power=power, alpha=self.alpha, comparisons=self.comparisons
        )


@dataclass(frozen=True)
class Comparisons:
    """All pairs of optimizers on one metric, as one family.

    Attributes:
        order: optimizers, best mean first; those with runs that diverged follow, fewest first,
            unless they beat others nevertheless.
        pairs: every two optimizers, in the order of the input.
        groups: maximal groups whose members are not shown to differ from the best one. The first is
            that of the best optimizer and may hold several or all of them. An optimizer without a
            finite value is in none.
        diverged: for each optimizer with runs that diverged, their number and that of all runs.
        values: the metric by optimizer and seed, without missing values.
    """

    order: tuple[str, ...]
    pairs: tuple[Comparison, ...]
    groups: tuple[tuple[str, ...], ...]
    diverged: Mapping[str, tuple[int, int]]
    values: Mapping[str, Mapping[int, float]] = field(repr=False)

    def finished(self, name: str) -> Floats:
        """Return the finite values of an optimizer over its seeds."""
        return np.array([value for value in self.values[name].values() if math.isfinite(value)])

    @property
    def all_diverged(self) -> tuple[str, ...]:
        """Optimizers whose runs all diverged."""
        return tuple(name for name, (lost, runs) in self.diverged.items() if lost == runs)

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Optimizers without a finite value."""
        compared = {name for group in self.groups for name in group}
        return tuple(name for name in self.order if name not in compared)


def compare(
    first: Values,
    second: Values,
    *,
    metric: str,
    higher_is_better: bool,
    percent: bool = False,
    names: tuple[str, str] = ("first", "second"),
    alpha: float = 0.05,
    comparisons: int = 1,
    seed: int = 0,
) -> Comparison:
    """Compare two optimizers; see `compare_all`.

    Args:
        first: the metric by seed.
        second: the same of the other optimizer.
        metric: name of the metric.
        higher_is_better: whether higher values of the metric are better.
        percent: whether the metric is a fraction, shown in percentage points.
        names: names of the two.
        alpha: chance of any false finding in the family.
        comparisons: size of the family that this comparison belongs to.
        seed: see `compare_all`.

    Raises:
        ValueError: both names are the same.
    """
    if names[0] == names[1]:
        raise ValueError(f"two optimizers are compared, got '{names[0]}' twice")
    values = dict(zip(names, (first, second), strict=True))
    about = _About(metric, higher_is_better, percent, alpha)
    return _compared([names], values, about, comparisons, seed)[0]


def compare_all(
    values: Mapping[str, Values],
    *,
    metric: str,
    higher_is_better: bool,
    percent: bool = False,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparisons:
    """Compare every two optimizers on their common seeds, corrected for the number of pairs.

    Every pair is tested at `alpha` divided by the number of pairs (Bonferroni), and its interval
    holds the differences that this test does not reject (`paired.sign_flip_tests`). The chance of
    any false finding is at most `alpha`, and all intervals together hold the true differences with
    a chance of at least 1 - `alpha`. Holm's stepwise test finds a few more differences, but no
    intervals fit it that say how large these are (Guilbaud 2008; Strassburger & Bretz 2008).

    A run that diverged is worse than every run that did not, and ties with another one that
    diverged. It has no finite difference, so a pair with such a run is tested by the signs of the
    differences instead of their mean, twice: over all common seeds, and over those on which both
    finished (`paired.sign_test`). Thus no optimizer is better because the other one diverged, and
    none is better because its own failures are ignored.

    An optimizer whose runs all diverged cannot be compared: its pairs have p = 1 and do not count
    in the family. The others remain a valid family: exchanging two optimizers on seeds never makes
    one of them diverge everywhere if both finished on a common seed, and without such a seed p is 1
    as well.

    Values by fold (`FoldValues`) are tested by the corrected resampled t test, because folds share
    training samples (`folds.corrected_t_tests`); a pair with a run that diverged is not tested.

    Random numbers depend only on `seed` and the number of common seeds, so that two optimizers have
    the same p-value alone, in any family and in any order.

    Args:
        values: the metric by optimizer and seed; see `Values`. A finished run without a value is
            left out and counted; a run that failed for another reason is not in the mapping, and
            its seed counts as unpaired.
        metric: name of the metric.
        higher_is_better: whether higher values of the metric are better.
        percent: whether the metric is a fraction, shown in percentage points.
        alpha: chance of any false finding among all pairs.
        seed: seed of the sign vectors above `paired.EXACT_UP_TO` pairs.
    """
    known = {name: known_values(by_seed) for name, by_seed in values.items()}
    lost = {name for name in values if not _finishes(known[name])}
    size = max(1, math.comb(len(values) - len(lost), 2))
    about = _About(metric, higher_is_better, percent, alpha)
    pairs = _compared(list(combinations(values, 2)), values, about, size, seed)
    beats = {(c.first, c.second) for c in pairs if c.verdict == Verdict.BETTER}
    beats |= {(c.second, c.first) for c in pairs if c.verdict == Verdict.WORSE}
    order = _order(known, beats, higher_is_better)
    diverged = {name: count for name in order if (count := _diverged(values[name]))[0]}
    finished = [name for name in order if name not in lost]
    groups = tie_groups(finished, lambda one, other: bool({(one, other), (other, one)} & beats))
    return Comparisons(order, tuple(pairs), groups, diverged, known)


class _About(NamedTuple):
    """The metric and the level of a family; see `Comparison`."""

    metric: str
    higher_is_better: bool
    percent: bool
    alpha: float


def _compared(
    names: Sequence[tuple[str, str]],
    values: Mapping[str, Values],
    about: _About,
    comparisons: int,
    seed: int,
) -> list[Comparison]:
    """Compare pairs, each at the level of a family of `comparisons`."""
    known = {name: known_values(by_seed) for name, by_seed in values.items()}
    without = {name: (len(runs) - len(known[name]), len(runs)) for name, runs in values.items()}
    ratios = {
        name: by_fold.test_ratio
        for name, by_fold in values.items()
        if isinstance(by_fold, FoldValues)
    }
    pairings = [
        _pairing(known[one], known[other], about.higher_is_better)._replace(
            test_ratio=max(ratios.get(one, 0.0), ratios.get(other, 0.0)) if ratios else None
        )
        for one, other in names
    ]
    estimates = _estimates(pairings, seed, about.alpha, comparisons)
    return [
        Comparison(
            first=first,
            second=second,
            **about._asdict(),
            differences=tuple(pairing.differences.tolist()),
            unpaired=pairing.unpaired,
            without_value=(without[first], without[second]),
            diverged=(int(pairing.lost[0].sum()), int(pairing.lost[1].sum())),
            difference=difference,
            p_value=p_value,
            comparisons=comparisons,
            test_ratio=pairing.test_ratio,
        )
        for (first, second), pairing, (difference, p_value) in zip(
            names, pairings, estimates, strict=True
        )
    ]


def _finishes(values: Mapping[int, float]) -> bool:
    """Return whether any run has a finite value."""
    return any(map(math.isfinite, values.values()))


def _diverged(values: Values) -> tuple[int, int]:
    """Return the number of runs that diverged, and that of all runs."""
    lost = [value for value in known_values(values).values() if not math.isfinite(value)]
    return len(lost), len(values)


class _Pairing(NamedTuple):
    """Two optimizers over their common seeds.

    Attributes:
        differences: (n,) see `Comparison`.
        lost: (2, n) which runs diverged.
        unpaired: number of seeds that only one of the two has.
        test_ratio: see `Comparison`.
    """

    differences: Floats
    lost: NDArray[np.bool_]
    unpaired: int
    test_ratio: float | None = None


def _pairing(
    first: Mapping[int, float], second: Mapping[int, float], higher_is_better: bool
) -> _Pairing:
    seeds = sorted(first.keys() & second.keys())
    common = np.array([[runs[seed] for seed in seeds] for runs in (first, second)], np.float64)
    finite = np.isfinite(common)
    one, other = np.where(finite, common, worst(higher_is_better))
    with np.errstate(invalid="ignore"):  # where both diverged, inf - inf is a tie
        differences = np.where(finite.any(axis=0), one - other, 0.0)
    return _Pairing(differences, ~finite, len(first.keys() ^ second.keys()))


def _estimates(
    pairings: Sequence[_Pairing], seed: int, alpha: float, comparisons: int
) -> list[tuple[Interval, float]]:
    """Return the difference with its interval, and the p-value, of every pairing.

    Pairings with equally many seeds share their sign vectors, whose drawing takes most of the time.
    """
    estimates: dict[int, tuple[Interval, float]] = {}
    same: dict[int, list[int]] = {}
    for place, pairing in enumerate(pairings):
        if pairing.test_ratio is not None:
            estimates[place] = _over_folds(pairing, alpha, comparisons)
        elif pairing.lost.any():
            compared = np.logical_not(pairing.lost.any(axis=0))
            p_value, middle, low, high = sign_test(
                pairing.differences, compared, alpha / comparisons
            )
            estimates[place] = Interval(middle, low, high, 1 - alpha), p_value
        else:
            same.setdefault(len(pairing.differences), []).append(place)
    for count, places in same.items():
        rows = np.stack([pairings[place].differences for place in places])
        generator = np.random.default_rng([seed, count])
        tests = sign_flip_tests(rows, generator, alpha=alpha / comparisons)
        means = rows.mean(axis=1) if count else np.full(len(rows), np.nan)
        for place, mean, p_value, *limits in zip(places, means, *tests, strict=True):
            low, high = (math.nan if math.isnan(limit) else float(limit) for limit in limits)
            estimates[place] = Interval(float(mean), low, high, 1 - alpha), float(p_value)
    return [estimates[place] for place in range(len(pairings))]


def _over_folds(pairing: _Pairing, alpha: float, comparisons: int) -> tuple[Interval, float]:
    """Return the mean difference on folds with its interval, and the p-value."""
    differences, ratio = pairing.differences, pairing.test_ratio
    assert ratio is not None
    if pairing.lost.any() or not len(differences):
        middle = float(np.median(differences)) if len(differences) else math.nan
        return Interval(middle, math.nan, math.nan, 1 - alpha), 1.0
    tests = corrected_t_tests(differences[None], ratio, alpha / comparisons)
    low, high = float(tests.low[0]), float(tests.high[0])
    if math.isnan(low):
        low = high = math.nan
    return Interval(float(differences.mean()), low, high, 1 - alpha), float(tests.p_values[0])


def _order(
    values: Mapping[str, Mapping[int, float]], beats: Set[tuple[str, str]], higher_is_better: bool
) -> tuple[str, ...]:
    """Order by merit, but never a beaten optimizer before the one that beats it."""

    def standing(name: str) -> tuple[float, float, float]:
        merits = merit(list(values[name].values()), higher_is_better=higher_is_better)
        merits = merits if len(merits) else np.array([-np.inf])
        finished = np.isfinite(merits).mean()
        return float(merits.mean()), float(finished), float(np.median(merits))

    remaining, order = sorted(values, key=standing, reverse=True), []
    while remaining:
        unbeaten = (
            name for name in remaining if not any((other, name) in beats for other in remaining)
        )
        order.append(next(unbeaten, remaining[0]))
        remaining.remove(order[-1])
    return tuple(order)
