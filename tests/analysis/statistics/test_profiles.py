"""Profiles by their definitions, and their limits against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from optrial.analysis.statistics import performance_profile, score_profile
from tests.tolerance import RESAMPLED_LIMIT, STATISTIC_FLOAT64


def test_performance_profile_by_its_definition() -> None:
    generator = np.random.default_rng(0)
    costs = generator.integers(1, 50, size=(9, 3)).astype(float)
    costs[2, 1] = math.inf
    costs[5] = math.nan
    factors = [1.0, 1.5, 3.0, 1e9]
    profile = performance_profile(costs, factors)
    for solver in range(3):
        for place, factor in enumerate(factors):
            within = [
                row[solver] <= factor * min(c for c in row if math.isfinite(c))
                for row in costs
                if math.isfinite(row[solver])
            ]
            assert profile[solver, place] == pytest.approx(sum(within) / 9)
    assert profile[:, -1] == pytest.approx([8 / 9, 7 / 9, 8 / 9])


def test_costs_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"positive, got 0\.0"):
        performance_profile([[1.0, 0.0]], [1.0])


def test_score_profile_is_the_share_of_runs_above_each_threshold() -> None:
    scores = np.random.default_rng(1).random((10, 4))
    thresholds = np.linspace(0, 1, 11)
    profile = score_profile(scores, thresholds, np.random.default_rng(0), higher_is_better=True)
    expected = stats.ecdf(scores.ravel()).sf.evaluate(thresholds)
    np.testing.assert_allclose(profile.share, expected, rtol=STATISTIC_FLOAT64)
    assert (profile.low <= profile.share).all()
    assert (profile.share <= profile.high).all()
    losses = score_profile(-scores, -thresholds, np.random.default_rng(0), higher_is_better=False)
    np.testing.assert_array_equal(losses.share, profile.share)


def test_limits_of_one_problem_are_scipys_percentile_interval() -> None:
    scores = np.random.default_rng(2).random((30, 1))
    ours = score_profile(
        scores, [0.4], np.random.default_rng(3), higher_is_better=True, resamples=10_000
    )
    theirs = stats.bootstrap(
        (scores[:, 0],),
        lambda x, axis: (x > 0.4).mean(axis=axis),
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low[0] == pytest.approx(theirs.low, abs=RESAMPLED_LIMIT * width + 1 / 30)
    assert ours.high[0] == pytest.approx(theirs.high, abs=RESAMPLED_LIMIT * width + 1 / 30)


def test_runs_are_resampled_within_their_problem() -> None:
    easy_and_hard = np.tile([1.0, 0.0], (8, 1))
    profile = score_profile(easy_and_hard, [0.5], np.random.default_rng(0), higher_is_better=True)
    assert (profile.low[0], profile.share[0], profile.high[0]) == (0.5, 0.5, 0.5)


def test_a_run_that_diverged_is_better_than_nothing_and_one_run_has_no_limits() -> None:
    profile = score_profile(
        [[math.nan, 0.5]], [-1e9, 0.0], np.random.default_rng(0), higher_is_better=True
    )
    assert profile.share.tolist() == [0.5, 0.5]
    assert np.isnan(profile.low).all()
