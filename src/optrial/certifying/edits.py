"""Single edits of a program: what one changed line of an implementation amounts to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations

from optrial.certifying.changes import EPS, Edit, edit_of_line
from optrial.certifying.omissions import of_line, omissions
from optrial.errors import all_listed
from optrial.replay.equations import (
    NORMS,
    Assignment,
    Condition,
    Expression,
    Program,
    name,
    number,
)

__all__ = ["exchanged", "single_edits"]

_FACTORS = 2.0, 0.5, -1.0
_MOST_COEFFICIENTS = 3
_LEAST_POWER = -12
"""Of ten: the least bound that is tried."""


def single_edits(program: Program, hyperparameters: Sequence[str]) -> Iterator[Edit]:
    """Yield all programs that differ in one place, the likelier slips first.

    Args:
        program: the equations of a rule.
        hyperparameters: names of the rule's hyperparameters, and of weight decay.
    """
    yield from _exchanges(program, hyperparameters)
    yield from _coefficients_exchanged(program)
    yield from _shifts_of_time(program)
    yield from _quotients_inverted(program)
    yield from omissions(program)
    yield from _lines_rewritten(program, hyperparameters)
    yield from _one_for_another(program, hyperparameters)
    for index, line in enumerate(program.lines):
        for value, description, symbols in _changed_values(line, program, hyperparameters):
            yield edit_of_line(program, index, value, description, symbols)
        if line.times > 1:
            yield from _other_counts(program, index)
        if line.condition is not None:
            changed = replace(line, condition=None)
            text = f"`{line}` counts in every step, not only {_condition_text(line.condition)}"
            yield Edit(program.with_line(index, changed), text, str(line), str(line))
    yield from _bounds_changed(program)
    yield from _starts_changed(program)
    yield from _lines_moved(program)
    yield from _parts_repeated(program)
    yield from _derived_parts(program)
    yield from _bounded_below(program)


def exchanged(program: Program, one: str, other: str) -> Program:
    """Return the program with two symbols exchanged everywhere."""
    names = {one: other, other: one}
    return program.mapped(
        lambda part: (
            name(names[part.text]) if part.operator == "name" and part.text in names else None
        )
    )


def _exchanges(program: Program, hyperparameters: Sequence[str]) -> Iterator[Edit]:
    used = [symbol for symbol in hyperparameters if symbol in program.names()]
    for index, one in enumerate(used):
        for other in used[index + 1 :]:
            yield Edit(
                exchanged(program, one, other),
                f"{one} and {other} are exchanged",
                symbols=frozenset({one, other}),
            )


def _condition_text(condition: Condition) -> str:
    left, right = condition
    if left.operator == "number":  # of a line that counts where another one does not
        return "under its condition"
    return f"if {left}" if right == number(0) else f"if {left} > {right}"


def _quotients_inverted(program: Program) -> Iterator[Edit]:
    for index, line in enumerate(program.lines):
        for path, part in line.value.places():
            if part.operator == "/":
                value = line.value.with_part(path, Expression("/", parts=part.parts[::-1]))
                text = f"dividend and divisor of {part} are exchanged"
                yield edit_of_line(program, index, value, text)


def _derived_parts(program: Program) -> Iterator[Edit]:
    """Put what another line makes of a symbol, as m / (1 − beta1^t) of m, in its place."""
    parts = [part for line in program.lines for _, part in line.value.places()]
    derived = [p for p in dict.fromkeys(parts) if p.operator == "/" and p.parts[0].text]
    for index, line in enumerate(program.lines):
        for new in derived:
            symbol = new.parts[0].text
            if symbol in line.value.names() and not _holds(line.value, new):
                value = line.value.mapped(_renaming(symbol, new))
                text = f"{new} stands in place of {symbol}"
                yield edit_of_line(program, index, value, text, frozenset(new.names()))


def _one_for_another(program: Program, hyperparameters: Sequence[str]) -> Iterator[Edit]:
    """Put one hyperparameter in place of another in several lines: all that have it, or a part."""
    for old, new in permutations(hyperparameters, 2):
        having = [i for i, line in enumerate(program.lines) if old in line.value.names()]
        for first, end in combinations(range(len(having) + 1), 2):
            chosen = having[first:end]
            if len(chosen) < 2:
                continue
            lines = list(program.lines)
            for index in chosen:
                value = lines[index].value.mapped(_renaming(old, name(new)))
                lines[index] = replace(lines[index], value=value)
            changed = replace(program, lines=tuple(lines))
            where = all_listed([f"`{lines[i]}`" for i in chosen])
            text = f"{new} stands in place of {old} in {where}"
            yield Edit(changed, text, symbols=frozenset({old, new}))


def _coefficients_exchanged(program: Program) -> Iterator[Edit]:
    """Put the coefficients of the terms of a sum, with their signs, in another order."""
    for index, line in enumerate(program.lines):
        terms = list(_terms(line.value))
        paths = [path for _, term in terms if (path := _coefficient(term)) is not None]
        if not 2 <= len(paths) == len(terms) <= _MOST_COEFFICIENTS:
            continue
        values = [
            sign * float(_part(term, path).text)
            for (sign, term), path in zip(terms, paths, strict=True)
        ]
        for order in permutations(values):
            if list(order) == values:
                continue
            changed = _sum_of(
                (value, term.with_part(path, number(abs(value))))
                for value, (_, term), path in zip(order, terms, paths, strict=True)
            )
            ordered = ", ".join(f"{value:g}".replace("-", "−") for value in order)
            text = f"the coefficients come in the order {ordered}"
            yield edit_of_line(program, index, changed, text)


def _terms(expression: Expression, sign: int = 1) -> Iterator[tuple[int, Expression]]:
    """Yield the terms of a sum with their signs."""
    if expression.operator in ("+", "−"):
        left, right = expression.parts
        yield from _terms(left, sign)
        yield from _terms(right, sign if expression.operator == "+" else -sign)
    elif expression.operator == "neg":
        yield from _terms(expression.parts[0], -sign)
    else:
        yield sign, expression


def _coefficient(term: Expression) -> tuple[int, ...] | None:
    """Return the path to the number that a term begins with; None without one."""
    path: tuple[int, ...] = ()
    while term.operator in ("·", "@"):
        path, term = (*path, 0), term.parts[0]
    return path if path and term.operator == "number" else None


def _part(expression: Expression, path: tuple[int, ...]) -> Expression:
    for index in path:
        expression = expression.parts[index]
    return expression


def _sum_of(terms: Iterable[tuple[float, Expression]]) -> Expression:
    """Return the sum of terms with the signs of numbers."""
    (first_sign, total), *others = terms
    total = Expression("neg", parts=(total,)) if first_sign < 0 else total
    for sign, term in others:
        total = Expression("−" if sign < 0 else "+", parts=(total, term))
    return total


def _shifts_of_time(program: Program) -> Iterator[Edit]:
    for text, time in _other_times():
        shifted = program.mapped(lambda part, time=time: time if part == name("t") else None)  # type: ignore[misc]
        if shifted != program:
            yield Edit(shifted, f"{text} stands in place of t", symbols=frozenset("t"))


def _other_times() -> list[tuple[str, Expression]]:
    one = number(1)
    return [
        ("t − 1", Expression("−", parts=(name("t"), one))),
        ("t + 1", Expression("+", parts=(name("t"), one))),
        ("2·t", Expression("·", parts=(number(2), name("t")))),
        ("1", one),
    ]


def _parts_repeated(program: Program) -> Iterator[Edit]:
    """Put a symbol, or another part of the line, in place of a part."""
    assigned = [line.symbol for line in program.lines if line.symbol != "θ"]
    symbols = [name(symbol) for symbol in dict.fromkeys(["g", *assigned])]
    for index, line in enumerate(program.lines):
        places = list(line.value.places())
        compound = [part for _, part in places if part.parts]
        for path, part in places:
            for new in dict.fromkeys([*(symbols if part.parts else ()), *compound]):
                if new == part or _holds(new, part) or part.operator == "number":
                    continue
                value, text = line.value.with_part(path, new), f"{new} stands in place of {part}"
                yield edit_of_line(
                    program, index, value, text, frozenset(part.names() ^ new.names())
                )


def _bounded_below(program: Program) -> Iterator[Edit]:
    """Put a power of ten as the least value of a side of a quotient, or under a root."""
    for index, line in enumerate(program.lines):
        for path, whole in line.value.places():
            for side, part in enumerate(whole.parts if whole.operator in ("/", "√") else ()):
                if part.operator == "number":
                    continue
                for power in range(_LEAST_POWER, 0):
                    bounded = Expression("max", parts=(part, number(10.0**power)))
                    value = line.value.with_part((*path, side), bounded)
                    text = f"{bounded} stands in place of {part}"
                    yield edit_of_line(program, index, value, text)


def _holds(whole: Expression, part: Expression) -> bool:
    """Return whether a compound part occurs in an expression."""
    return bool(part.parts) and any(inner == part for _, inner in whole.places())


def _bounds_changed(program: Program) -> Iterator[Edit]:
    """Change a number in the conditions of all lines."""

    def changed(line: Assignment, old: Expression, new: Expression) -> Assignment:
        if line.condition is None:
            return line
        sides = (side.mapped(lambda part: new if part == old else None) for side in line.condition)
        return replace(line, condition=Condition(*sides))

    sides = [side for line in program.lines for side in line.condition or ()]
    parts = [part for side in sides for _, part in side.places() if part.operator == "number"]
    for old in dict.fromkeys(parts):
        if old.text in ("0", "1"):  # of switches
            continue
        for value in _other_numbers(float(old.text)):
            lines = tuple(changed(line, old, number(value)) for line in program.lines)
            yield Edit(
                replace(program, lines=lines),
                f"{value:g} stands in place of {old.text} in a condition",
            )


def _starts_changed(program: Program) -> Iterator[Edit]:
    """Put something else in place of a hyperparameter with which a symbol starts."""
    for symbol, start in program.starts.items():
        if start.operator != "name" or start.text == "θ":
            continue
        for text, new in _of_name(start):
            yield Edit(
                replace(program, starts={**program.starts, symbol: new}),
                f"{symbol} starts at {text}, not at {start}",
                symbols=frozenset({start.text}),
            )


def _lines_rewritten(program: Program, hyperparameters: Sequence[str]) -> Iterator[Edit]:
    """Exchange a symbol for something else throughout a line."""
    for index, line in enumerate(program.lines):
        for one, other in combinations(sorted(line.value.names() - set(hyperparameters)), 2):
            swapped = exchanged(replace(program, lines=(line,)), one, other).lines[0]
            changed = replace(swapped, symbol=line.symbol)
            yield Edit(
                program.with_line(index, changed),
                f"{one} and {other} are exchanged",
                str(line),
                str(changed),
                frozenset({one, other}),
            )
        for old in sorted(line.value.names()):
            others = [(symbol, name(symbol)) for symbol in hyperparameters if symbol != old]
            if old == "g":
                kept = [line.symbol for line in program.lines if line.symbol not in ("θ", "g")]
                less = [Expression("−", parts=(name("g"), name(symbol))) for symbol in kept]
                others += [(str(each), each) for each in less]
            for text, new in (*others, *_of_name(name(old))):
                changed = replace(line, value=line.value.mapped(_renaming(old, new)))
                yield Edit(
                    program.with_line(index, changed),
                    f"{text} stands in place of {old}",
                    str(line),
                    str(changed),
                    frozenset({old}) | new.names(),
                )


def _renaming(old: str, new: Expression) -> Callable[[Expression], Expression | None]:
    return lambda part: new if part == name(old) else None


def _lines_moved(program: Program) -> Iterator[Edit]:
    lines = program.lines
    for index, line in enumerate(lines):
        rest = (*lines[:index], *lines[index + 1 :])
        for place in range(len(lines)):
            if place != index:
                moved = replace(program, lines=(*rest[:place], line, *rest[place:]))
                where = f"before `{rest[place]}`" if place < len(rest) else "last"
                yield Edit(moved, f"`{line}` comes {where}", symbols=of_line(line))
        for place in range(len(lines) + 1):
            twice = replace(program, lines=(*lines[:place], line, *lines[place:]))
            text = f"`{line}` is carried out twice"
            yield Edit(twice, text, symbols=of_line(line))


def _other_counts(program: Program, index: int) -> Iterator[Edit]:
    line = program.lines[index]
    for times in range(1, 13):
        if times != line.times:
            changed = replace(line, times=times)
            text = f"the iteration runs {times} times, not {line.times}"
            yield Edit(program.with_line(index, changed), text, str(line), str(line))


Change = tuple[Expression, str, frozenset[str]]


def _changed_values(
    line: Assignment, program: Program, hyperparameters: Sequence[str]
) -> Iterator[Change]:
    """Yield the right side of a line with one place changed."""
    symbols = _substitutes(program, hyperparameters)
    for path, part in line.value.places():
        for new, text in _changed_parts(part, symbols):
            own = {part.text} if part.operator == "name" else set()
            involved = frozenset((part.names() ^ new.names()) | own)
            yield line.value.with_part(path, new), text, involved
    for factor in _FACTORS:
        scaled = Expression("·", parts=(number(factor), line.value))
        yield scaled, f"{line.symbol} is {factor:g} times as large", frozenset({line.symbol})


def _substitutes(program: Program, hyperparameters: Sequence[str]) -> list[str]:
    assigned = [line.symbol for line in program.lines]
    return list(dict.fromkeys([*hyperparameters, "g", *assigned, "t"]))


def _changed_parts(part: Expression, symbols: Sequence[str]) -> Iterator[tuple[Expression, str]]:
    """Yield what may stand in place of a part, with the change as a clause."""
    operator = part.operator
    if operator == "name":
        yield from _instead_of_name(part, symbols)
        return
    if operator == "number":
        for value in _other_numbers(float(part.text)):
            yield number(value), f"{value:g} stands in place of {part.text}"
        return
    if operator in _OTHERS:
        yield from _instead_of_pair(part)
    else:
        if operator == "^" and part.parts[1] == number(2):
            size = Expression("|", parts=(part.parts[0],))
            whole = Expression("^", parts=(Expression("‖", parts=part.parts[:1]), number(2)))
            for new in (size, Expression("mean", parts=(part,)), whole):
                yield new, f"{new} stands in place of {part}"
        if operator == "‖":
            for norm, text in NORMS.items():
                yield replace(part, operator=norm), f"{text} stands in place of {part}"
            square = Expression("^", parts=(part, number(2)))
            yield square, f"{square} stands in place of {part}"
        sign = {"|": "|·|", "‖": "the norm", "neg": "−", "^": "the power"}.get(operator, operator)
        yield part.parts[0], f"{sign} is left out of {part}"
        if operator == "√":
            third = Expression("/", parts=(number(1), number(3)))
            cube = Expression("^", parts=(part.parts[0], third))
            yield cube, f"{cube} stands in place of {part}"
        if operator == "√" and part.parts[0].operator == "+" and part.parts[0].parts[1] == EPS:
            outside = Expression("+", parts=(replace(part, parts=part.parts[0].parts[:1]), EPS))
            yield outside, f"{outside} stands in place of {part}"
    yield Expression("neg", parts=(part,)), f"the sign of {part} is reversed"


def _instead_of_name(part: Expression, symbols: Sequence[str]) -> Iterator[tuple[Expression, str]]:
    for symbol in symbols:
        if symbol != part.text:
            yield name(symbol), f"{symbol} stands in place of {part.text}"
    for text, new in _of_name(part):
        yield new, f"{text} stands in place of {part.text}"


_OTHERS = {"+": "−", "−": "+", "·": "/", "/": "·", "max": "min", "min": "max", "@": "@"}
"""Operators of two operands, and what is written for them by mistake."""
_ROLES = {
    "+": "the term",
    "−": "the term",
    "·": "the factor",
    "/": "the divisor",
    "@": "the factor",
}


def _instead_of_pair(part: Expression) -> Iterator[tuple[Expression, str]]:
    """Yield changes of an operator with two operands."""
    operator, (left, right) = part.operator, part.parts
    role = _ROLES.get(operator, f"{operator} with")
    yield left, f"{role} {right} is left out"
    if operator == "/":
        yield Expression("/", parts=(number(1), right)), f"the factor {left} is left out"
    elif operator == "−":
        yield right, f"{right} stands in place of {left} − {right}"
    else:
        yield right, f"{role} {left} is left out"
    if operator == "@":
        yield Expression("@", parts=(right, left)), "the factors are in the other order"
        return
    other = _OTHERS[operator]
    yield Expression(other, parts=part.parts), f"{other} stands in place of {operator}"
    if operator == "+" and left.operator == "√" and right == EPS:
        inside = Expression("√", parts=(Expression("+", parts=(left.parts[0], EPS)),))
        yield inside, f"{inside} stands in place of {part}"
    if operator in ("max", "min"):
        yield Expression("+", parts=part.parts), f"a sum stands in place of {operator}"
    is_square = right.operator == "^" and right.parts[1] == number(2)
    if operator in ("·", "/") and not is_square:  # whose root is a magnitude
        root = Expression("√", parts=(right,))
        yield Expression(operator, parts=(left, root)), f"√ is taken of {right}"


def _of_name(part: Expression) -> Iterator[tuple[str, Expression]]:
    """Yield what else may stand for a symbol."""
    one = number(1)
    if part.text == "t":
        yield from _other_times()
    else:
        complement = Expression("−", parts=(one, part))
        square = Expression("^", parts=(part, number(2)))
        for new in (
            number(0),
            one,
            complement,
            square,
            Expression("·", parts=(number(2), part)),
            Expression("max", parts=(part, number(0))),
            Expression("√", parts=(part,)),
            Expression("·", parts=(name("lr"), part)),
            Expression("/", parts=(part, name("lr"))),
            Expression("|", parts=(part,)),
            Expression("sign", parts=(part,)),
            Expression("neg", parts=(part,)),
        ):
            yield str(new), new


def _other_numbers(value: float) -> list[float]:
    candidates = [value + 1, value - 1, 2 * value, value / 2, 0.0, 1.0, -value]
    candidates += [10 * value, value / 10]  # another place of the decimal point
    digits = [round(value, places) for places in range(4)]
    return [other for other in dict.fromkeys([*candidates, *digits]) if other != value]
