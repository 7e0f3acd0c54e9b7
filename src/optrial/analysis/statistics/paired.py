"""Tests on paired differences of two optimizers over the same seeds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from optrial.analysis.statistics.merit import Floats

__all__ = [
    "EXACT_UP_TO",
    "holm",
    "minimum_pairs",
    "probability_of_improvement",
    "sign_flip_p_value",
    "sign_flip_p_values",
]

EXACT_UP_TO = 24
"""Number of pairs up to which every sign vector is counted: 2^24 in about a millisecond."""

_ROUNDING = 1e-12
"""Relative rounding of sums of equal numbers in different orders, which must count as equal."""


def sign_flip_p_value(
    differences: ArrayLike, generator: np.random.Generator, *, resamples: int = 9_999
) -> float:
    """Return the two-sided p-value of the paired permutation test; see `sign_flip_p_values`.

    Args:
        differences: (n,) finite; with their signs alone it is the sign test.
        generator: draws sign vectors above `EXACT_UP_TO` pairs.
        resamples: number of random sign vectors above `EXACT_UP_TO` pairs.
    """
    return float(sign_flip_p_values(np.asarray(differences)[None], generator, resamples)[0])


def sign_flip_p_values(
    differences: Floats, generator: np.random.Generator, resamples: int = 9_999
) -> Floats:
    """Return the p-value of each row: the fraction of sign vectors s with |s . d| >= |sum d|.

    If two optimizers are exchangeable, both signs of a paired difference are equally likely: the
    test is exact for any distribution. Up to `EXACT_UP_TO` pairs all 2^n sign vectors are counted;
    above, random ones, and p = (1 + number that reach the sum) / (1 + resamples), which is never
    too small (Phipson & Smyth 2010). Zero pairs give p = 1.

    Args:
        differences: (m, n) finite, n pairs per row; the rows share the random sign vectors.
        generator: draws the sign vectors.
        resamples: number of random sign vectors.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    if not np.isfinite(differences).all():
        raise ValueError(
            f"the test needs finite differences, got {differences}: pass their signs where a run "
            "diverged"
        )
    count = differences.shape[1]
    if count <= EXACT_UP_TO:
        return np.array([_exact_p_value(row) for row in differences])
    signs = 2.0 * generator.integers(2, size=(resamples, count)) - 1
    reached = np.abs(signs @ differences.T) >= _least_sum(differences)
    return np.asarray((1 + reached.sum(axis=0)) / (1 + resamples))


def _exact_p_value(differences: Floats) -> float:
    """Count the sign vectors that reach the sum, without building them.

    A signed sum is one of the first half plus one of the second, so that the 2^n sums can be
    counted from two sorted lists of 2^(n/2) sums (Horowitz & Sahni 1974).
    """
    least = _least_sum(differences)
    if least <= 0:
        return 1.0
    half = len(differences) // 2
    left, right = (np.sort(_signed_sums(part)) for part in np.split(differences, [half]))
    reached = len(right) - np.searchsorted(right, least - left)
    return float(2 * reached.sum() / 2.0 ** len(differences))


def _signed_sums(values: Floats) -> Floats:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _least_sum(differences: Floats) -> Floats:
    """Return the absolute observed sum, less rounding."""
    total = np.abs(differences.sum(axis=-1))
    return np.asarray(total - _ROUNDING * np.abs(differences).sum(axis=-1))


def probability_of_improvement(improvements: ArrayLike) -> float:
    """Return P(A > B) over common seeds: the fraction of pairs in which A is better, ties as half.

    NaN for no pairs.

    Args:
        improvements: (n,) improvement of A over B; infinite if one of them diverged.

    Source: Bouthillier et al. 2021, with the ties of Agarwal et al. 2021.
    """
    signs = np.sign(np.asarray(improvements, np.float64))
    return float((1 + signs.mean()) / 2) if len(signs) else math.nan


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values of one family adjusted by Holm's method.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j). Rejecting every
    adjusted value up to alpha keeps the chance of any false rejection below alpha, whatever the
    dependence of the tests.

    Source: Holm 1979.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values)
    steps = np.arange(len(p_values), 0, -1) * p_values[order]
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def minimum_pairs(alpha: float = 0.05, comparisons: int = 1) -> int:
    """Return the fewest pairs with which a two-sided sign-flip test can reach significance.

    The smallest p-value of n pairs is 2^(1 - n); Holm's first step asks for alpha / comparisons:
    6 pairs for one comparison at 0.05, 11 for the 36 comparisons of nine optimizers.
    """
    return math.ceil(1 - math.log2(alpha / comparisons))
