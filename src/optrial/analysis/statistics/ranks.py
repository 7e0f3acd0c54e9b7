"""Ranks over several problems, whose values cannot be averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations as permutations_of

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import ArrayLike

from optrial.analysis.statistics.groups import tie_groups
from optrial.analysis.statistics.merit import Floats, merit

__all__ = [
    "Friedman",
    "RankComparison",
    "compare_ranks",
    "critical_difference",
    "friedman_test",
    "rank_stability",
    "ranks",
]

MOST_PERMUTATIONS = 50_000
"""Permutations up to which Friedman's test is exact."""
ROUNDING = 1e-9


def ranks(values: ArrayLike, *, higher_is_better: bool) -> Floats:
    """Return the rank of each value along the last axis, 1 for the best, ties averaged.

    A value that is not finite marks an optimizer that diverged and shares the last ranks.
    """
    merits = merit(values, higher_is_better=higher_is_better)
    return np.asarray(scipy.stats.rankdata(-merits, axis=-1), np.float64)


@dataclass(frozen=True)
class Friedman:
    """Friedman's test of equal average ranks.

    Attributes:
        statistic: Friedman's chi-square with k - 1 degrees of freedom.
        p_value: p-value of the chi-square, which is conservative for few problems.
        f_statistic: Iman and Davenport's F with k - 1 and (k - 1)(N - 1) degrees of freedom.
        f_p_value: p-value of F, the more accurate of the two for many problems.
        permutation_p_value: exact p-value over all permutations of the ranks within each problem,
            for up to `MOST_PERMUTATIONS`; beyond, that of F, but at least the smallest one that
            permutations allow.
    """

    statistic: float
    p_value: float
    f_statistic: float
    f_p_value: float
    permutation_p_value: float


def friedman_test(table: ArrayLike) -> Friedman:
    """Test whether k optimizers have the same average rank over N problems.

    chi2 = (k - 1) sum_j (R_j - N (k + 1) / 2)^2 / (sum_ij r_ij^2 - N k (k + 1)^2 / 4), which is
    corrected for ties; F = (N - 1) chi2 / (N (k - 1) - chi2). If all are tied, p = 1; if all
    problems agree without a tie, F is infinite. Its p-value is then 0 for any number of problems,
    where the permutation test, which gives all orders in each problem the same chance, knows that k
    optimizers are in the same order on N problems by chance with probability (k!)^(1 - N).

    Args:
        table: (N, k) ranks within each problem, N >= 2 and k >= 2.

    Source: Friedman 1937; Conover 1999 for ties; Iman & Davenport 1980, as in Demsar 2006.
    """
    table = np.asarray(table, np.float64)
    problems, count = _shape(table)
    centred = table - (count + 1) / 2
    spread = (centred**2).sum()
    if spread == 0:
        return Friedman(0.0, 1.0, 0.0, 1.0, 1.0)
    statistic = (count - 1) * (centred.sum(axis=0) ** 2).sum() / spread
    rest = problems * (count - 1) - statistic
    f_statistic = (problems - 1) * statistic / rest if rest > 1e-9 else math.inf
    freedom = count - 1
    f_p_value = float(scipy.stats.f.sf(f_statistic, freedom, freedom * (problems - 1)))
    permutations = math.factorial(count) ** (problems - 1)
    exact = permutations <= MOST_PERMUTATIONS
    return Friedman(
        float(statistic),
        float(scipy.special.chdtrc(freedom, statistic)),
        float(f_statistic),
        f_p_value,
        _permutation_p_value(centred) if exact else max(f_p_value, 1 / permutations),
    )


def _permutation_p_value(centred: Floats) -> float:
    """Return the share of permutations within problems with rank sums at least as far apart.

    The first problem keeps its order, because only the orders relative to it matter.
    """
    sums = centred[:1]
    for row in centred[1:]:
        orders = np.array(list(permutations_of(row.tolist())))
        sums = (sums[:, None] + orders).reshape(-1, centred.shape[1])
    spreads = (sums**2).sum(axis=1)
    observed = (centred.sum(axis=0) ** 2).sum()
    return float((spreads >= observed * (1 - ROUNDING)).mean())


def critical_difference(problems: int, optimizers: int, alpha: float = 0.05) -> float:
    """Return the difference of average ranks above which two differ by Nemenyi's test.

    q sqrt(k (k + 1) / (6 N)), with q the quantile of the studentised range of k groups and infinite
    degrees of freedom, divided by sqrt(2).

    Source: Nemenyi 1963, as in Demsar 2006.
    """
    quantile = scipy.stats.studentized_range.ppf(1 - alpha, optimizers, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(optimizers * (optimizers + 1) / (6 * problems)))


@dataclass(frozen=True)
class RankComparison:
    """Content of a critical-difference diagram.

    Attributes:
        order: names, best average rank first.
        average_ranks: in that order; 1 is the best.
        critical_difference: average ranks that differ by at most this are undecided.
        groups: maximal undecided groups, contiguous in the order.
        friedman: test of any difference at all; without one, the groups mean nothing.
        problems: number of problems.
    """

    order: tuple[str, ...]
    average_ranks: tuple[float, ...]
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    friedman: Friedman
    problems: int


def compare_ranks(
    values: ArrayLike, names: Sequence[str], *, higher_is_better: bool, alpha: float = 0.05
) -> RankComparison:
    """Compare k optimizers over N problems by Friedman's and Nemenyi's tests.

    Args:
        values: (N, k) values by problem and optimizer, usually means over seeds; one that is not
            finite marks an optimizer that diverged.
        names: (k,) of the optimizers.
        higher_is_better: of the metric.
        alpha: chance of any false finding among all pairs.

    Source: Demsar 2006.
    """
    table = ranks(values, higher_is_better=higher_is_better)
    problems, optimizers = _shape(table)
    averages = dict(zip(names, table.mean(axis=0).tolist(), strict=True))
    order = sorted(averages, key=averages.__getitem__)
    least = critical_difference(problems, optimizers, alpha)
    return RankComparison(
        order=tuple(order),
        average_ranks=tuple(averages[name] for name in order),
        critical_difference=least,
        groups=tie_groups(order, lambda one, other: averages[other] - averages[one] > least),
        friedman=friedman_test(table),
        problems=problems,
    )


def rank_stability(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    higher_is_better: bool,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
) -> tuple[float, ...]:
    """Return Kendall's tau-b between the ranks at fractions of the budget and the final ranks.

    1 means that the order was final by then, -1 that it was reversed. NaN before the first
    evaluation, or if all are tied.

    Args:
        steps: (n,) increasing steps of evaluation.
        values: (optimizers, n) curves; a value that is not finite marks one that diverged.
        higher_is_better: of the metric.
        shares: fractions of the last step; the latest evaluation up to there counts.

    Source: Kendall 1945.
    """
    at = np.asarray(steps, np.float64)
    table = ranks(np.asarray(values, np.float64).T, higher_is_better=higher_is_better)
    places = [int(np.searchsorted(at, share * at[-1], side="right")) - 1 for share in shares]
    return tuple(
        float(scipy.stats.kendalltau(table[place], table[-1]).statistic) if place >= 0 else math.nan
        for place in places
    )


def _shape(table: Floats) -> tuple[int, int]:
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"expected at least 2 problems x 2 optimizers, got shape {table.shape}")
    return table.shape[0], table.shape[1]
