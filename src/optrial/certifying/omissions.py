"""Edits of a program in which a line, a term, a factor, a root or brackets are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from optrial.certifying.changes import Edit, edit_of_line
from optrial.replay.equations import Assignment, Expression, Program, number

__all__ = ["of_line", "omissions"]


def omissions(program: Program) -> Iterator[Edit]:
    """Yield all programs that lack one part."""
    yield from _lines_left_out(program)
    yield from _terms_left_out(program)
    yield from _roots_left_out(program)
    yield from _factors_left_out(program)
    yield from _brackets_left_out(program)


def of_line(line: Assignment) -> frozenset[str]:
    """Return the symbols that a line as a whole concerns."""
    return frozenset(line.value.names() & {"weight_decay"})


def _lines_left_out(program: Program) -> Iterator[Edit]:
    for index, line in enumerate(program.lines):
        rest = program.with_line(index, None)
        starts = {line.symbol: number(0), **program.starts}
        yield Edit(
            rest if line.symbol in ("θ", "g") else replace(rest, starts=starts),
            f"`{line}` is left out",
            str(line),
            symbols=of_line(line),
        )


def _terms_left_out(program: Program) -> Iterator[Edit]:
    """Leave out a term of a sum, or what is subtracted."""
    for index, line in enumerate(program.lines):
        for path, part in line.value.places():
            if part.operator not in ("+", "−"):
                continue
            left, right = part.parts
            for term, rest in ((right, left), (left, right)):
                if term.operator == "number" or (rest is right and part.operator == "−"):
                    continue
                value, text = line.value.with_part(path, rest), f"the term {term} is left out"
                yield edit_of_line(program, index, value, text, frozenset(term.names()))


def _roots_left_out(program: Program) -> Iterator[Edit]:
    for index, line in enumerate(program.lines):
        for path, part in line.value.places():
            if part.operator == "√":
                value = line.value.with_part(path, part.parts[0])
                yield edit_of_line(program, index, value, f"√ is left out of {part}")


def _factors_left_out(program: Program) -> Iterator[Edit]:
    for index, line in enumerate(program.lines):
        for path, part in line.value.places():
            if part.operator != "·":
                continue
            for factor, rest in (part.parts, part.parts[::-1]):
                value, text = line.value.with_part(path, rest), f"the factor {factor} is left out"
                yield edit_of_line(program, index, value, text, frozenset(factor.names()))


def _brackets_left_out(program: Program) -> Iterator[Edit]:
    """Put A·B + C in place of A·(B + C), likewise for quotients, powers and roots."""
    for index, line in enumerate(program.lines):
        for path, part in line.value.places():
            for new, moved in _without_brackets(part):
                value, text = line.value.with_part(path, new), f"{new} stands in place of {part}"
                yield edit_of_line(program, index, value, text, frozenset(moved.names()))


def _without_brackets(part: Expression) -> Iterator[tuple[Expression, Expression]]:
    """Yield a part as it is read without brackets around an operand, and what moves out of it."""
    if part.operator not in ("·", "/", "^", "√"):
        return
    *before, last = part.parts
    for operand in (last, *(new for new, _ in _without_brackets(last))):
        if operand.operator in ("+", "−"):
            inner, rest = operand.parts
            outer = Expression(part.operator, parts=(*before, inner))
            yield Expression(operand.operator, parts=(outer, rest)), rest
    first = part.parts[0]
    if before and first.operator in ("+", "−"):
        rest, inner = first.parts
        outer = Expression(part.operator, parts=(inner, last))
        yield Expression(first.operator, parts=(rest, outer)), inner
