"""The first departure of two paths of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from optrial.replay.draws import Draw
from optrial.replay.target import Path

__all__ = [
    "SAME",
    "Departure",
    "departures",
    "difference",
    "first_of",
    "largest_difference",
    "scale_of",
]

SAME = 1e-9
"""Relative difference of two float64 computations of the same steps that rounding explains."""

_OF_WEIGHTS = 1e-14
"""Rounding of the weights themselves, relative to their size."""


class Departure(NamedTuple):
    """First step at which a tensor departs, and the difference there."""

    label: str
    step: int
    difference: float


def difference(actual: Tensor, expected: Tensor, scale: Tensor) -> float:
    """Return the largest difference, relative to a scale; infinite if only one is finite.

    Equal infinities and two NaN are no difference.
    """
    if actual.shape != expected.shape:
        return float("inf")
    actual, expected = actual.to(torch.float64), expected.to(torch.float64)
    apart = (actual - expected).abs()
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    apart = torch.where(same, torch.zeros_like(apart), apart).nan_to_num(float("inf"))
    largest = float(apart.max()) if apart.numel() else 0.0
    return largest / float(scale) if largest and float(scale) else largest


def largest_difference(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest difference of several tensors, relative to the largest expected value."""
    sizes = (float(t.abs().nan_to_num(0.0, 0.0, 0.0).max()) for t in expected.values() if t.numel())
    scale = torch.tensor(max(sizes, default=0.0), dtype=torch.float64)
    return max(difference(actual[label], tensor, scale) for label, tensor in expected.items())


def scale_of(start: Tensor, path: Path, label: str) -> Tensor:
    """Return the scale of differences: how far a tensor moves, plus a share of its size."""
    return _scale(start, torch.stack([weights[label] for weights in path]))


def _scale(start: Tensor, path: Tensor) -> Tensor:
    moved = (path - start).abs().nan_to_num(0.0, 0.0, 0.0)
    most = float(moved.max()) if moved.numel() else 0.0
    size = float(start.abs().max()) if start.numel() else 0.0
    return torch.tensor(most + size * _OF_WEIGHTS / SAME, dtype=torch.float64)


def departures(
    draw: Draw, actual: Path, expected: Path, tolerance: float = SAME
) -> dict[str, Departure]:
    """Return the first departure of each tensor that departs."""
    result: dict[str, Departure] = {}
    for label, start in draw.start.items():
        ours, theirs = (
            torch.stack([weights[label] for weights in path]).to(torch.float64)
            for path in (actual, expected)
        )
        if ours.shape != theirs.shape:
            result[label] = Departure(label, 1, float("inf"))
            continue
        scale = float(_scale(start, theirs)) or 1.0
        same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        apart = torch.where(same, 0.0, (ours - theirs).abs() / scale).nan_to_num(float("inf"))
        if not apart.numel():
            continue
        largest = apart.flatten(1).amax(1) if apart.ndim > 1 else apart
        late = (largest > tolerance).nonzero()
        if late.numel():
            step = int(late[0])
            result[label] = Departure(label, step + 1, float(largest[step]))
    return result


def first_of(result: Mapping[str, Departure]) -> Departure:
    """Return the earliest departure."""
    return min(result.values(), key=lambda departure: departure.step)
