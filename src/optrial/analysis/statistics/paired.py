"""Tests on paired differences of two optimizers over the same seeds, and their intervals.

An interval holds every value that its test does not reject as the true difference, so that it
excludes 0 exactly when the test is significant at the interval's level.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import ArrayLike, NDArray

from optrial.analysis.statistics.intervals import median_limits
from optrial.analysis.statistics.merit import Floats

__all__ = [
    "EXACT_UP_TO",
    "SignFlipTests",
    "minimum_pairs",
    "probability_of_improvement",
    "sign_flip_p_value",
    "sign_flip_tests",
    "sign_test",
]

EXACT_UP_TO = 16
"""Number of pairs up to which every sign vector is counted."""

_VECTORS = 2 ** (EXACT_UP_TO - 1)
_NUMBERS_OF_A_PART = 2_000_000

_ROUNDING = 1e-12
"""Relative rounding of sums of equal numbers in different orders, which must count as equal."""


class SignFlipTests(NamedTuple):
    """Paired permutation tests of several rows of differences.

    Attributes:
        p_values: (m,) two-sided.
        low: (m,) lower limit of the mean difference; NaN if no value can be rejected.
        high: (m,) upper limit.
    """

    p_values: Floats
    low: Floats
    high: Floats


def sign_flip_p_value(
    differences: ArrayLike, generator: np.random.Generator, *, vectors: int = _VECTORS
) -> float:
    """Return the two-sided p-value of the paired permutation test; see `sign_flip_tests`.

    Args:
        differences: (n,) finite.
        generator: draws sign vectors above `EXACT_UP_TO` pairs.
        vectors: number of sign vectors above `EXACT_UP_TO` pairs, the observed one included.
    """
    rows = np.asarray(differences, np.float64)[None]
    return float(sign_flip_tests(rows, generator, vectors=vectors).p_values[0])


def sign_flip_tests(
    differences: Floats,
    generator: np.random.Generator,
    *,
    alpha: float = 0.05,
    vectors: int = _VECTORS,
) -> SignFlipTests:
    """Test the mean of each row, and return the interval of means that the test does not reject.

    The p-value is the fraction of sign vectors s with |s . d| >= |sum d|. If two optimizers are
    exchangeable, both signs of a paired difference are equally likely: the test is exact for any
    distribution. Up to `EXACT_UP_TO` pairs all 2^n sign vectors are counted; above, random ones and
    the observed one, whose p-value is never too small (Phipson & Smyth 2010). Zero pairs give
    p = 1.

    Flipping the signs of a subset S of d - x reaches the observed sum, from a mean above x, if and
    only if the mean of S or that of the other pairs is at most x. The limits are therefore order
    statistics of means of subsets: of 2^(n - 1) divisions of the pairs in two, the
    k-th lowest and the k-th highest mean, k = floor(alpha 2^(n - 1)). If differences are
    symmetric about their mean, the interval covers it with a chance of at least 1 - alpha.

    Args:
        differences: (m, n) finite, n pairs per row; the rows share the sign vectors.
        generator: draws sign vectors above `EXACT_UP_TO` pairs.
        alpha: level of the tests that the intervals invert.
        vectors: number of sign vectors above `EXACT_UP_TO` pairs, the observed one included.

    Source: Fisher 1935, The Design of Experiments, section 21; Hartigan 1969 for the limits.
    """
    if not np.isfinite(differences).all():
        raise ValueError(
            f"the test needs finite differences, got {differences}: use the sign test where a run "
            "diverged"
        )
    rows, count = differences.shape
    if count <= EXACT_UP_TO:
        subsets = _all_subsets(count)
    else:
        subsets = generator.integers(2, size=(vectors - 1, count), dtype=np.uint8)
    tests = np.empty((3, rows))
    block = max(1, _NUMBERS_OF_A_PART // max(1, len(subsets)))
    for start in range(0, rows, block):
        part = slice(start, start + block)
        tests[:, part] = _tests(differences[part], subsets, alpha)
    return SignFlipTests(*tests)


def _all_subsets(count: int) -> NDArray[np.uint8]:
    """Return (2^(count - 1) - 1, count) one subset of each division of the pairs in two parts."""
    numbers = np.arange(1, 2 ** max(0, count - 1))
    return ((numbers[:, None] >> np.arange(count)) & 1).astype(np.uint8)


def _tests(differences: Floats, subsets: NDArray[np.uint8], alpha: float) -> Floats:
    """Return (3, m) p-values and limits."""
    rows, count = differences.shape
    total = differences.sum(axis=1, keepdims=True)
    rounding = _ROUNDING * np.abs(differences).sum(axis=1)
    sums, sizes = _subset_sums(differences, subsets)
    reached = np.abs(total - 2 * sums) >= np.abs(total) - rounding[:, None]
    vectors = len(subsets) + 1
    p_values = np.where(np.abs(total[:, 0]) <= rounding, 1.0, (1 + reached.sum(axis=1)) / vectors)
    place = math.floor(alpha * vectors * (1 + _ROUNDING))
    if not 0 < place <= len(subsets):
        return np.stack([p_values, *np.full((2, rows), np.nan)])
    one, other = sums / sizes.clip(1), (total - sums) / (count - sizes).clip(1)
    lower, upper = np.minimum(one, other), np.maximum(one, other)
    observed = (sizes == 0) | (sizes == count)  # drawn again
    lower[:, observed], upper[:, observed] = -np.inf, np.inf
    lower.partition(place - 1, axis=1)
    upper.partition(len(subsets) - place, axis=1)
    limits = np.stack([lower[:, place - 1], upper[:, len(subsets) - place]])
    limits[np.abs(limits) <= rounding] = 0.0
    return np.stack([p_values, *limits])


def _subset_sums(
    differences: Floats, subsets: NDArray[np.uint8]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return (m, vectors) sums of each subset of each row, and (vectors,) sizes of the subsets."""
    size = max(1, _NUMBERS_OF_A_PART // max(1, differences.shape[1]))
    parts = [subsets[start : start + size] for start in range(0, len(subsets), size)]
    sums = [differences @ part.T.astype(np.float64) for part in parts]
    empty = np.empty((len(differences), 0))
    return np.hstack([empty, *sums]), subsets.sum(axis=1, dtype=np.int64)


def sign_test(
    differences: Floats, compared: NDArray[np.bool_], alpha: float
) -> tuple[float, float, float, float]:
    """Return p-value, median, and limits of a sign test in which some pairs hold a divergence.

    The test is made twice, over all pairs and over those in which neither run diverged; both must
    agree (an intersection-union test: p is the larger of the two, and 1 if they point in opposite
    directions). The interval is the smallest that holds those of both tests. Differences of 0 are
    left out. NaN where there is no interval.

    Args:
        differences: (n,) may be infinite.
        compared: (n,) whether neither run of the pair diverged.
        alpha: level of the tests that the interval inverts.
    """
    of_all = differences[differences != 0]
    finished = differences[compared & (differences != 0)]
    samples = [of_all] if compared.all() else [of_all, finished]
    ahead = [float(np.sign(sample).sum()) for sample in samples]
    agree = min(ahead) > 0 or max(ahead) < 0
    p_value = max(map(_sign_p_value, samples)) if agree else 1.0
    limits = np.array([median_limits(sample, alpha) for sample in samples])
    if not len(differences):
        return 1.0, math.nan, math.nan, math.nan
    with np.errstate(invalid="ignore"):  # the middle of -inf and inf is not known
        middle = float(np.median(of_all if len(of_all) else differences))
    if np.isnan(limits).any():
        return p_value, middle, math.nan, math.nan
    return p_value, middle, float(limits[:, 0].min()), float(limits[:, 1].max())


def _sign_p_value(differences: Floats) -> float:
    fewer = min((differences > 0).sum(), (differences < 0).sum())
    return min(1.0, 2 * float(scipy.special.bdtr(fewer, len(differences), 0.5)))


def probability_of_improvement(improvements: ArrayLike) -> float:
    """Return P(A > B) over common seeds: the fraction of pairs in which A is better, ties as half.

    NaN for no pairs.

    Args:
        improvements: (n,) improvement of A over B; infinite if one of them diverged.

    Source: Bouthillier et al. 2021, with the ties of Agarwal et al. 2021.
    """
    signs = np.sign(np.asarray(improvements, np.float64))
    return float((1 + signs.mean()) / 2) if len(signs) else math.nan


def minimum_pairs(alpha: float = 0.05, comparisons: int = 1) -> int:
    """Return the fewest pairs with which a two-sided sign-flip test can reach significance.

    The smallest p-value of n pairs is 2^(1 - n); it must be at most alpha / comparisons:
    6 pairs for one comparison at 0.05, 11 for the 36 comparisons of nine optimizers.
    """
    return math.ceil(1 - math.log2(alpha / comparisons))
