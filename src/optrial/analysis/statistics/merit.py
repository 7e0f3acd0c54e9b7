"""Merits: one scale for every metric, on which larger is better and divergence is the worst."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Floats", "merit", "worst"]

Floats = NDArray[np.float64]


def worst(higher_is_better: bool) -> float:
    """Return the value that stands for a run that diverged, worse than every finite value."""
    return -np.inf if higher_is_better else np.inf


def merit(values: ArrayLike, *, higher_is_better: bool) -> Floats:
    """Return values of any shape as merits: larger is better, -inf for a run that diverged.

    A value that is not finite (NaN, inf) marks a run that diverged. The infinity is meant for
    ranks, orders and medians, never for averages.
    """
    values = np.asarray(values, np.float64)
    return np.where(np.isfinite(values), values if higher_is_better else -values, -np.inf)
