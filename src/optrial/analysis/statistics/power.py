"""Power: seeds needed for a difference, and the difference that given seeds can detect."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import ArrayLike

from optrial.analysis.statistics.paired import minimum_pairs

__all__ = ["detectable_effect", "seeds_needed", "sign_flip_power"]


def sign_flip_power(
    pairs: int, effect: float, *, alpha: float = 0.05, comparisons: int = 1
) -> float:
    """Return the approximate power of the sign-flip test.

    The power of the two-sided paired t test: with nc = effect sqrt(n) and t the critical value,
    1 - T(t; n - 1, nc) + T(-t; n - 1, nc), T being the noncentral t distribution (Cohen 1988).
    A sign-flip test has p-values in steps of 2^(1 - n), so t is taken at the largest one up to
    alpha / comparisons. For normal differences this is within one point of the simulated power from
    ten pairs on, and up to seven points too high at `minimum_pairs`.

    Args:
        pairs: number of paired seeds, n.
        effect: mean difference in standard deviations of the paired differences.
        alpha: chance of any false finding in the family.
        comparisons: size of the family, by which alpha is divided.
    """
    step = 2.0 ** (1 - min(pairs, 50))
    attained = math.floor(alpha / comparisons / step) * step
    if attained == 0:
        return 0.0
    freedom, shift = pairs - 1, effect * math.sqrt(pairs)
    critical = scipy.special.stdtrit(freedom, 1 - attained / 2)
    # SciPy gives NaN for probabilities below 1e-20; here they are as good as 0.
    below, within = np.nan_to_num(scipy.special.nctdtr(freedom, shift, [-critical, critical]))
    return float(1 - within + below)


def seeds_needed(
    differences: ArrayLike,
    effect: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> int:
    """Return about how many paired seeds in all are needed to detect a difference.

    The standard deviation is that of the given seeds: with ten of them, the result may be a third
    or twice the right one (the 95 % range of a variance with nine degrees of freedom).

    Args:
        differences: (n,) finite paired differences, n >= 2.
        effect: the true mean difference to detect, above 0, in the unit of the differences.
        power: chance to detect it.
        alpha: chance of any false finding in the family.
        comparisons: size of the family.
    """
    if not effect > 0:
        raise ValueError(f"the effect to detect must be above 0, got {effect}")
    fewest, deviation = minimum_pairs(alpha, comparisons), _deviation(differences)
    if deviation == 0:
        return fewest

    def enough(pairs: int) -> bool:
        size = effect / deviation
        return sign_flip_power(pairs, size, alpha=alpha, comparisons=comparisons) >= power

    too_few, many = fewest - 1, fewest
    while not enough(many):
        too_few, many = many, 2 * many
    while many - too_few > 1:
        middle = (too_few + many) // 2
        too_few, many = (too_few, middle) if enough(middle) else (middle, many)
    return many


def detectable_effect(
    differences: ArrayLike, *, power: float = 0.8, alpha: float = 0.05, comparisons: int = 1
) -> float:
    """Return the smallest true difference that as many pairs detect with the given power.

    Infinite below `minimum_pairs`, where no difference can be significant.

    Args:
        differences: (n,) finite paired differences, n >= 2.
        power: chance to detect it.
        alpha: chance of any false finding in the family.
        comparisons: size of the family.
    """
    deviation = _deviation(differences)
    size = _detectable_size(np.size(differences), power, alpha, comparisons)
    return deviation * size if deviation else 0.0


@lru_cache(maxsize=256)
def _detectable_size(pairs: int, power: float, alpha: float, comparisons: int) -> float:
    """Return the effect in standard deviations that has the power."""
    if pairs < minimum_pairs(alpha, comparisons):
        return math.inf

    def surplus(size: float) -> float:
        return sign_flip_power(pairs, size, alpha=alpha, comparisons=comparisons) - power

    largest = 1.0
    while surplus(largest) < 0:
        largest *= 2
    return float(scipy.optimize.brentq(surplus, 0.0, largest))


def _deviation(differences: ArrayLike) -> float:
    differences = np.asarray(differences, np.float64)
    if len(differences) < 2 or not np.isfinite(differences).all():
        raise ValueError(f"expected at least two finite differences, got {differences}")
    return float(np.std(differences, ddof=1))
