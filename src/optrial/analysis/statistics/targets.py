"""Time to a target that some runs never reach: censored times, and a paired comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import ArrayLike, NDArray

from optrial.analysis.statistics.comparison import Verdict
from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.merit import Floats, merit
from optrial.analysis.statistics.paired import minimum_pairs, sign_test

__all__ = [
    "Arrival",
    "Survival",
    "TargetComparison",
    "compare_arrivals",
    "first_step_reaching",
    "kaplan_meier",
    "median_time",
]


def first_step_reaching(
    steps: ArrayLike, values: ArrayLike, target: float, *, higher_is_better: bool
) -> int | None:
    """Return the first step at which a curve is at least as good as a target, or None.

    Args:
        steps: (n,) increasing.
        values: (n,); one that is not finite reaches nothing.
        target: in the unit of the metric.
        higher_is_better: of the metric.
    """
    merits = merit(values, higher_is_better=higher_is_better)
    reached = np.flatnonzero(merits >= (target if higher_is_better else -target))
    return int(np.asarray(steps)[reached[0]]) if len(reached) else None


class Arrival(NamedTuple):
    """When one run reached a target, or how long it was observed without reaching it.

    Attributes:
        time: steps or seconds until the target, or until the end of a run that did not reach it
            (a censored time); infinite for a run that diverged first, which never will.
        reached: whether the run reached the target.
    """

    time: float
    reached: bool

    @property
    def diverged(self) -> bool:
        """True if the run diverged before it reached the target."""
        return math.isinf(self.time)


@dataclass(frozen=True, eq=False)
class Survival:
    """Share of runs that have not reached the target, by time.

    Attributes:
        times: (m,) distinct times at which a run reached the target, increasing.
        share: (m,) Kaplan-Meier estimate from that time on; 1 before the first.
        deviation: (m,) its standard error by Greenwood's formula.
        low: (m,) lower limit, point by point.
        high: (m,) upper limit.
        level: nominal coverage.
    """

    times: Floats
    share: Floats
    deviation: Floats
    low: Floats
    high: Floats
    level: float


def kaplan_meier(times: ArrayLike, reached: ArrayLike, *, level: float = 0.95) -> Survival:
    """Estimate the share of runs that need more than time t, from censored runs too.

    With d_i runs reaching the target at time t_i and n_i runs that had not before it,
    S(t) = prod (1 - d_i / n_i) over t_i <= t, and var S = S^2 sum d_i / (n_i (n_i - d_i)). The
    limits are those of log(-log S), which keeps them between 0 and 1.

    Args:
        times: (n,) time at which a run reached the target, or until which it did not; infinite for
            a run that diverged, which will not reach it however long others train.
        reached: (n,) bool.
        level: nominal coverage, point by point.

    Source: Kaplan & Meier 1958; Greenwood 1926; Kalbfleisch & Prentice 1980 for the limits.
    """
    observed, hit = np.asarray(times, np.float64), np.asarray(reached, bool)
    events, arrived = np.unique(observed[hit], return_counts=True)
    at_risk = len(observed) - np.searchsorted(np.sort(observed), events)
    left = at_risk - arrived
    share = np.asarray(np.cumprod(left / at_risk), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # no run is left after the last event
        error = np.sqrt(np.cumsum(arrived / (at_risk * left)))
        spread = scipy.special.ndtri((1 + level) / 2) * error / np.log(share)
        low, high = share ** np.exp(-spread), share ** np.exp(spread)
    over = left == 0
    low, high = (np.where(over, 0.0, limit) for limit in (low, high))
    deviation = np.where(over, 0.0, share * np.where(over, 0.0, error))
    return Survival(events, share, deviation, low, high, level)


def median_time(times: ArrayLike, reached: ArrayLike, *, level: float = 0.95) -> Interval:
    """Return the time by which half of the runs reach a target, by Kaplan-Meier.

    The estimate is the first time with S <= 1/2, infinite if fewer than half arrive. The interval
    holds the times at which the limits of S embrace 1/2; its upper end is infinite where these data
    cannot exclude that half never arrive. There is no interval for a single run, nor where no run
    arrives.

    Args:
        times: (n,) as in `kaplan_meier`.
        reached: (n,) bool.
        level: nominal coverage.

    Source: Brookmeyer & Crowley 1982, with the limits of log(-log S).
    """
    survival = kaplan_meier(times, reached, level=level)
    half = 0.5 + 1e-12  # a product of fractions misses 1/2 by rounding
    estimate, low, high = (
        _first(survival.times, below)
        for below in (survival.share <= half, survival.low <= half, survival.high < 0.5)
    )
    if np.size(times) < 2 or not len(survival.times):
        low = high = math.nan
    return Interval(estimate, low, high, level)


def _first(times: Floats, chosen: NDArray[np.bool_]) -> float:
    return float(times[np.argmax(chosen)]) if chosen.any() else math.inf


@dataclass(frozen=True, kw_only=True)
class TargetComparison:
    """Comparison of the times of two optimizers to a target over their common seeds.

    Attributes:
        first: name of one optimizer.
        second: name of the other.
        target: the target in words, such as "validation accuracy 0.95".
        unit: "steps" or "seconds".
        arrivals: of the two optimizers, by common seed.
        unpaired: number of seeds that only one of the two has; they are left out.
        difference: median of first minus second over the common seeds on which they differ, with
            the interval of the corrected test; see `differences`.
        p_value: of this comparison alone, two-sided.
        comparisons: size of the family, at least 1.
        alpha: chance of any false finding in the family.
    """

    first: str
    second: str
    target: str
    unit: str
    arrivals: tuple[tuple[Arrival, ...], tuple[Arrival, ...]]
    unpaired: int
    difference: Interval
    p_value: float
    comparisons: int
    alpha: float

    @property
    def adjusted_p_value(self) -> float:
        """P-value multiplied by the size of the family (Bonferroni), at most 1."""
        return min(1.0, self.comparisons * self.p_value)

    @property
    def pairs(self) -> int:
        """Number of common seeds."""
        return len(self.arrivals[0])

    @property
    def differences(self) -> tuple[float, ...]:
        """Time of the first minus that of the second for every common seed; see `_difference`."""
        return tuple(map(_difference, *self.arrivals))

    @property
    def wins(self) -> int:
        """Number of common seeds on which the first optimizer is there first."""
        return sum(difference < 0 for difference in self.differences)

    @property
    def losses(self) -> int:
        """Number of common seeds on which the second optimizer is there first."""
        return sum(difference > 0 for difference in self.differences)

    @property
    def reached(self) -> tuple[int, int]:
        """Number of common seeds on which each of the two reached the target."""
        return self._count(lambda arrival: arrival.reached)

    @property
    def diverged(self) -> tuple[int, int]:
        """Number of common seeds on which each of the two diverged before the target."""
        return self._count(lambda arrival: arrival.diverged)

    @property
    def medians(self) -> tuple[Interval, Interval]:
        """Kaplan-Meier medians of the two over the common seeds."""
        first, second = (
            median_time([a.time for a in arrivals], [a.reached for a in arrivals])
            for arrivals in self.arrivals
        )
        return first, second

    @property
    def all_diverged(self) -> tuple[str, ...]:
        """Optimizers of the pair whose runs on common seeds all diverged."""
        sides = zip((self.first, self.second), self.diverged, strict=True)
        return tuple(name for name, count in sides if self.pairs and count == self.pairs)

    @property
    def verdict(self) -> Verdict:
        """The outcome, at level `alpha` of the whole family."""
        if self.adjusted_p_value <= self.alpha:
            return Verdict.BETTER if self.wins > self.losses else Verdict.WORSE
        if self.all_diverged:
            return Verdict.UNDECIDED_DIVERGED
        enough = self.pairs >= minimum_pairs(self.alpha, self.comparisons)
        return Verdict.UNDECIDED if enough else Verdict.UNDECIDED_TOO_FEW

    def swapped(self) -> TargetComparison:
        """Return the same comparison with the two optimizers in the other order."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            arrivals=self.arrivals[::-1],
            difference=-self.difference,
        )

    def _count(self, counts: Callable[[Arrival], bool]) -> tuple[int, int]:
        first, second = (sum(map(counts, arrivals)) for arrivals in self.arrivals)
        return first, second


