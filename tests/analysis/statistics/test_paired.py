"""Paired tests against SciPy and statsmodels, their errors and their power by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestPower

from optrial.analysis.statistics import (
    detectable_effect,
    minimum_pairs,
    probability_of_improvement,
    seeds_needed,
    sign_flip_p_value,
    sign_flip_power,
)
from optrial.analysis.statistics import paired as paired_module
from optrial.analysis.statistics.paired import sign_flip_tests, sign_test
from tests.tolerance import (
    POWER_APPROXIMATION,
    RESAMPLED_LIMIT,
    SAMPLING_SIGMAS,
    SIMULATION_SIGMAS,
    STATISTIC_FLOAT64,
)

GENERATOR = np.random.default_rng(0)
"""For exact tests, which draw nothing."""


def standardized(count: int) -> np.ndarray:
    """Differences with mean 0 and standard deviation 1."""
    values = np.random.default_rng(count).normal(size=count)
    return (values - values.mean()) / np.std(values, ddof=1)


@pytest.mark.parametrize("count", range(2, 13))
def test_p_value_is_scipys_exact_permutation_test(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.5, 1, size=count)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    ours = sign_flip_p_value(differences, GENERATOR)
    assert ours == pytest.approx(theirs.pvalue, rel=STATISTIC_FLOAT64)


@pytest.mark.parametrize("count", range(1, 11))
def test_every_sign_vector_is_counted_even_where_sums_tie(count: int) -> None:
    tenths = np.random.default_rng(count).integers(-2, 5, size=count)
    reached = [
        abs(sum(s * int(d) for s, d in zip(signs, tenths, strict=True))) >= abs(tenths.sum())
        for signs in itertools.product((-1, 1), repeat=count)
    ]
    # Divided by ten the sums tie only up to rounding.
    assert sign_flip_p_value(tenths / 10, GENERATOR) == np.mean(reached)


def test_signs_alone_make_it_the_sign_test() -> None:
    signs = [1.0] * 9 + [-1.0] * 2 + [0.0] * 3
    expected = stats.binomtest(9, 11).pvalue
    assert sign_flip_p_value(signs, GENERATOR) == pytest.approx(expected, rel=STATISTIC_FLOAT64)


def test_random_sign_vectors_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, size=(4, 16))
    exact = sign_flip_tests(differences, GENERATOR)
    monkeypatch.setattr(paired_module, "EXACT_UP_TO", 0)
    sampled = sign_flip_tests(differences, np.random.default_rng(6), vectors=10_000)
    error = np.sqrt(exact.p_values * (1 - exact.p_values) / 9_999)
    distance = np.abs(sampled.p_values - exact.p_values)
    assert (distance < SAMPLING_SIGMAS * error + 1 / 10_000).all()
    width = exact.high - exact.low
    for limit in ("low", "high"):
        distance = np.abs(getattr(sampled, limit) - getattr(exact, limit))
        assert (distance < RESAMPLED_LIMIT * width).all()


def test_a_sampled_p_value_is_never_zero() -> None:
    p_value = sign_flip_p_value(np.ones(60), np.random.default_rng(0), vectors=1000)
    assert p_value == 1 / 1000


def test_no_pairs_and_equal_pairs_show_nothing() -> None:
    assert sign_flip_p_value([], GENERATOR) == 1
    assert sign_flip_p_value([0.0] * 30, GENERATOR) == 1
    assert sign_flip_p_value([0.0] * 10, GENERATOR) == 1
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p_value([1.0, np.inf], GENERATOR)


@pytest.mark.parametrize("count", [5, 10, 20, 30])
def test_identical_optimizers_differ_in_at_most_five_per_cent_of_studies(count: int) -> None:
    generator = np.random.default_rng(count)
    studies = 1_000
    first, second = generator.exponential(size=(2, studies, count))
    p_values = sign_flip_tests(first - second, generator, vectors=1000).p_values
    bound = 0.05 + SIMULATION_SIGMAS * math.sqrt(0.05 * 0.95 / studies)
    assert (p_values <= 0.05).mean() <= bound


@pytest.mark.parametrize("count", range(6, 13))
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_limits_are_where_scipys_test_begins_to_reject(count: int, alpha: float) -> None:
    differences = np.random.default_rng(count).exponential(size=count)
    tests = sign_flip_tests(differences[None], GENERATOR, alpha=alpha)
    width = tests.high[0] - tests.low[0]

    def p_value(mean: float) -> float:
        return stats.permutation_test(
            (differences - mean,), np.mean, permutation_type="samples", n_resamples=np.inf
        ).pvalue

    for limit, outwards in ((tests.low[0], -1), (tests.high[0], 1)):
        step = outwards * STATISTIC_FLOAT64 * width
        assert p_value(limit + step) <= alpha < p_value(limit - step)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-3, 6), min_size=1, max_size=20),
    st.sampled_from([0.5, 0.2, 0.05, 0.05 / 3, 0.05 / 36]),
)
def test_an_interval_excludes_zero_exactly_if_the_test_rejects(
    tenths: list[int], alpha: float
) -> None:
    """Differences of accuracies have few distinct values, and tie."""
    differences = np.array([tenths]) / 10
    tests = sign_flip_tests(differences, np.random.default_rng(0), alpha=alpha)
    low, high = tests.low[0], tests.high[0]
    assert (low > 0 or high < 0) == (tests.p_values[0] <= alpha)
    assert np.isnan(low) or low <= differences.mean() + 1e-15
    assert np.isnan(low) == (len(tenths) < 1 - math.log2(alpha))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0, math.inf]), st.booleans()),
        min_size=1,
        max_size=16,
    ),
    st.sampled_from([0.2, 0.05, 0.05 / 3]),
)
def test_an_interval_beside_divergences_excludes_zero_exactly_if_both_tests_reject(
    pairs: list[tuple[float, bool]], alpha: float
) -> None:
    differences, compared = np.array(pairs, dtype=float).T
    finished = compared.astype(bool) & np.isfinite(differences)
    p_value, _, low, high = sign_test(differences, finished, alpha)
    assert (low > 0 or high < 0) == (p_value <= alpha)
    one, other = (
        stats.binomtest(int((sample > 0).sum()), max(1, int((sample != 0).sum()))).pvalue
        for sample in (differences, differences[finished])
    )
    if p_value < 1 and (differences[finished] != 0).any():
        assert p_value == pytest.approx(max(one, other), rel=STATISTIC_FLOAT64)


@pytest.mark.parametrize(("count", "draw"), [(8, "normal"), (12, "laplace"), (20, "uniform")])
def test_all_intervals_of_a_family_cover_together(count: int, draw: str) -> None:
    """Every pair of four optimizers whose values share the effect of the seed."""
    generator, studies, optimizers = np.random.default_rng(count), 400, 4
    true = np.array([0.0, 0.0, 0.5, 3.0])
    pairs = list(itertools.combinations(range(optimizers), 2))
    covered = 0
    for _ in range(studies):
        noise = getattr(generator, draw)(size=(optimizers, count))
        values = true[:, None] + noise
        rows = np.array([values[i] - values[j] for i, j in pairs])
        tests = sign_flip_tests(rows, generator, alpha=0.05 / len(pairs), vectors=3000)
        expected = np.array([true[i] - true[j] for i, j in pairs])
        covered += bool(((tests.low <= expected) & (expected <= tests.high)).all())
    assert covered / studies >= 0.95 - SIMULATION_SIGMAS * math.sqrt(0.05 * 0.95 / studies)


def test_probability_of_improvement_counts_ties_as_half() -> None:
    assert probability_of_improvement([1.0, -1.0, 0.0, np.inf]) == (2 + 0.5) / 4
    assert math.isnan(probability_of_improvement([]))


@pytest.mark.parametrize(("comparisons", "expected"), [(1, 6), (3, 7), (36, 11)])
def test_minimum_pairs_is_the_least_number_that_can_be_significant(
    comparisons: int, expected: int
) -> None:
    fewest = minimum_pairs(0.05, comparisons)
    assert fewest == expected
    assert sign_flip_p_value(np.ones(fewest), GENERATOR) <= 0.05 / comparisons
    assert sign_flip_p_value(np.ones(fewest - 1), GENERATOR) > 0.05 / comparisons


@pytest.mark.parametrize(("pairs", "effect"), [(6, 1.7), (10, 1.0), (10, 4.0), (24, 11.0)])
def test_power_is_that_of_the_t_test_at_the_level_attained(pairs: int, effect: float) -> None:
    attained = math.floor(0.05 * 2 ** (pairs - 1)) / 2 ** (pairs - 1)
    # statsmodels keeps the NaN that SciPy gives for the far tail; the near one is enough there.
    side = "two-sided" if effect < 4 else "larger"
    level = attained if effect < 4 else attained / 2
    expected = TTestPower().power(effect, pairs, level, alternative=side)
    ours = sign_flip_power(pairs, effect)
    assert ours == pytest.approx(expected, rel=STATISTIC_FLOAT64)


def simulated_power(pairs: int, effect: float, comparisons: int) -> float:
    generator = np.random.default_rng(pairs)
    studies = generator.normal(effect, 1, size=(2_000, pairs))
    p_values = sign_flip_tests(studies, generator, vectors=3000).p_values
    return float((p_values <= 0.05 / comparisons).mean())


@pytest.mark.parametrize(("effect", "comparisons"), [(1.0, 1), (0.7, 1), (1.3, 10), (0.45, 1)])
def test_seeds_needed_give_the_power_that_was_asked_for(effect: float, comparisons: int) -> None:
    needed = seeds_needed(standardized(10), effect, comparisons=comparisons)
    power = simulated_power(needed, effect, comparisons)
    assert power > 0.8 - POWER_APPROXIMATION
    fewer = simulated_power(needed - max(2, needed // 5), effect, comparisons)
    assert fewer < 0.8


def test_seeds_needed_are_the_fewest_and_scale_with_the_square_of_the_effect() -> None:
    differences = standardized(12)
    needed = seeds_needed(differences, 0.5)
    assert sign_flip_power(needed, 0.5) >= 0.8 > sign_flip_power(needed - 1, 0.5)
    tiny = seeds_needed(differences, 0.001)
    normal = ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / 0.001) ** 2
    assert tiny == pytest.approx(normal, rel=POWER_APPROXIMATION)


def test_large_effects_still_need_the_minimum() -> None:
    assert seeds_needed(standardized(10), 1e6, comparisons=36) == 11
    assert seeds_needed([0.3, 0.3, 0.3], 0.1) == 6


@pytest.mark.parametrize("count", [6, 10, 20, 60])
def test_detectable_effect_is_the_inverse_of_seeds_needed(count: int) -> None:
    differences = 0.002 * standardized(count)
    effect = detectable_effect(differences)
    assert seeds_needed(differences, effect * (1 + STATISTIC_FLOAT64)) <= count
    assert sign_flip_power(count, effect / 0.002) == pytest.approx(0.8, rel=STATISTIC_FLOAT64)


def test_too_few_seeds_detect_nothing() -> None:
    assert detectable_effect(standardized(5)) == math.inf


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0, got 0"):
        seeds_needed(standardized(5), 0)
    with pytest.raises(ValueError, match="at least two"):
        seeds_needed([0.1], 0.1)
