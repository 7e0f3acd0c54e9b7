"""Statistics over the folds of a cross-validation, whose training samples overlap.

Differences on folds are correlated, because two folds share most of their training samples. Their
variance divided by their number is therefore too small for the variance of their mean. Nadeau &
Bengio 2003 (Inference for the Generalization Error, Machine Learning 52) estimate it as

    (1 / J + n_test / n_train) s^2

for J folds with sample variance s^2. Bouckaert & Frank 2004 (Evaluating the Replicability of
Significance Tests for Comparing Learning Algorithms) use it for repeated folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy  # imports its modules when they are first used

from optrial.analysis.statistics.intervals import Interval
from optrial.analysis.statistics.merit import Floats

__all__ = ["CorrectedTests", "FoldValues", "corrected_t_tests", "fold_intervals"]


class FoldValues(dict[int, float | None]):
    """One metric of one optimizer by fold, as the values by seed of other studies.

    Attributes:
        test_ratio: evaluated samples per training sample, n_test / n_train.
    """

    def __init__(self, values: Mapping[int, float | None], test_ratio: float) -> None:
        super().__init__(values)
        self.test_ratio = test_ratio


class CorrectedTests(NamedTuple):
    """Corrected resampled t tests of several rows of values.

    Attributes:
        p_values: (m,) two-sided.
        low: (m,) lower limit of the mean; NaN where the variance is not known.
        high: (m,) upper limit.
    """

    p_values: Floats
    low: Floats
    high: Floats


def corrected_t_tests(values: Floats, test_ratio: float, alpha: float = 0.05) -> CorrectedTests:
    """Test whether the mean of each row is 0, and return the interval that inverts the test.

    The statistic is the mean divided by sqrt((1 / J + test_ratio) s^2), compared with Student's
    distribution of J - 1 degrees of freedom. A single fold, or equal values other than 0 on all
    folds, have no variance to judge by: p is 1, and there is no interval.

    Args:
        values: (m, J) finite values, one per fold.
        test_ratio: n_test / n_train.
        alpha: level of the tests that the intervals invert.

    Source: Nadeau & Bengio 2003, section 4.
    """
    rows, folds = values.shape
    unknown = np.full(rows, np.nan)
    if folds < 2:
        return CorrectedTests(np.ones(rows), unknown, unknown)
    means = values.mean(axis=1)
    deviations = np.where(np.ptp(values, axis=1) == 0, 0.0, values.std(axis=1, ddof=1))
    errors = deviations * np.sqrt(1 / folds + test_ratio)
    errors[(deviations == 0) & (means != 0)] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        statistics = np.where(means == 0, 0.0, np.abs(means) / errors)
    p_values = 2 * scipy.special.stdtr(folds - 1, -statistics)
    width = scipy.special.stdtrit(folds - 1, 1 - alpha / 2) * errors
    p_values = np.where(np.isnan(p_values), 1.0, p_values)
    return CorrectedTests(p_values, means - width, means + width)


def fold_intervals(values: Floats, test_ratio: float, level: float = 0.95) -> list[Interval]:
    """Return the mean of each row with the interval of the corrected test.

    Equal values on all folds have an interval of no width.

    Args:
        values: (m, J) finite values, one per fold.
        test_ratio: n_test / n_train.
        level: nominal coverage.
    """
    first = values[:, :1]
    tests = corrected_t_tests(values - first, test_ratio, 1 - level)
    return [
        Interval(float(mean), float(origin + low), float(origin + high), level)
        for mean, origin, low, high in zip(
            values.mean(axis=1), first[:, 0], tests.low, tests.high, strict=True
        )
    ]