def compare_arrivals(
    first: Mapping[int, Arrival],
    second: Mapping[int, Arrival],
    *,
    target: str,
    unit: str = "steps",
    names: tuple[str, str] = ("first", "second"),
    alpha: float = 0.05,
    comparisons: int = 1,
) -> TargetComparison:
    """Compare the times of two optimizers to a target by a sign test over their common seeds.

    A seed counts for the optimizer that is there first, also where the other one was trained for as
    long and did not reach the target. It counts for neither where both arrive at the same time,
    where neither arrives, or where the one that does not arrive was observed for less time than the
    other one took. Exchanging the two optimizers on a seed changes its sign and nothing else, so
    that the test is exact for any distribution of times and any censoring that both share.

    A run that diverged never arrives. Where there is one, the test is made twice: over all common
    seeds, and over those on which neither diverged. As in `compare_all`, the larger p-value counts,
    and p = 1 where the two point in opposite directions: divergence alone decides nothing.

    Args:
        first: arrivals by seed.
        second: likewise.
        target: the target in words.
        unit: of the times, "steps" or "seconds".
        names: of the two optimizers.
        alpha: chance of any false finding in the family.
        comparisons: size of the family that this comparison belongs to.
    """
    seeds = sorted(first.keys() & second.keys())
    arrivals = tuple(first[s] for s in seeds), tuple(second[s] for s in seeds)
    differences = np.array(list(map(_difference, *arrivals)), np.float64)
    diverged = np.array([a.diverged or b.diverged for a, b in zip(*arrivals, strict=True)], bool)
    p_value, median, low, high = sign_test(differences, ~diverged, alpha / comparisons)
    return TargetComparison(
        first=names[0],
        second=names[1],
        target=target,
        unit=unit,
        arrivals=arrivals,
        unpaired=len(first.keys() ^ second.keys()),
        difference=Interval(median, low, high, 1 - alpha),
        p_value=p_value,
        comparisons=comparisons,
        alpha=alpha,
    )


def _difference(first: Arrival, second: Arrival) -> float:
    """Return first minus second; infinite if one never arrives in the time of the other.

    0 where neither arrives, or where it is not known which one is first.
    """
    if first.reached and second.reached:
        return first.time - second.time
    if first.reached and second.time >= first.time:
        return -math.inf
    if second.reached and first.time >= second.time:
        return math.inf
    return 0.0
