"""Grid axes: a field of a study may take one value or several.

lr: 0.1                              one value
lr: [0.01, 0.1]                      a list
lr: {log: [1.0e-4, 1.0], points: 5}  points equal in ratio, both ends included
lr: {lin: [0.0, 0.9], points: 4}     points equal in distance, both ends included
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import PlainSerializer, PlainValidator

__all__ = ["Axis", "AxisField", "parse_axis", "plain_values"]

_SIGNIFICANT_DIGITS = 12
"""Spaced values are rounded to this, so that they print short and agree between platforms."""


@dataclass(frozen=True)
class Axis:
    """The values that one field of a study takes, in the order written; never empty."""

    values: tuple[Any, ...]


def parse_axis(given: Any) -> Axis:
    """Read one value, a list of values, or a `log` or `lin` range.

    Raises:
        ValueError: an empty or repeating list, a value that is no number, text or switch, or a
            range that is not ``{log|lin: [first, last], points: n}``.
    """
    if isinstance(given, Axis):
        return given
    if isinstance(given, dict):
        return Axis(_spaced(given))
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not values:
        raise ValueError("an axis needs at least one value")
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise ValueError("must be a number, a text, or a list of them")
    if len({(type(value), value) for value in values}) < len(values):
        raise ValueError("an axis must not repeat a value")
    return Axis(values)


def plain_values(axis: Axis) -> Any:
    """Return one value by itself and several as a list, as a study file would have them."""
    return list(axis.values) if len(axis.values) > 1 else axis.values[0]


AxisField = Annotated[Axis, PlainValidator(parse_axis), PlainSerializer(plain_values)]


def _spaced(given: dict[Any, Any]) -> tuple[float, ...]:
    """Return the points of ``{log: [a, b], points: n}`` or ``{lin: [a, b], points: n}``."""
    kinds = {"log", "lin"} & set(given)
    if set(given) - {"log", "lin", "points"} or len(kinds) != 1 or "points" not in given:
        raise ValueError("a range is written {log: [first, last], points: n} or {lin: ...}")
    kind, points = kinds.pop(), given["points"]
    if not isinstance(points, int) or isinstance(points, bool) or points < 2:
        raise ValueError("points must be a whole number, 2 or more")
    ends = given[kind]
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_finite, ends)):
        raise ValueError(f"{kind} must be [first, last], two finite numbers")
    if ends[0] == ends[1]:
        raise ValueError(f"{kind} must run between two different numbers")
    if kind == "log" and min(ends) <= 0:
        raise ValueError("log must run between two positive numbers")
    first, last = map(float, ends)
    space = np.geomspace if kind == "log" else np.linspace
    spaced = space(first, last, points)
    return tuple(float(f"{value:.{_SIGNIFICANT_DIGITS}g}") for value in spaced)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
