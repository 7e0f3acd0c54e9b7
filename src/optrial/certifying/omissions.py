"""Edits of a program in which a line, a term, a factor or a root is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from optrial.certifying.changes import Edit, edit_of_line
from optrial.replay.equations import Assignment, Program, number

__all__ = ["of_line", "omissions"]


def omissions(program: Program) -> Iterator[Edit]:
    """Yield all programs that lack one part."""
    yield from _lines_left_out(program)
    yield from _terms_left_out(program)
    yield from _roots_left_out(program)
    yield from _factors_left_out(program)


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
