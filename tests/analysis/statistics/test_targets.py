"""Censored steps to a target against statsmodels; first steps and areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import auc
from statsmodels.duration.survfunc import SurvfuncRight

from optrial.analysis.statistics import (
    area_under_curve,
    first_step_reaching,
    kaplan_meier,
    median_steps,
)
from tests.tolerance import STATISTIC_FLOAT64


def censored(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, 30, size=count) * 100.0
    reached = generator.random(count) < 0.7
    return steps, reached


@pytest.mark.parametrize("seed", range(8))
def test_survival_is_that_of_statsmodels(seed: int) -> None:
    steps, reached = censored(seed, 25)
    ours, theirs = kaplan_meier(steps, reached), SurvfuncRight(steps, reached)
    np.testing.assert_array_equal(ours.steps, theirs.surv_times)
    np.testing.assert_allclose(ours.share, theirs.surv_prob, rtol=STATISTIC_FLOAT64)
    last = ours.share > 0  # statsmodels has no standard error where no run is left
    np.testing.assert_allclose(
        ours.deviation[last], theirs.surv_prob_se[last], rtol=STATISTIC_FLOAT64
    )


@pytest.mark.parametrize("seed", range(12))
def test_median_and_its_interval_are_those_of_statsmodels(seed: int) -> None:
    steps, reached = censored(seed, 25)
    theirs = SurvfuncRight(steps, reached)
    with np.errstate(all="ignore"):
        low, high = theirs.quantile_ci(0.5, method="cloglog")
    ours = median_steps(steps, reached)
    expected = theirs.quantile(0.5)
    assert ours.estimate == (math.inf if math.isnan(expected) else expected)
    assert (ours.low, ours.high) == (low, high)


def test_median_without_censoring_is_the_step_by_which_half_arrived() -> None:
    assert median_steps([10, 20, 30, 40], [True] * 4).estimate == 20
    assert median_steps(range(1, 11), [True] * 10).estimate == 5


def test_runs_that_never_arrive_are_not_left_out() -> None:
    steps, reached = [100, 200, 1000, 1000, 1000], [True, True, False, False, False]
    interval = median_steps(steps, reached)
    assert interval.estimate == math.inf
    assert interval.high == math.inf
    assert interval.low == 100


def test_a_run_that_diverged_early_never_arrives() -> None:
    lost = [math.inf, math.inf, math.inf, 500.0, 600.0]
    assert median_steps(lost, [False, False, False, True, True]).estimate == math.inf
    # Censored where it diverged it would count as one that might have been as fast as the others.
    censored_early = median_steps([10, 10, 10, 500, 600], [False, False, False, True, True])
    assert censored_early.estimate == 500


def test_no_interval_without_an_arrival_or_a_second_run() -> None:
    for steps, reached in (([100], [True]), ([100, 100], [False, False])):
        assert not median_steps(steps, reached).known
    assert median_steps([100, 100], [False, False]).estimate == math.inf


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


def test_smoothing_looks_back_only_and_waits_for_its_window() -> None:
    accuracy = [0.9, 0.3, 0.6, 0.8, 0.8]
    assert first_step_reaching(STEPS, accuracy, 0.7, higher_is_better=True, window=2) == 40
    assert first_step_reaching(STEPS, accuracy, 0.6, higher_is_better=True, window=3) == 30
    assert first_step_reaching(STEPS, accuracy, 0.1, higher_is_better=True, window=9) is None
    with pytest.raises(ValueError, match="got 0"):
        first_step_reaching(STEPS, accuracy, 0.1, higher_is_better=True, window=0)


def test_a_curve_reaches_nothing_after_it_diverged() -> None:
    loss = [2.0, math.nan, math.inf, -math.inf, math.nan]
    assert first_step_reaching(STEPS, loss, 1.0, higher_is_better=False) is None
    assert first_step_reaching(STEPS, loss, 2.0, higher_is_better=False) == 10


def test_area_is_that_of_scikit_learn_over_the_span() -> None:
    generator = np.random.default_rng(0)
    steps = np.cumsum(generator.integers(1, 9, size=20))
    values = generator.random(20)
    expected = auc(steps, values) / (steps[-1] - steps[0])
    assert area_under_curve(steps, values) == pytest.approx(expected, rel=STATISTIC_FLOAT64)
    assert math.isnan(area_under_curve([0, 1], [0.5, math.inf]))
    with pytest.raises(ValueError, match="got 1"):
        area_under_curve([0], [0.5])
