"""Values to add to a grid or range of a hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from optrial.analysis.contenders import OptimizerRuns
from optrial.rules.learning_rates import sensible_rates

SMALLEST_RATIO, LARGEST_RATIO = 1.5, 10.0  # between neighbouring values of an extended grid
COARSE = 3.5  # ratio of neighbouring learning rates; two per decade are fine enough
MOST_WIDER = 2.0  # ratio of search ranges, in decades, that still counts as equal
ALIKE = 1.5  # factor by which ratios such as those of 1, 3, 10, 30 may differ

Bounds = tuple[float, float]


def extended(
    optimizer: OptimizerRuns, name: str, written: Any, below: int, above: int
) -> list[float] | dict[str, list[float]] | None:
    """Return the values of a hyperparameter with more at the ends; None if a rate has no room left.

    Args:
        optimizer: its trials.
        name: of the hyperparameter.
        written: its values in the study file; a range stays a range.
        below: number of values to add below the smallest.
        above: number of values to add above the largest.
    """
    is_own_rate = name.rpartition(".")[2] == "lr"
    bounds = sensible_rates(optimizer.rule_of(name)) if is_own_rate else (0.0, math.inf)
    if isinstance(written, Mapping) and "points" not in written:
        return _wider_range(written, below > 1, above > 1, bounds)
    return _longer_grid(optimizer.tuned[name], below, above, bounds)


def has_room_above(optimizer: OptimizerRuns) -> bool:
    """Return True if a rate above all that were tried is still sensible."""
    rates = optimizer.tuned.get("lr", [])
    return not rates or rates[-1] * SMALLEST_RATIO <= sensible_rates(optimizer.rule)[1]


def decades(rates: Sequence[float]) -> float:
    """Return how many decades the positive ones of sorted rates span."""
    positive = [rate for rate in rates if rate > 0]
    return math.log10(positive[-1] / positive[0]) if positive else 0.0


def unequal_widths(widths: Collection[float]) -> bool:
    """Return True if the widest of these ranges, in decades, is too wide beside the narrowest."""
    return bool(widths) and max(widths) > MOST_WIDER * min(widths)


def spaced(ends: Sequence[float], points: int, *, log: bool = True) -> list[float]:
    """Return the values that ``{log: ends, points: points}`` stands for in a study file."""
    space = np.geomspace if log else np.linspace
    return [float(f"{value:.12g}") for value in space(ends[0], ends[1], points)]


def grid_values(written: Any) -> Sequence[Any]:
    """Return the values of a hyperparameter in a study file: a number, a list or a range."""
    if not isinstance(written, Mapping):
        return written if isinstance(written, list | tuple) else [written]
    log = "log" in written
    return spaced(written["log" if log else "lin"], written.get("points", 2), log=log)


def parts_between(values: Sequence[float]) -> int:
    """Return into how many parts the steps of a grid are divided, so that none is coarse."""
    widest = max((high / low for low, high in pairwise(values)), default=1.0)
    return max(2, math.ceil(math.log(widest) / math.log(COARSE)))


def refined(values: Sequence[float], among: Sequence[float], parts: int) -> list[float]:
    """Return the values, and those that divide the steps of `among` into equal ratios."""
    between = (
        float(f"{low * (high / low) ** (part / parts):.3g}")
        for low, high in pairwise(among)
        for part in range(1, parts)
    )
    return sorted({*values, *between})


def _wider_range(
    written: Mapping[str, Any], below: bool, above: bool, bounds: Bounds
) -> dict[str, list[float]] | None:
    """Return a log range with another decade, or a linear one with another quarter, at its ends."""
    kind = "log" if "log" in written else "lin"
    low, high = map(float, written[kind])
    more = (high - low) / 4
    lower, higher = (low / 10, high * 10) if kind == "log" else (low - more, high + more)
    if kind == "log":
        lower, higher = max(lower, bounds[0]), min(higher, bounds[1])
    if (below and lower >= low) or (above and higher <= high):
        return None
    ends = [lower if below else low, higher if above else high]
    return {kind: [float(f"{end:.12g}") for end in ends]}


def _longer_grid(
    values: Sequence[float], below: int, above: int, bounds: Bounds
) -> list[float] | None:
    """Return values with more at the ends, at similar ratios; None if they leave the bounds.

    The values themselves stay as they are, to the last digit, so that their runs are kept. Of
    shares between 0.1 and 1, such as momentum, the distances from 1 have similar ratios.
    """
    positive = [value for value in values if value > 0]
    shares = 0.5 <= positive[-1] < 1 and len(positive) > 1 and positive[0] > 0.1 and not bounds[0]
    grid = [1 - value for value in positive] if shares else positive
    for _ in range(above):
        grid = [*grid, _following(grid, (bounds[1] / positive[-1]) ** (1 / above))]
    for _ in range(below):
        largest = (positive[0] / bounds[0]) ** (1 / below) if bounds[0] else math.inf
        grid = [_following(grid[::-1], largest), *grid]
    if not shares and not bounds[0] <= grid[0] <= grid[-1] <= bounds[1] * (1 + 1e-9):
        return None
    added = [float(f"{value:.3g}") for value in (*grid[:below], *grid[len(grid) - above :])]
    if shares:
        added = [round(1 - value, 9) for value in added if value < 1]
    ends = (value for value in added if not values[0] <= value <= values[-1])
    return sorted({*values, *ends})


def _following(values: Sequence[float], largest: float) -> float:
    """Return the next value: 30 after 1, 3, 10, and 100 after 1, 10.

    The ratio to the last value is between `SMALLEST_RATIO` and the smaller of `LARGEST_RATIO` and
    `largest`.
    """
    if len(values) < 2:
        return LARGEST_RATIO * values[-1]
    *before, ratio = (high / low for low, high in pairwise(values))
    if before and max(before[-1] / ratio, ratio / before[-1]) < ALIKE:
        ratio = before[-1]
    largest = max(SMALLEST_RATIO, min(LARGEST_RATIO, largest))
    size = min(largest, max(SMALLEST_RATIO, ratio if ratio > 1 else 1 / ratio))
    return values[-1] * (size if ratio > 1 else 1 / size)
