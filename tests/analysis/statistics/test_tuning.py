"""Best of k trials against all draws of k; crossings; ranges of learning rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from optrial.analysis.statistics import best_of_k, crossings, learning_rate_range
from tests.tolerance import SIMULATION_SIGMAS, STATISTIC_FLOAT64


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("values", [[0.9, 0.7, 0.7, 0.95, 0.2], [0.3, math.nan, 0.8, math.inf]])
def test_best_of_k_is_the_mean_over_all_draws(values: list[float], higher: bool) -> None:
    curve = best_of_k(values, np.random.default_rng(0), higher_is_better=higher)
    finite = np.isfinite(values)
    ranked = np.where(finite, values, -np.inf if higher else np.inf)
    for place, k in enumerate(curve.trials):
        draws = np.array(list(itertools.product(ranked, repeat=int(k))))
        bests = draws.max(axis=1) if higher else draws.min(axis=1)
        has_value = np.isfinite(bests)
        assert curve.expected[place] == pytest.approx(
            bests[has_value].mean(), rel=STATISTIC_FLOAT64
        )
        assert curve.all_diverged[place] == pytest.approx(
            (~has_value).mean(), rel=STATISTIC_FLOAT64, abs=STATISTIC_FLOAT64
        )


def test_best_of_one_is_the_mean_and_more_trials_never_hurt() -> None:
    values = np.random.default_rng(1).random(20)
    curve = best_of_k(values, np.random.default_rng(0), higher_is_better=True)
    assert len(curve.trials) == 20
    assert curve.expected[0] == pytest.approx(values.mean())
    assert (np.diff(curve.expected) >= 0).all()
    assert (curve.low <= curve.expected).all()
    assert (curve.expected <= curve.high).all()
    losses = best_of_k(-values, np.random.default_rng(0), higher_is_better=False)
    np.testing.assert_allclose(losses.expected, -curve.expected, rtol=STATISTIC_FLOAT64)
    np.testing.assert_allclose(losses.low, -curve.high, rtol=STATISTIC_FLOAT64)


def test_interval_of_the_best_of_three_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, studies = np.random.default_rng(2), 300
    covered = 0
    for values in generator.random((studies, 20)):
        curve = best_of_k(values, generator, higher_is_better=True, resamples=400)
        covered += curve.low[2] <= 3 / 4 <= curve.high[2]  # mean of the best of 3 uniform values
    assert covered / studies > 0.95 - 2 * SIMULATION_SIGMAS * math.sqrt(0.05 * 0.95 / studies)


def test_one_trial_has_no_interval_and_lost_trials_no_value() -> None:
    single = best_of_k([0.5], np.random.default_rng(0), higher_is_better=True)
    assert np.isnan(single.low).all()
    lost = best_of_k([math.nan] * 2, np.random.default_rng(0), higher_is_better=True)
    assert (lost.all_diverged == 1).all()
    assert (lost.expected == -np.inf).all()


def test_crossings_are_where_the_lines_meet() -> None:
    steps = [0, 10, 20, 30]
    np.testing.assert_allclose(crossings(steps, [0, 1, 2, 3], [2, 1.5, 1.5, 9]), [15, 20 + 10 / 13])
    assert crossings(steps, [0, 1, 2, 3], [1, 2, 3, 4]).size == 0


def test_curves_that_touch_cross_only_if_they_part_on_the_other_side() -> None:
    steps = [0, 10, 20, 30]
    assert crossings(steps, [1, 0, 0, 1], [0, 0, 0, 0]).size == 0
    assert crossings(steps, [1, 0, 0, -1], [0, 0, 0, 0]).tolist() == [10]
    assert crossings(steps, [0, 0, 0, 0], [0, 0, 0, 0]).size == 0


RATES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def rate_range(means: list[float], seeds: int = 1, noise: float = 0.0, **options: object):
    generator = np.random.default_rng(0)
    values = np.array(means)[:, None] + generator.normal(0, noise, size=(len(means), seeds))
    settings = {"tolerance": 0.1, "higher_is_better": True, **options}
    return learning_rate_range(RATES, values, generator, **settings)


def test_range_ends_where_the_curve_falls_below_the_best_less_the_tolerance() -> None:
    range_ = rate_range([0.1, 0.7, 0.9, 0.85, 0.75])
    assert range_.best == pytest.approx(1e-2)
    assert range_.low == pytest.approx(10**-2.5)
    assert range_.high == pytest.approx(10**-0.5)
    assert range_.decades.estimate == pytest.approx(2.0)
    assert not range_.decades.known
    assert not range_.open_low
    assert not range_.open_high


def test_range_of_a_loss_is_the_mirror_image() -> None:
    range_ = rate_range([-0.1, -0.7, -0.9, -0.85, -0.75], higher_is_better=False)
    assert range_.decades.estimate == pytest.approx(2.0)


def test_a_rate_with_a_run_that_diverged_is_outside() -> None:
    values = np.array([[0.5, 0.5], [0.9, 0.9], [0.9, 0.91], [0.9, math.nan], [0.95, 0.95]])
    range_ = learning_rate_range(
        RATES, values, np.random.default_rng(0), tolerance=0.1, higher_is_better=True
    )
    assert range_.best == pytest.approx(1.0)
    assert (range_.low, range_.high) == pytest.approx((1.0, 1.0))
    assert range_.open_high
    assert range_.decades.estimate == 0
    values[4] = math.nan
    range_ = learning_rate_range(
        RATES, values, np.random.default_rng(0), tolerance=0.1, higher_is_better=True
    )
    assert range_.best == pytest.approx(1e-2)
    assert range_.high == pytest.approx(1e-2)
    assert not range_.open_high


def test_range_at_the_edge_of_the_grid_is_open() -> None:
    range_ = rate_range([0.9, 0.88, 0.5, 0.4, 0.3])
    assert range_.open_low
    assert not range_.open_high


def test_interval_of_the_range_comes_from_the_seeds() -> None:
    range_ = rate_range([0.1, 0.7, 0.9, 0.85, 0.75], seeds=10, noise=0.02)
    assert range_.decades.low < range_.decades.estimate < range_.decades.high
    still = rate_range([0.1, 0.7, 0.9, 0.85, 0.75], seeds=10)
    assert (still.decades.low, still.decades.high) == pytest.approx((2.0, 2.0))


def test_rates_that_all_diverged_have_no_range() -> None:
    range_ = rate_range([math.nan] * 5, seeds=2)
    assert math.isnan(range_.best)
    assert math.isnan(range_.decades.estimate)
