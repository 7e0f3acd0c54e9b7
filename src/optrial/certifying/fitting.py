"""Numbers at the places of a program, fitted to the weights that an optimizer gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optrial.certifying.changes import Edit
from optrial.replay.equations import Expression, Program, name

__all__ = ["NumberPlace", "fitted", "number_places"]


_HALVINGS = 6
"""Most times that a step is halved that leads to numbers with infinite or NaN weights."""


@dataclass(frozen=True)
class NumberPlace:
    """A number of a program, or a factor of 1 on the right side of a line.

    Attributes:
        value: the number.
        edit: number -> the program with this number.
    """

    value: float
    edit: Callable[[float], Edit]


def number_places(program: Program, given: Mapping[str, float]) -> Iterator[NumberPlace]:
    """Yield the places at which a program may have another number.

    Args:
        program: the equations.
        given: hyperparameter -> its value in the training that numbers are fitted to.
    """
    for index, line in enumerate(program.lines):
        for symbol in sorted(line.value.names() & given.keys()):
            yield NumberPlace(given[symbol], _in_place_of(program, index, symbol))
        for path, part in line.value.places():
            if part.operator == "number":
                yield NumberPlace(float(part.text), _with_number(program, index, path, part.text))
            if part.operator == "√":
                yield NumberPlace(0.5, _with_power(program, index, path, part.parts[0]))
        yield NumberPlace(1.0, _scaled(program, index))
        if line.value.operator == "+" and line.value.parts[0] == name(line.symbol):
            yield NumberPlace(0.875, _averaged(program, index))  # near those in use, and none


def _with_number(
    program: Program, index: int, path: tuple[int, ...], before: str
) -> Callable[[float], Edit]:
    line = program.lines[index]

    def edit(value: float) -> Edit:
        new = Expression("number", repr(value))
        changed = replace(line, value=line.value.with_part(path, new))
        text = f"{value:.6g} stands in place of {before}"
        return Edit(program.with_line(index, changed), text, str(line), str(changed))

    return edit


def _in_place_of(program: Program, index: int, symbol: str) -> Callable[[float], Edit]:
    """Return the edit that puts a number in place of a hyperparameter throughout a line."""
    line = program.lines[index]

    def edit(value: float) -> Edit:
        new = Expression("number", repr(value))
        renamed = line.value.mapped(lambda part: new if part == name(symbol) else None)
        changed = replace(line, value=renamed)
        text = f"{value:.6g} stands in place of {symbol}"
        symbols = frozenset({symbol})
        return Edit(program.with_line(index, changed), text, str(line), str(changed), symbols)

    return edit


def _with_power(
    program: Program, index: int, path: tuple[int, ...], base: Expression
) -> Callable[[float], Edit]:
    """Return the edit that puts another power in place of a root."""
    line = program.lines[index]

    def edit(value: float) -> Edit:
        power = Expression("^", parts=(base, Expression("number", f"{value:.6g}")))
        changed = replace(line, value=line.value.with_part(path, power))
        text = f"the power {value:.6g} stands in place of √"
        return Edit(program.with_line(index, changed), text, str(line), str(changed))

    return edit


def _averaged(program: Program, index: int) -> Callable[[float], Edit]:
    """Return the edit that makes an average, with a decay rate, of a sum over all steps."""
    line = program.lines[index]
    kept, added = line.value.parts

    def edit(value: float) -> Edit:
        shares = Expression("number", repr(value)), Expression("number", repr(1 - value))
        parts = tuple(
            Expression("·", parts=(share, part))
            for share, part in zip(shares, (kept, added), strict=True)
        )
        changed = replace(line, value=Expression("+", parts=parts))
        text = f"an average with decay rate {value:.6g} stands in place of the sum {line.symbol}"
        return Edit(program.with_line(index, changed), text, str(line), "")

    return edit


def _scaled(program: Program, index: int) -> Callable[[float], Edit]:
    line = program.lines[index]

    def edit(value: float) -> Edit:
        if line.symbol == "θ" and line.value.operator in ("−", "+"):
            base, change = line.value.parts
            scaled = Expression("·", parts=(Expression("number", repr(value)), change))
            new, what = Expression(line.value.operator, parts=(base, scaled)), "the step"
        else:
            new = Expression("·", parts=(Expression("number", repr(value)), line.value))
            what = line.symbol
        changed = replace(line, value=new)
        text = f"{what} is {value:.6g} times as large"
        return Edit(program.with_line(index, changed), text, str(line), str(changed))

    return edit


def fitted(miss: Callable[[float], NDArray[np.float64]], start: float) -> float | None:
    """Return the number, to six digits, at which `miss` is 0, by Gauss-Newton steps; None without.

    Slopes are those of secants. Several weights together have one solution where each alone has
    more, as those of a polynomial of high degree.

    Args:
        miss: number -> signed distances of weights, (n,).
        start: a number near the solution.
    """
    one, other, most = start, start * (1 + 1e-5) + 1e-6, abs(start) / 5 + 1
    at_one, at_other = miss(one), miss(other)
    for _ in range(12):
        with np.errstate(all="ignore"):
            slope = (at_other - at_one) / (other - one)
            change = float(-(slope @ at_other) / np.square(slope).sum())
        if not math.isfinite(change):
            return None
        change = max(-most, min(most, change))
        one, at_one = other, at_other
        for _ in range(_HALVINGS):
            other, at_other = one + change, miss(one + change)
            if np.isfinite(at_other).all():
                break
            change /= 2
        if other == one:
            break
    rounded = float(f"{other:.6g}")
    return rounded if rounded != start else None
