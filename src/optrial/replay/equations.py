"""Equations of a rule as a program: read from its text, evaluated in float64, written again.

A program serves to explain a difference: its parts can be exchanged, see `edits`. The reference
itself is the rule's `update`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.rules import Rule
from optrial.rules.notation import Node, parse_side, split_line

__all__ = ["Assignment", "Expression", "Moment", "Program", "name", "number", "program_of"]

Values = NDArray[np.float64]

PARAMETER, GRADIENT, TIME, DECAY = "θ", "g", "t", "weight_decay"
DECAY_LINES = {
    "l2": "g ← g + weight_decay·θ",
    "decoupled": "θ ← θ − lr·weight_decay·θ",
}
_COUNTS = {"five": 5}
_BINARY: Mapping[str, Callable[[Values, Values], Values]] = {
    "+": np.add,
    "−": np.subtract,
    "·": np.multiply,
    "/": np.divide,
    "^": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "@": np.matmul,
}
_UNARY: Mapping[str, Callable[[Values], Values]] = {
    "neg": np.negative,
    "√": np.sqrt,
    "sign": lambda value: np.subtract(value > 0, value < 0, dtype=np.float64),
    "|": np.abs,
    "exp": np.exp,
    "log": np.log,
    "‖": lambda value: np.sqrt(np.sum(value * value)),
    "ᵀ": np.transpose,
    "row_norms": lambda value: np.linalg.norm(value, axis=-1, keepdims=True),
    "column_norms": lambda value: np.linalg.norm(value, axis=-2, keepdims=True),
    "long_norms": lambda value: np.linalg.norm(value, axis=_longer_axis(value), keepdims=True),
    "short_norms": lambda value: np.linalg.norm(
        value, axis=-3 - _longer_axis(value), keepdims=True
    ),
    "spectral_norm": lambda value: np.asarray(np.linalg.norm(value, 2)),  # of a matrix
    "mean": lambda value: np.asarray(np.sum(value) / max(np.size(value), 1)),
    "rms": lambda value: np.sqrt(np.mean(value * value)),
    "total": lambda value: np.sum(np.abs(value)),
    "largest": lambda value: np.max(np.abs(value)),
}
NORMS: Mapping[str, str] = {
    "row_norms": "the norm of each row",
    "column_norms": "the norm of each column",
    "long_norms": "the norm along the longer side",
    "short_norms": "the norm along the shorter side",
    "spectral_norm": "the spectral norm",
    "rms": "the root mean square",
    "total": "the sum of magnitudes",
    "largest": "the largest magnitude",
}
"""Operators that no equation has, which may stand in place of a norm, and what they are."""


def _longer_axis(value: Values) -> int:
    return -2 if value.ndim > 1 and value.shape[-2] > value.shape[-1] else -1


_STRENGTH = {"+": 1, "−": 1, "neg": 1, "·": 3, "@": 3, "/": 2, "^": 5, "√": 4}


@dataclass(frozen=True)
class Expression:
    """A part of an equation.

    Attributes:
        operator: "name", "number", "Σ", or an operator of `_BINARY` or `_UNARY`.
        text: the name or number.
        parts: operands.
    """

    operator: str
    text: str = ""
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        return _written(self)

    def names(self) -> set[str]:
        """Return the symbols that occur in it."""
        if self.operator == "name":
            return {self.text}
        return {symbol for part in self.parts for symbol in part.names()}

    def places(self, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Expression]]:
        """Yield every part with the path that leads to it."""
        yield path, self
        for index, part in enumerate(self.parts):
            yield from part.places((*path, index))

    def with_part(self, path: tuple[int, ...], part: Expression) -> Expression:
        """Return the expression with one part replaced."""
        if not path:
            return part
        parts = list(self.parts)
        parts[path[0]] = parts[path[0]].with_part(path[1:], part)
        return replace(self, parts=tuple(parts))

    def mapped(self, change: Callable[[Expression], Expression | None]) -> Expression:
        """Return the expression with `change` applied to every part, innermost first."""
        parts = tuple(part.mapped(change) for part in self.parts)
        is_same = all(new is old for new, old in zip(parts, self.parts, strict=True))
        inner = self if is_same else replace(self, parts=parts)
        return change(inner) or inner


def name(text: str) -> Expression:
    """Return a symbol."""
    return Expression("name", text)


def number(value: float) -> Expression:
    """Return a number."""
    return Expression("number", f"{value:g}")


class Condition(NamedTuple):
    """A condition: a switch is on, or one expression is greater than another."""

    left: Expression
    right: Expression


@dataclass(frozen=True)
class Assignment:
    """A line of a program.

    Attributes:
        symbol: the symbol that gets the value.
        value: its value.
        condition: the line counts only if it holds.
        otherwise: the value if the condition does not hold; None to keep the symbol's value.
        times: how often the line is carried out.
    """

    symbol: str
    value: Expression
    condition: Condition | None = None
    otherwise: Expression | None = None
    times: int = 1

    def __str__(self) -> str:
        return f"{self.symbol} ← {self.value}"


class Moment(NamedTuple):
    """One step of one parameter: its gradient or None, the step number, and all values."""

    gradient: Values | None
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Program:
    """Assignments of one step, in order.

    Attributes:
        lines: the assignments.
        starts: symbol -> its value before the first step; 0 for the others.
        needs_matrix: whether parameters are matrices.
    """

    lines: tuple[Assignment, ...]
    starts: Mapping[str, Expression] = field(default_factory=dict)
    needs_matrix: bool = False

    def names(self) -> set[str]:
        """Return all symbols of the right sides."""
        return {symbol for line in self.lines for symbol in line.value.names()}

    def with_line(self, index: int, line: Assignment | None) -> Program:
        """Return the program with one line replaced, or left out."""
        new = () if line is None else (line,)
        return replace(self, lines=(*self.lines[:index], *new, *self.lines[index + 1 :]))

    def mapped(self, change: Callable[[Expression], Expression | None]) -> Program:
        """Return the program with `change` applied to every part of every line."""
        values = [line.value.mapped(change) for line in self.lines]
        lines = tuple(
            line if value is line.value else replace(line, value=value)
            for line, value in zip(self.lines, values, strict=True)
        )
        return replace(self, lines=lines)

    def path(
        self,
        start: Values,
        moments: Sequence[Moment],
        *,
        later: Program | None = None,
        since: float = math.inf,
    ) -> Iterator[Values]:
        """Yield the parameter after each step, (*shape).

        Args:
            start: the parameter before the first step.
            moments: the steps.
            later: the program that counts from step `since` on.
            since: step number of the change.
        """
        shape = start.shape
        flat = start.reshape(shape[0], -1) if self.needs_matrix else start.reshape(-1)
        first = moments[0].values
        memory: dict[str, Values] = {PARAMETER: flat.copy(), "θ₀": flat.copy()}
        if self.needs_matrix:
            memory["R"], memory["C"] = (np.float64(size) for size in flat.shape)  # type: ignore[assignment]
        for line in (*self.lines, *(later.lines if later else ())):
            memory.setdefault(line.symbol, np.zeros_like(flat))
        for symbol, value in self.starts.items():
            memory[symbol] = _value(value, _scalars(first) | memory, memory) + np.zeros_like(flat)
        for moment in moments:
            if moment.gradient is not None:
                memory[GRADIENT] = moment.gradient.reshape(flat.shape)
                memory[TIME] = np.float64(moment.time)  # type: ignore[assignment]
                memory |= _scalars(moment.values)
                current = later if later is not None and moment.time >= since else self
                _step(current.lines, memory)
            yield memory[PARAMETER].reshape(shape)


def _scalars(values: Mapping[str, float]) -> dict[str, Values]:
    return {symbol: np.float64(value) for symbol, value in values.items()}  # type: ignore[misc]


def _step(lines: Sequence[Assignment], memory: dict[str, Values]) -> None:
    """Carry out one step in the memory of one parameter."""
    for line in lines:
        value: Expression | None = line.value
        if line.condition is not None:
            left, right = (_value(side, memory, memory) for side in line.condition)
            value = line.value if bool(left > right) else line.otherwise
        for _ in range(line.times if value is not None else 0):
            assert value is not None
            memory[line.symbol] = _value(value, memory, memory)


def _value(expression: Expression, values: Mapping[str, Values], sums: dict[str, Values]) -> Values:
    """Evaluate an expression; sums over all steps are kept in `sums`."""
    operator, parts = expression.operator, expression.parts
    if operator == "name":
        return values[expression.text]
    if operator == "number":
        return np.float64(expression.text)  # type: ignore[return-value]
    operands = [_value(part, values, sums) for part in parts]
    if operator == "Σ":
        key = str(expression)
        sums[key] = sums.get(key, np.float64(0.0)) + operands[0]
        return sums[key]
    if operator in _UNARY:
        return _UNARY[operator](operands[0])
    if operator == "/" and all(part.operator == "‖" for part in parts) and not all(operands):
        return np.asarray(1.0)  # as in the rules, whose ratio of norms is 1 where one of them is 0
    return _BINARY[operator](*operands)


def program_of(rule: Rule, decay: str) -> Program | None:
    """Return the equations of a rule, preceded by weight decay; None if they are not arithmetic.

    Args:
        rule: the rule.
        decay: kind of weight decay, "l2" or "decoupled".
    """
    if rule.is_joint:
        return None
    is_own = decay == rule.own_decay
    before = [] if is_own else [DECAY_LINES[decay]]
    lines: list[Assignment] = []
    try:
        starts = {
            symbol: _expression(parse_side(match[1]))
            for symbol, meaning in rule.symbols.items()
            if (match := re.search(r"starts at ([θ01])", meaning))
        }
        for text in (*before, *rule.equations):
            lines += _assignments(text, lines, starts)
    except (ValueError, KeyError):
        return None
    if not is_own:  # the coefficient in the rule's own equations is that of `own_decay`
        zero = number(0)
        lines[1:] = [
            replace(line, value=line.value.mapped(lambda p: zero if p == name(DECAY) else None))
            for line in lines[1:]
        ]
    is_matrix = any("ᵀ" in text for text in rule.equations)
    return Program(tuple(lines), starts, is_matrix)


_IF = re.compile(r"if (?P<condition>[^,]+)(?:, otherwise (?P<symbol>\S+) [←=] (?P<value>.+))?")


def _assignments(
    text: str, before: Sequence[Assignment], starts: dict[str, Expression]
) -> list[Assignment]:
    """Return the assignment of a line of text, or none for a line that vectors alone need.

    Raises:
        ValueError: the line is not arithmetic.
    """
    left, _, right, remark = split_line(text)
    if "is a vector" in remark:
        return []
    line = Assignment(_expression(parse_side(left)).text, _expression(parse_side(right)))
    if match := _IF.fullmatch(remark):
        otherwise = _expression(parse_side(match["value"])) if match["value"] else None
        return [replace(line, condition=_condition(match["condition"]), otherwise=otherwise)]
    if remark == "otherwise":
        condition = before[-1].condition
        if condition is None:
            raise ValueError(text)
        # The line before assigns the same symbol; where its condition fails, this value counts.
        opposite = _opposite(condition)
        return [replace(line, condition=opposite)]
    if match := re.fullmatch(r"from (\S+) = (.+)", remark):
        starts[match[1]] = _expression(parse_side(match[2]))
    elif match := re.fullmatch(r"(\w+) times", remark):
        line = replace(line, times=_COUNTS[match[1]])
    elif remark:
        raise ValueError(remark)
    return [line]


def _condition(text: str) -> Condition:
    left, _, right = text.partition(" > ")
    return Condition(_expression(parse_side(left)), _expression(parse_side(right or "0")))


def _opposite(condition: Condition) -> Condition:
    """Return the negation of left > right: 1 > 1 if it holds, 1 > 0 otherwise, through signs."""
    difference = Expression("−", parts=(condition.left, condition.right))
    positive = Expression("max", parts=(Expression("sign", parts=(difference,)), number(0)))
    return Condition(number(1), positive)


def _expression(node: Node) -> Expression:  # noqa: PLR0911  one case per kind
    """Translate a node of the notation into nested operators.

    Raises:
        ValueError: a kind of node that has no value.
    """
    parts = [_expression(part) for part in node.parts]
    match node.kind, node.text:
        case (("name" | "number"), text):
            return Expression(node.kind, text)
        case "sum", _:
            return _sum(node, parts)
        case "term", _:
            return parts[0]
        case "product", _:
            return _folded(parts, _product)
        case "fraction", _:
            return Expression("/", parts=(parts[0], parts[1]))
        case "root", _:
            return Expression("√", parts=(parts[0],))
        case "prefix", _:
            return Expression("Σ", parts=(parts[0],))
        case "power", _:
            return _power(node, parts)
        case "bracket", "(":
            return parts[0]
        case "bracket", ("|" | "‖") as sign if len(parts) == 1:
            return Expression(sign, parts=(parts[0],))
        case "call", ("max" | "min" | "sign" | "exp" | "log") as function:
            return Expression(function, parts=tuple(parts))
    raise ValueError(f"'{node.text or node.kind}' has no value.")


def _sum(node: Node, parts: Sequence[Expression]) -> Expression:
    total: Expression | None = None
    for term, part in zip(node.parts, parts, strict=True):
        if total is None:
            total = Expression("neg", parts=(part,)) if term.text else part
        else:
            total = Expression(term.text or "+", parts=(total, part))
    assert total is not None
    return total


def _folded(
    parts: Sequence[Expression], join: Callable[[Expression, Expression], Expression]
) -> Expression:
    first, *others = parts
    for part in others:
        first = join(first, part)
    return first


def _product(left: Expression, right: Expression) -> Expression:
    operator = "@" if _is_matrix(left) and _is_matrix(right) else "·"
    return Expression(operator, parts=(left, right))


def _is_matrix(expression: Expression) -> bool:
    """Return whether a factor is X, which is multiplied as a matrix."""
    if expression.operator == "‖":
        return False
    is_x = expression == name("X")
    return is_x or any(_is_matrix(part) for part in expression.parts)


def _power(node: Node, parts: Sequence[Expression]) -> Expression:
    base = parts[0]
    match node.text:
        case "":
            return Expression("^", parts=(base, parts[1]))
        case "²":
            if _is_matrix(base):
                return Expression("@", parts=(base, base))
            return Expression("^", parts=(base, number(2)))
        case "ᵀ" if _is_matrix(base):
            return Expression("ᵀ", parts=(base,))
        case mark if base.operator == "name":
            return name(base.text + mark)
    raise ValueError(f"'{node.text}' has no value.")


def _written(expression: Expression, strength: int = 0) -> str:  # noqa: PLR0911  one per kind
    """Return an expression in the notation of the rules."""
    operator, parts = expression.operator, expression.parts
    if operator in ("name", "number"):
        return expression.text
    if operator in ("sign", "max", "min", "exp", "log", "mean", *NORMS):
        return f"{operator}({', '.join(map(_written, parts))})"
    if operator in ("|", "‖"):
        return f"{operator}{_written(parts[0])}{operator}"
    if operator == "^" and parts[1] == number(2):
        return f"{_written(parts[0], 5)}²"
    if operator == "ᵀ":
        return f"{_written(parts[0], 5)}ᵀ"
    if operator in ("√", "Σ"):
        return f"{operator}{_written(parts[0], 5)}"
    level = _STRENGTH[operator]
    if operator == "neg":
        text = f"−{_written(parts[0], 2)}"
    else:
        sign = {"·": "·", "@": "·", "^": "^"}.get(operator, f" {operator} ")
        # Operands to the right of − and / need brackets at the same strength.
        sides = level, level + (operator in ("−", "/", "^"))
        text = sign.join(_written(part, side) for part, side in zip(parts, sides, strict=True))
    return f"({text})" if level < strength else text
