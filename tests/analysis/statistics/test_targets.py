"""Censored times to a target against statsmodels and SciPy; first steps; who is there first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight

from optrial.analysis.statistics import (
    Arrival,
    TargetComparison,
    compare_arrivals,
    first_step_reaching,
    kaplan_meier,
    median_time,
    target_sentence,
)
from tests.tolerance import SIMULATION_SIGMAS, STATISTIC_FLOAT64


def censored(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 30, size=count) * 100.0
    reached = generator.random(count) < 0.7
    return steps, reached


@pytest.mark.parametrize("seed", range(8))
def test_survival_is_that_of_statsmodels(seed: int) -> None:
    steps, reached = censored(seed, 25)
    ours, theirs = kaplan_meier(steps, reached), SurvfuncRight(steps, reached)
    np.testing.assert_array_equal(ours.times, theirs.surv_times)
    np.testing.assert_allclose(ours.share, theirs.surv_prob, rtol=STATISTIC_FLOAT64)
    last = ours.share > 0  # statsmodels has no standard error where no run is left
    np.testing.assert_allclose(
        ours.deviation[last], theirs.surv_prob_se[last], rtol=STATISTIC_FLOAT64
    )


@pytest.mark.parametrize("seed", range(4))
def test_survival_is_that_of_scipy(seed: int) -> None:
    steps, reached = censored(seed, 25)
    ours = kaplan_meier(steps, reached)
    data = stats.CensoredData(uncensored=steps[reached], right=steps[~reached])
    theirs = stats.ecdf(data).sf.evaluate(ours.times)
    np.testing.assert_allclose(ours.share, theirs, rtol=STATISTIC_FLOAT64)


@pytest.mark.parametrize("seed", range(12))
def test_median_and_its_interval_are_those_of_statsmodels(seed: int) -> None:
    steps, reached = censored(seed, 25)
    theirs = SurvfuncRight(steps, reached)
    with np.errstate(all="ignore"):
        low, high = theirs.quantile_ci(0.5, method="cloglog")
    ours = median_time(steps, reached)
    expected = theirs.quantile(0.5)
    assert ours.estimate == (math.inf if math.isnan(expected) else expected)
    assert (ours.low, ours.high) == (low, high)


def test_median_without_censoring_is_the_step_by_which_half_arrived() -> None:
    assert median_time([10, 20, 30, 40], [True] * 4).estimate == 20
    assert median_time(range(1, 11), [True] * 10).estimate == 5


def test_runs_that_never_arrive_are_not_left_out() -> None:
    steps, reached = [100, 200, 1000, 1000, 1000], [True, True, False, False, False]
    interval = median_time(steps, reached)
    assert interval.estimate == math.inf
    assert interval.high == math.inf
    assert interval.low == 100


def test_a_run_that_diverged_early_never_arrives() -> None:
    lost = [math.inf, math.inf, math.inf, 500.0, 600.0]
    assert median_time(lost, [False, False, False, True, True]).estimate == math.inf
    # Censored where it diverged it would count as one that might have been as fast as the others.
    censored_early = median_time([10, 10, 10, 500, 600], [False, False, False, True, True])
    assert censored_early.estimate == 500


def test_no_interval_without_an_arrival_or_a_second_run() -> None:
    for steps, reached in (([100], [True]), ([100, 100], [False, False])):
        assert not median_time(steps, reached).known
    assert median_time([100, 100], [False, False]).estimate == math.inf


def test_limits_stay_between_nought_and_one() -> None:
    curve = kaplan_meier(*censored(3, 10))
    assert ((curve.low >= 0) & (curve.low <= curve.share)).all()
    assert ((curve.share <= curve.high) & (curve.high <= 1)).all()


STEPS = [10, 20, 30, 40, 50]


def test_first_step_that_is_good_enough() -> None:
    accuracy = [0.1, 0.6, 0.4, 0.7, 0.8]
    reach = {"higher_is_better": True}
    assert first_step_reaching(STEPS, accuracy, 0.6, **reach) == 20
    assert first_step_reaching(STEPS, accuracy, 0.9, **reach) is None
    assert first_step_reaching(STEPS, accuracy, 0.1, **reach) == 10
    loss = [1 - value for value in accuracy]
    assert first_step_reaching(STEPS, loss, 0.25, higher_is_better=False) == 50


def test_a_curve_reaches_nothing_after_it_diverged() -> None:
    loss = [2.0, math.nan, math.inf, -math.inf, math.nan]
    assert first_step_reaching(STEPS, loss, 1.0, higher_is_better=False) is None
    assert first_step_reaching(STEPS, loss, 2.0, higher_is_better=False) == 10


BUDGET = 1000.0


def arrivals(*times: float | None, budget: float = BUDGET) -> dict[int, Arrival]:
    """By seed; None for a run that did not arrive, infinity for one that diverged."""
    return {
        seed: Arrival(budget, False) if time is None else Arrival(time, math.isfinite(time))
        for seed, time in enumerate(times)
    }


def compared(first: dict[int, Arrival], second: dict[int, Arrival]) -> TargetComparison:
    names = ("adam", "sgd")
    return compare_arrivals(first, second, target="test_accuracy 0.9", names=names)


def test_p_value_is_that_of_scipys_sign_test_on_the_seeds_with_an_order() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        times = generator.integers(3, 14, size=(2, 12)) * 100.0
        pair = compared(*(arrivals(*(t if t <= BUDGET else None for t in row)) for row in times))
        first, second = np.minimum(times, BUDGET + 1)  # those that do not arrive are tied
        wins, losses = int((first < second).sum()), int((first > second).sum())
        assert (pair.wins, pair.losses) == (wins, losses)
        expected = stats.binomtest(wins, wins + losses).pvalue
        assert pair.p_value == pytest.approx(expected, rel=STATISTIC_FLOAT64)


def test_a_run_that_did_not_arrive_in_the_time_of_the_other_is_second() -> None:
    pair = compared(arrivals(*[300] * 6), arrivals(*[None] * 6))
    assert (pair.wins, pair.losses, str(pair.verdict)) == (6, 0, "better")
    assert pair.difference.estimate == -math.inf
    assert str(pair.swapped().verdict) == "worse"


def test_a_run_that_was_observed_for_less_time_decides_nothing() -> None:
    short = arrivals(*[None] * 8, budget=200)
    pair = compared(arrivals(*[300] * 8), short)
    assert (pair.wins, pair.losses, pair.p_value) == (0, 0, 1.0)
    assert compared(arrivals(*[200] * 8), short).wins == 8


def test_neither_a_tie_nor_two_runs_that_do_not_arrive_decide_anything() -> None:
    first = arrivals(100, 200, None, None)
    second = arrivals(100, 300, None, 400)
    pair = compared(first, second)
    assert pair.differences == (0.0, -100.0, 0.0, math.inf)
    assert pair.reached == (2, 3)


def test_divergence_alone_decides_nothing() -> None:
    lost = arrivals(*[math.inf] * 10)
    pair = compared(arrivals(*[300] * 10), lost)
    assert pair.p_value == 1
    assert "10 of 10 runs of sgd diverged" in target_sentence(pair)
    some = compared(arrivals(*[300] * 10), arrivals(*[400] * 4, *[math.inf] * 6))
    assert some.p_value == pytest.approx(2 / 2**4, rel=STATISTIC_FLOAT64)
    against = compared(arrivals(*[300] * 10), arrivals(*[200] * 4, *[math.inf] * 6))
    assert against.p_value == 1


def test_a_run_that_diverges_after_it_arrived_has_arrived() -> None:
    steps, loss = [10, 20, 30], [2.0, 0.5, math.nan]
    assert first_step_reaching(steps, loss, 1.0, higher_is_better=False) == 20


def test_equal_optimizers_are_rarely_told_apart() -> None:
    generator, studies, different = np.random.default_rng(7), 1_000, 0
    for _ in range(studies):
        times = generator.exponential(600, size=(2, 10))
        first, second = (
            {s: Arrival(min(t, BUDGET), t <= BUDGET) for s, t in enumerate(row)} for row in times
        )
        different += compared(first, second).p_value <= 0.05
    assert different / studies <= 0.05 + SIMULATION_SIGMAS * math.sqrt(0.05 * 0.95 / studies)


def test_the_sentence_says_who_is_first_and_which_runs_did_not_arrive() -> None:
    pair = compared(arrivals(*[300] * 8), arrivals(*[500] * 3, *[None] * 5))
    assert target_sentence(pair) == (
        "adam reaches test_accuracy 0.9 in fewer steps than sgd (first on 8 and second on 0 of 8 "
        "paired seeds, reached by 8 and 3 of 8 runs, median 300 and over 1,000 steps, sign test, "
        "p = 0.0078)"
    )
    assert target_sentence(pair.swapped()) == target_sentence(pair)
    tied = target_sentence(compared(arrivals(*[300] * 8), arrivals(*[300] * 8)))
    assert tied.startswith("adam and sgd are undecided on steps to test_accuracy 0.9 (")
    few = target_sentence(compared(arrivals(1, 2), arrivals(3, 4)))
    assert few.startswith("adam and sgd are undecided on steps")
    assert few.endswith("at least 6 seeds are needed")
    apart = compared({0: Arrival(1, True)}, {1: Arrival(1, True)})
    assert "no seed in common" in target_sentence(apart)
