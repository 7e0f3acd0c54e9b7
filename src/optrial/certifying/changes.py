"""Changes of the equations of a rule, and the expressions that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from optrial.certifying.findings import Kind
from optrial.replay.equations import (
    Assignment,
    Expression,
    Program,
    name,
    number,
)

__all__ = [
    "DECAY",
    "DECAY_OF_GRADIENT",
    "DECAY_OF_WEIGHTS",
    "EPS",
    "GRADIENT",
    "LR",
    "MOMENTUM",
    "ONE",
    "PARAMETER",
    "TIME",
    "Change",
    "Convention",
    "Edit",
    "corrected_maximum",
    "difference",
    "edit_of_line",
    "of_root",
    "product",
    "quotient",
    "read_otherwise",
    "root",
    "rooted",
    "total",
]

Change = Callable[[Program], Program | None]

ONE = number(1)

EPS, TIME, LR, DECAY, MOMENTUM = map(name, ("eps", "t", "lr", "weight_decay", "momentum"))

PARAMETER, GRADIENT = name("θ"), name("g")


@dataclass(frozen=True)
class Convention:
    """A way to compute a rule that differs from its equations here.

    Attributes:
        name: what it concerns.
        sentence: what an implementation that follows it does, after its name.
        change: returns the changed program; None, or the same one, where it does not apply.
        kind: whether implementations may follow it.
        is_kind_of_decay: whether it is another kind of weight decay than the rule's.
    """

    name: str
    sentence: str
    change: Change
    kind: Kind = Kind.CONVENTION
    is_kind_of_decay: bool = False


@dataclass(frozen=True)
class Edit:
    """A program that differs from a rule's in one place.

    Attributes:
        program: the changed program.
        description: what was changed, as a clause: "t − 1 stands in place of t".
        before: the line that was changed, as the rule has it; empty if several were.
        after: the same line in the changed program; empty if it was left out.
        symbols: symbols of the changed place.
    """

    program: Program
    description: str
    before: str = ""
    after: str = ""
    symbols: frozenset[str] = frozenset()


def edit_of_line(
    program: Program,
    index: int,
    value: Expression,
    description: str,
    symbols: frozenset[str] = frozenset(),
) -> Edit:
    """Return the edit that gives one line another value; see `Edit` for the last arguments."""
    line = program.lines[index]
    changed = replace(line, value=value)
    return Edit(program.with_line(index, changed), description, str(line), str(changed), symbols)


def total(left: Expression, right: Expression) -> Expression:
    """Return left + right."""
    return Expression("+", parts=(left, right))


def difference(left: Expression, right: Expression) -> Expression:
    """Return left − right."""
    return Expression("−", parts=(left, right))


def product(left: Expression, right: Expression) -> Expression:
    """Return left · right."""
    return Expression("·", parts=(left, right))


def quotient(left: Expression, right: Expression) -> Expression:
    """Return left / right."""
    return Expression("/", parts=(left, right))


DECAY_OF_GRADIENT = Assignment("g", total(GRADIENT, product(DECAY, PARAMETER)))
"""The line of l2 weight decay."""

DECAY_OF_WEIGHTS = Assignment("θ", difference(PARAMETER, product(product(LR, DECAY), PARAMETER)))
"""The line of decoupled weight decay."""


def root(part: Expression) -> Expression:
    """Return √part."""
    return Expression("√", parts=(part,))


def rooted(part: Expression) -> Expression | None:
    """Return A of a part √A + eps."""
    if part.operator != "+" or part.parts[1] != EPS or part.parts[0].operator != "√":
        return None
    return part.parts[0].parts[0]


def of_root(new: Callable[[Expression], Expression | None]) -> Change:
    """Return a change that replaces every √A + eps by what `new` makes of A."""

    def change_part(part: Expression) -> Expression | None:
        inner = rooted(part)
        return None if inner is None else new(inner)

    return lambda program: program.mapped(change_part)


def read_otherwise(
    program: Program, index: int, line: Assignment, instead: Mapping[Expression, Expression]
) -> Program:
    """Return a program with another line, after which parts are read as others."""
    later = (
        replace(each, value=each.value.mapped(instead.get)) for each in program.lines[index + 1 :]
    )
    return replace(program, lines=(*program.lines[:index], line, *later))


def corrected_maximum(program: Program, *, twice: bool = False) -> Program | None:
    """Take the maximum of corrected averages, and correct it once more if `twice`."""
    if "w" not in {line.symbol for line in program.lines}:
        return None
    correction = difference(ONE, Expression("^", parts=(name("beta2"), TIME)))
    corrected = quotient(name("v"), correction)

    def change_part(part: Expression) -> Expression | None:
        is_corrected = not twice and part == quotient(name("w"), correction)
        return name("w") if is_corrected else None

    lines = [
        replace(line, value=Expression("max", parts=(name("w"), corrected)))
        if line.symbol == "w"
        else replace(line, value=line.value.mapped(change_part))
        for line in program.lines
    ]
    return replace(program, lines=tuple(lines))
