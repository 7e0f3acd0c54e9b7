"""Grid axes: a field of a study may take one value or several.

lr: 0.1                              one value
lr: [0.01, 0.1]                      a list
lr: {log: [1.0e-4, 1.0], points: 5}  points equal in ratio, both ends included
lr: {lin: [0.0, 0.9], points: 4}     points equal in distance, both ends included
lr: {log: [1.0e-4, 1.0]}             any value between the ends, for a sampler to choose

In a group of parameters, each of these may be relative to the value of the whole entry:

lr: {times: 0.5}                     half the learning rate of the entry
lr: {times: [0.1, 1, 10]}            an axis of factors
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import PlainSerializer, PlainValidator

__all__ = [
    "Axis",
    "AxisField",
    "GroupAxisField",
    "Times",
    "parse_axis",
    "plain_values",
    "rounded",
]

_MOST_POINTS = 10_000
_SIGNIFICANT_DIGITS = 12
"""Spaced values are rounded to this, so that they print short and agree between platforms."""


@dataclass(frozen=True)
class Axis:
    """The values that one field of a study takes.

    Attributes:
        values: the values in the order written, at least one; for a range without points, its ends.
        spacing: spacing of a range; None for a list.
        open: True for a range without points, from which only a sampler can choose.
    """

    values: tuple[Any, ...]
    spacing: Literal["log", "lin"] | None = None
    open: bool = False

    @property
    def drawable(self) -> int:
        """Number of different values that a sampler can draw from a range, at the least."""
        first, last = self.values[0], self.values[-1]
        largest = max(abs(first), abs(last))
        steps = abs(last / largest - first / largest) * 10 ** (_SIGNIFICANT_DIGITS - 1)
        return max(len(self.values), int(steps))


@dataclass(frozen=True)
class Times(Axis):
    """Factors that multiply the entry's value of the same name, in a group of parameters."""


def parse_axis(raw: Any) -> Axis:
    """Read one value, a list of values, or a `log` or `lin` range.

    A list within the list is one value that is a list itself, such as ``betas: [[0.9, 0.99]]``.

    Raises:
        ValueError: an empty or repeating list, a value that is no number, text or switch, or a
            range that is not ``{log|lin: [first, last]}``, with ``points: n`` or without.
    """
    if isinstance(raw, Axis):
        return raw
    if isinstance(raw, dict):
        if "times" in raw:
            raise ValueError("times applies to a group of parameters; write a number here")
        return _range(raw)
    values = tuple(map(_frozen, raw)) if isinstance(raw, list | tuple) else (raw,)
    if not values:
        raise ValueError("an axis needs at least one value")
    for value in values:
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(part, bool | int | float | str) for part in parts):
            raise ValueError("must be a number, a text, or a list of them")
        if not all(isinstance(part, str) or _finite(part) for part in parts):
            raise ValueError("must be a finite number")
    if len({(type(value), value) for value in values}) < len(values):
        raise ValueError("an axis must not repeat a value")
    return Axis(values)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def plain_values(axis: Axis) -> Any:
    """Return an axis as a study file writes it: one value, a list, or a range."""
    if isinstance(axis, Times):
        factors = Axis(**{field.name: getattr(axis, field.name) for field in fields(Axis)})
        return {"times": plain_values(factors)}
    if axis.spacing:
        ends = {axis.spacing: [axis.values[0], axis.values[-1]]}
        return ends if axis.open else ends | {"points": len(axis.values)}
    single = len(axis.values) == 1 and not isinstance(axis.values[0], tuple)
    return axis.values[0] if single else list(axis.values)


def _group_axis(raw: Any) -> Axis:
    """Read an axis of a group: values, or ``{times: values}``."""
    if not isinstance(raw, dict) or "times" not in raw:
        return parse_axis(raw)
    factors = raw["times"]
    if len(raw) > 1 or (isinstance(factors, dict) and "times" in factors):
        raise ValueError("times goes alone, such as {times: 0.5} or {times: {log: [0.1, 10]}}")
    axis = parse_axis(factors)
    if not all(_is_number(value) and value > 0 for value in axis.values):
        raise ValueError("times must be a finite number above 0, or several")
    return Times(axis.values, axis.spacing, axis.open)


AxisField = Annotated[Axis, PlainValidator(parse_axis), PlainSerializer(plain_values)]
GroupAxisField = Annotated[Axis, PlainValidator(_group_axis), PlainSerializer(plain_values)]


def rounded(value: float) -> float:
    """Return `value` to twelve significant digits."""
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _range(raw: dict[Any, Any]) -> Axis:
    """Read ``{log: [a, b], points: n}`` or ``{lin: [a, b], points: n}``, perhaps without points."""
    spacings: tuple[Literal["log", "lin"], ...] = ("log", "lin")
    named = [spacing for spacing in spacings if spacing in raw]
    if set(raw) - {"log", "lin", "points"} or len(named) != 1:
        raise ValueError("a range is written {log: [first, last], points: n} or {lin: ...}")
    kind, points = named[0], raw.get("points", 2)
    if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= _MOST_POINTS:
        raise ValueError(f"points must be a whole number from 2 to {_MOST_POINTS:,}")
    ends = raw[kind]
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(map(_is_number, ends)):
        raise ValueError(f"{kind} must be [first, last], two finite numbers")
    if ends[0] == ends[1]:
        raise ValueError(f"{kind} must run between two different numbers")
    if kind == "log" and min(ends) <= 0:
        raise ValueError("log must run between two positive numbers")
    first, last = map(float, ends)
    space = np.geomspace if kind == "log" else np.linspace
    with np.errstate(all="ignore"):  # ends near the largest numbers may overflow
        values = tuple(map(rounded, space(first, last, points)))
    if not all(map(_finite, values)) or len(set(values)) < points:
        digits = f"numbers that differ in their first {_SIGNIFICANT_DIGITS} digits"
        raise ValueError(f"{kind} and points must give {digits}")
    return Axis(values, kind, "points" not in raw)


def _finite(value: Any) -> bool:
    """Return whether a value is a number that is finite as a floating-point number."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and _finite(value)
