"""Comparison of the weights of two trainings, for all checks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from optrial.errors import one_line
from optrial.replay.comparison import largest_difference

__all__ = ["EQUAL", "apart", "finite", "first_apart", "identical", "reason"]

EQUAL = 1e-12
"""Relative difference of two orders of the same float64 operations."""


def apart(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value.

    Infinite if only one of two values is finite, or if shapes differ.
    """
    return largest_difference({"": actual.detach()}, {"": expected.detach()})


def first_apart(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 0.0
) -> tuple[str, float] | None:
    """Return the first tensor that differs by more than a tolerance, and by how much."""
    for label, tensor in expected.items():
        gap = apart(actual[label], tensor)
        if not gap <= tolerance:
            return label, gap
    return None


def finite(*weights: Mapping[str, Tensor]) -> bool:
    """Return whether no value is NaN or infinite, so that equal values say something."""
    return all(bool(torch.isfinite(tensor).all()) for w in weights for tensor in w.values())


def identical(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return whether all tensors are equal bit for bit; NaN equals NaN."""
    return first_apart(actual, expected) is None


def reason(error: BaseException) -> str:
    """Return what an error says, in one line, as the end of a sentence."""
    return one_line(error, 160).rstrip(".")
