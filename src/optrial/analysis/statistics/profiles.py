"""Performance profiles: on which share of the problems is an optimizer close to the fastest?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optrial.analysis.statistics.merit import Floats

__all__ = ["performance_profile"]


def performance_profile(costs: ArrayLike, factors: ArrayLike) -> Floats:
    """Return the share of problems that each optimizer solves within a factor of the lowest cost.

    rho_s(tau) = |{p : cost_ps <= tau min_s cost_ps}| / N.

    Args:
        costs: (N, k) positive, such as steps to a target; one that is not finite marks a problem
            that was not solved. A problem that none solves counts in N.
        factors: (m,) tau >= 1.

    Returns:
        (k, m) shares.

    Source: Dolan & More 2002.
    """
    costs = np.asarray(costs, np.float64)
    solved = np.isfinite(costs)
    if (costs[solved] <= 0).any():
        raise ValueError(f"costs must be positive, got {costs[solved].min()}")
    ranked = np.where(solved, costs, np.inf)
    limits = ranked.min(axis=1)[:, None, None] * np.asarray(factors, np.float64)
    within = solved[:, :, None] & (ranked[:, :, None] <= limits)
    return np.asarray(within.mean(axis=0), np.float64)
