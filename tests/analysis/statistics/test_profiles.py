"""Performance profiles by their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optrial.analysis.statistics import performance_profile


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
