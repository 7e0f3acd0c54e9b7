"""Noise of a finite test set against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from optrial.analysis.statistics import mcnemar_bound
from tests.tolerance import STATISTIC_FLOAT64


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
