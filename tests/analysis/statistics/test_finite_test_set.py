"""Noise of a finite test set against published values and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from optrial.analysis.statistics import accuracy_standard_error, mcnemar_bound
from tests.tolerance import SAMPLING_SIGMAS, STATISTIC_FLOAT64


@pytest.mark.parametrize(
    ("accuracy", "points"), [(0.98, 0.14), (0.94, 0.24), (0.90, 0.30), (0.60, 0.49)]
)
def test_standard_errors_of_ten_thousand_images(accuracy: float, points: float) -> None:
    assert round(100 * accuracy_standard_error(accuracy, 10_000), 2) == points


def test_standard_error_is_the_spread_of_simulated_accuracies() -> None:
    simulated = np.random.default_rng(0).binomial(500, 0.9, size=4_000) / 500
    error = accuracy_standard_error(0.9, 500)
    relative = SAMPLING_SIGMAS / math.sqrt(2 * 4_000)
    assert simulated.std() == pytest.approx(error, rel=relative)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_a_difference_at_the_bound_has_mcnemars_p_value(alpha: float) -> None:
    images, disagreement = 10_000, 0.05
    bound = mcnemar_bound(0.97, 0.96, images, disagreement=disagreement, alpha=alpha)
    only_first = images * (disagreement + bound) / 2
    only_second = images * (disagreement - bound) / 2
    counts = np.array([[9_000, only_first], [only_second, 500]])
    p_value = mcnemar(counts, exact=False, correction=False).pvalue
    assert p_value == pytest.approx(alpha, rel=STATISTIC_FLOAT64)


def test_unknown_disagreement_is_taken_at_its_largest() -> None:
    assert mcnemar_bound(0.97, 0.96, 10_000) == pytest.approx(
        mcnemar_bound(0.97, 0.96, 10_000, disagreement=0.07), rel=STATISTIC_FLOAT64
    )
    assert mcnemar_bound(0.2, 0.3, 100) == mcnemar_bound(0.2, 0.3, 100, disagreement=1.0)
