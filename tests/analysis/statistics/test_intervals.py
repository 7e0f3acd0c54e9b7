"""Intervals against SciPy, and their coverage in repeated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from optrial.analysis.statistics import Interval, mean_interval, median_interval
from optrial.analysis.statistics.intervals import (
    bca_limits,
    mean_intervals,
    resample_weights,
    widening,
)
from tests.tolerance import SIMULATION_SIGMAS, STATISTIC_FLOAT64

SAMPLES = {
    "normal": np.round(1000 * np.random.default_rng(0).normal(size=12)),
    "skewed": np.round(1000 * np.random.default_rng(1).exponential(size=9)),
    "five": np.array([971.0, 973.0, 968.0, 975.0, 974.0]),
    "tied": np.array([1.0, 1.0, 1.0, 2.0, 2.0, 4.0]),
}
"""Whole numbers, whose sums are exact: SciPy then sees which resampled means equal the mean."""


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_bca_limits_are_scipys_on_the_same_resamples(sample: np.ndarray, level: float) -> None:
    resamples, count = 2_000, len(sample)
    expected = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(5),
    ).confidence_interval
    drawn = np.random.default_rng(5).integers(count, size=(resamples, count))
    weights = (drawn[:, :, None] == np.arange(count)).mean(axis=1)
    low, high = bca_limits(sample[None], weights, level)
    assert low[0] == pytest.approx(expected.low, rel=STATISTIC_FLOAT64)
    assert high[0] == pytest.approx(expected.high, rel=STATISTIC_FLOAT64)
    rounded = bca_limits(sample[None] / 1000 + 0.1, weights, level)
    assert rounded[0][0] == pytest.approx(expected.low / 1000 + 0.1, rel=STATISTIC_FLOAT64)


def test_weights_are_those_of_the_resamples() -> None:
    weights = resample_weights(7, 50, np.random.default_rng(2))
    drawn = np.random.default_rng(2).integers(7, size=(50, 7))
    values = np.random.default_rng(3).normal(size=7)
    np.testing.assert_allclose(
        weights @ values, values[drawn].mean(axis=1), rtol=STATISTIC_FLOAT64, atol=STATISTIC_FLOAT64
    )


@pytest.mark.parametrize("count", [2, 5, 10, 100])
def test_widening_turns_a_normal_bootstrap_interval_into_students(count: int) -> None:
    sample = np.random.default_rng(count).normal(size=count)
    low, high = stats.t.interval(0.95, count - 1, sample.mean(), stats.sem(sample))
    bootstrap = stats.norm.ppf(0.975) * np.std(sample) / math.sqrt(count)
    assert widening(count, 0.95) * bootstrap == pytest.approx(
        (high - low) / 2, rel=STATISTIC_FLOAT64
    )


def test_rows_of_intervals_are_the_intervals_of_rows() -> None:
    rows = np.random.default_rng(1).normal(size=(3, 8))
    together = mean_intervals(rows, np.random.default_rng(4))
    alone = [mean_interval(row, np.random.default_rng(4)) for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one.low == pytest.approx(other.low, rel=STATISTIC_FLOAT64)
        assert one.high == pytest.approx(other.high, rel=STATISTIC_FLOAT64)


def coverage(
    intervals: tuple[np.ndarray, np.ndarray], truth: float, nominal: float
) -> tuple[float, float]:
    low, high = intervals
    error = math.sqrt(nominal * (1 - nominal) / len(low))
    return float(((low <= truth) & (truth <= high)).mean()), error


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("count", [10, 20])
def test_coverage_is_nominal_from_ten_seeds_on(count: int, level: float) -> None:
    generator = np.random.default_rng(count)
    studies = generator.normal(0.97, 0.002, size=(3_000, count))
    intervals = mean_intervals(studies, generator, level=level, resamples=1_000)
    limits = np.array([(i.low, i.high) for i in intervals]).T
    share, error = coverage((limits[0], limits[1]), 0.97, level)
    assert abs(share - level) < SIMULATION_SIGMAS * error


def test_plain_bca_would_be_too_short_for_ten_seeds() -> None:
    generator = np.random.default_rng(0)
    weights = resample_weights(10, 1_000, generator)
    plain = bca_limits(generator.normal(size=(3_000, 10)), weights, 0.95)
    share, error = coverage(plain, 0.0, 0.95)
    assert share < 0.95 - SIMULATION_SIGMAS * error


def test_one_value_has_no_interval_and_equal_ones_an_empty_one() -> None:
    generator = np.random.default_rng(0)
    interval = mean_interval([0.9], generator)
    assert interval.estimate == 0.9
    assert not interval.known
    assert math.isnan(interval.high)
    assert mean_interval([0.5] * 4, generator) == Interval(0.5, 0.5, 0.5, 0.95)


def test_a_mean_over_a_run_that_diverged_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval([0.9, np.nan], np.random.default_rng(0))
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([], np.random.default_rng(0))


@pytest.mark.parametrize("count", range(6, 25))
def test_median_interval_inverts_the_sign_test(count: int) -> None:
    sample = np.random.default_rng(count).normal(size=count)
    ours = median_interval(sample)
    theirs = stats.quantile_test(sample, p=0.5).confidence_interval(0.95)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)
    assert ours.estimate == np.median(sample)


def test_median_of_five_has_no_interval_and_infinities_stay_where_they_are() -> None:
    assert not median_interval([1, 2, 3, 4, 5]).known
    interval = median_interval([np.inf, 1, 2, 3, 4, 5, 6])
    assert (interval.estimate, interval.low, interval.high) == (4, 1, np.inf)
    assert math.isnan(median_interval([-np.inf, np.inf]).estimate)


def test_weights_drawn_in_parts_are_those_drawn_at_once() -> None:
    weights = resample_weights(1_000, 300, np.random.default_rng(1))
    drawn = np.random.default_rng(1).integers(1_000, size=(300, 1_000))
    at_once = [np.bincount(row, minlength=1_000) for row in drawn]
    assert weights.tolist() == (np.array(at_once) / 1_000).tolist()
