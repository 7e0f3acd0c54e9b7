"""Ranks over problems against SciPy, scikit-posthocs, autorank and published tables."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from autorank import autorank
from scipy import stats

from optrial.analysis.statistics import (
    compare_ranks,
    critical_difference,
    friedman_test,
    rank_stability,
    ranks,
)
from tests.tolerance import STATISTIC_FLOAT64, THREE_DECIMALS

NAMES = ["sgd", "momentum", "adam", "lion"]


def table(seed: int, problems: int = 12, ties: bool = False) -> np.ndarray:
    values = np.random.default_rng(seed).normal([0, 0.3, 1.2, 2.0], 1, size=(problems, 4))
    return values.round(0) if ties else values


def test_ranks_average_ties_and_put_divergence_last() -> None:
    values = [[0.9, 0.8, 0.9, math.nan], [0.5, math.inf, 0.7, math.nan]]
    expected = [[1.5, 3, 1.5, 4], [2, 3.5, 1, 3.5]]
    assert ranks(values, higher_is_better=True).tolist() == expected
    assert ranks([0.1, 0.3, math.nan], higher_is_better=False).tolist() == [1, 2, 3]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_friedman_is_that_of_scipy(seed: int, ties: bool) -> None:
    values = table(seed, ties=ties)
    ours = friedman_test(ranks(values, higher_is_better=True))
    theirs = stats.friedmanchisquare(*values.T)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=STATISTIC_FLOAT64)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=STATISTIC_FLOAT64)


def test_iman_davenport_is_the_analysis_of_variance_of_the_ranks() -> None:
    ranked = ranks(table(1), higher_is_better=True)
    problems, count = ranked.shape
    between = problems * ((ranked.mean(axis=0) - (count + 1) / 2) ** 2).sum() / (count - 1)
    residual = ((ranked - ranked.mean(axis=0)) ** 2).sum() / ((problems - 1) * (count - 1))
    result = friedman_test(ranked)
    assert result.f_statistic == pytest.approx(between / residual, rel=STATISTIC_FLOAT64)
    expected = stats.f.sf(between / residual, 3, 33)
    assert result.f_p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)


def test_friedman_where_all_agree_or_all_tie() -> None:
    agreed = friedman_test(np.tile([1.0, 2.0, 3.0], (5, 1)))
    assert (agreed.statistic, agreed.f_statistic, agreed.f_p_value) == (10, math.inf, 0)
    assert agreed.permutation_p_value == pytest.approx(6**-4, rel=STATISTIC_FLOAT64)
    tied = friedman_test(np.full((5, 3), 2.0))
    assert (tied.p_value, tied.f_p_value, tied.permutation_p_value) == (1, 1, 1)
    with pytest.raises(ValueError, match=r"got shape \(1, 3\)"):
        friedman_test([[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(("problems", "count"), [(2, 2), (5, 2), (2, 4), (3, 3), (6, 3)])
def test_problems_that_agree_do_so_by_chance_with_a_known_probability(
    problems: int, count: int
) -> None:
    agreed = friedman_test(np.tile(np.arange(1.0, count + 1), (problems, 1)))
    expected = math.factorial(count) ** (1 - problems)
    assert agreed.permutation_p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)


@pytest.mark.parametrize("ties", [False, True])
def test_permutation_p_value_is_that_of_scipy(ties: bool) -> None:
    """SciPy permutes within problems, as paired samples, all of them."""
    ranked = ranks(table(3, ties=ties)[:4, :3], higher_is_better=True)

    def spread(*columns: np.ndarray, axis: int = -1) -> np.ndarray:
        return sum((column.sum(axis=axis) - 4 * 2) ** 2 for column in columns)

    theirs = stats.permutation_test(
        list(ranked.T),
        spread,
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    ours = friedman_test(ranked)
    assert ours.permutation_p_value == pytest.approx(theirs.pvalue, rel=STATISTIC_FLOAT64)


def test_many_problems_are_tested_by_f_within_the_limits_of_permutations() -> None:
    ranked = ranks(table(1), higher_is_better=True)
    result = friedman_test(ranked)
    assert result.permutation_p_value == result.f_p_value
    agreed = friedman_test(np.tile(np.arange(1.0, 10), (2, 1)))
    assert agreed.permutation_p_value == 1 / math.factorial(9)


def test_critical_difference_has_the_published_quantiles() -> None:
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]  # Demsar, table 5
    for count, quantile in enumerate(published, start=2):
        scale = math.sqrt(count * (count + 1) / (6 * 14))
        ours = critical_difference(14, count) / scale
        assert ours == pytest.approx(quantile, abs=THREE_DECIMALS)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_told_apart_as_by_scikit_posthocs(seed: int) -> None:
    values = table(seed)
    result = compare_ranks(values, NAMES, higher_is_better=True)
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(values)
    p_values.index = p_values.columns = NAMES
    apart = {frozenset(p) for p in itertools.combinations(NAMES, 2) if p_values.loc[p] < 0.05}
    together = {frozenset(p) for g in result.groups for p in itertools.combinations(g, 2)}
    every = {frozenset(p) for p in itertools.combinations(NAMES, 2)}
    assert apart
    assert together == every - apart


def test_critical_difference_and_ranks_are_those_of_autorank() -> None:
    values = table(0, problems=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = autorank(
            pd.DataFrame(values, columns=NAMES), force_mode="nonparametric", verbose=False
        )
    ours = compare_ranks(values, NAMES, higher_is_better=True)
    assert ours.critical_difference == pytest.approx(theirs.cd, rel=THREE_DECIMALS)
    expected = theirs.rankdf["meanrank"]
    assert dict(zip(ours.order, ours.average_ranks, strict=True)) == pytest.approx(
        expected.to_dict(), rel=STATISTIC_FLOAT64
    )
    assert ours.friedman.p_value == pytest.approx(theirs.pvalue, rel=STATISTIC_FLOAT64)


def test_groups_are_stretches_of_the_order() -> None:
    result = compare_ranks(table(2), NAMES, higher_is_better=True)
    for group in result.groups:
        start = result.order.index(group[0])
        assert result.order[start : start + len(group)] == group


def kendall_by_counting(first: list[float], second: list[float]) -> float:
    """Tau-b by its definition."""
    signs = [
        (np.sign(a - b), np.sign(c - d))
        for (a, c), (b, d) in itertools.combinations(zip(first, second, strict=True), 2)
    ]
    product, left, right = (
        sum(f(s) for s in signs)
        for f in (lambda s: s[0] * s[1], lambda s: s[0] ** 2, lambda s: s[1] ** 2)
    )
    return float(product / math.sqrt(left * right))


def test_rank_stability_is_kendalls_tau_at_the_latest_evaluation() -> None:
    steps = [100, 200, 300, 400]
    values = np.array([[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.2, 0.1], [0.1, 0.5, 0.4, 0.2]])
    taus = rank_stability(steps, values, higher_is_better=True, shares=(0.25, 0.6, 0.75, 1))
    expected = [kendall_by_counting(list(values[:, i]), list(values[:, 3])) for i in (0, 1, 2, 3)]
    assert taus == pytest.approx(expected, rel=STATISTIC_FLOAT64)
    assert taus[-1] == pytest.approx(1)
    assert math.isnan(rank_stability(steps, values, higher_is_better=True, shares=(0.1,))[0])


def test_rank_stability_ranks_divergence_last() -> None:
    values = [[0.5, 0.9], [0.6, math.nan], [0.4, 0.8]]
    assert rank_stability([1, 2], values, higher_is_better=True, shares=(0.5,)) == pytest.approx(
        (kendall_by_counting([0.5, 0.6, 0.4], [0.9, -1, 0.8]),), rel=STATISTIC_FLOAT64
    )
