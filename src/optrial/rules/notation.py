"""Equations of rules as they are written in docstrings, read into trees.

    θ ← θ − lr · m / (√v + eps)    otherwise

A line assigns (``←``) or defines (``=``) its left side; a remark in words follows three or more
spaces. ``·`` without spaces binds tightest, then ``/``, then ``·`` between spaces, then sums:
``lr · m / n`` is lr times a fraction, ``lr·m / n`` one fraction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["BRACKETS", "NAME", "SUFFIXES", "Line", "Node", "parse_side", "split_line"]

NAME = r"[A-Za-zα-ω][A-Za-z0-9_]*"
SUFFIXES = "²³ᵀ′₀₁₂₃"
"""Marks that follow a symbol or a bracket: powers, transposes, primes and indices."""
BRACKETS = {"(": ")", "|": "|", "‖": "‖", "⟨": "⟩"}
_TOKEN = re.compile(rf" · |{NAME}|\d+(?:\.\d+)?|\s+|.")


class Line(NamedTuple):
    """A line of equations: its sides, ``←`` or ``=`` between them, and the remark behind them."""

    left: str
    relation: str
    right: str
    remark: str


def split_line(line: str) -> Line:
    """Divide a line of equations into its parts."""
    equation, *remark = re.split(r"\s{3,}", line.strip(), maxsplit=1)
    relation = "←" if "←" in equation else "="
    left, _, right = equation.partition(relation)
    return Line(left, relation, right, "".join(remark))


def parse_side(text: str) -> Node:
    """Read one side of an equation.

    Raises:
        ValueError: it is not in the notation of this module.
    """
    return _Parser(text).parse()


@dataclass(frozen=True)
class Node:
    """A part of an equation: its kind, its text and its parts.

    Kinds are "sum" of "term" (text: its sign), "product" (text: the sign between factors),
    "fraction", "root", "prefix" (text: its sign), "power" (text: a suffix; without one, the second
    part is the exponent), "call" (text: the function), "bracket" (text: the opening one), "number"
    and "name".
    """

    kind: str
    text: str
    parts: tuple[Node, ...] = ()


class _Parser:
    """Recursive descent over the tokens of one side of an equation."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        tokens: list[str] = _TOKEN.findall(self._text)
        self._tokens = [token for token in tokens if token == " · " or not token.isspace()]

    def parse(self) -> Node:
        node = self._sum()
        if self._tokens:
            raise self._error()
        return node

    def _error(self) -> ValueError:
        rest = repr("".join(self._tokens)) if self._tokens else "its end"
        return ValueError(f"'{self._text}' cannot be read from {rest} on.")

    def _next(self) -> str:
        if not self._tokens:
            raise self._error()
        return self._tokens.pop(0)

    def _take(self, *wanted: str) -> str:
        return self._tokens.pop(0) if self._tokens and self._tokens[0] in wanted else ""

    def _sum(self) -> Node:
        terms = [Node("term", self._take("−"), (self._product(),))]
        while sign := self._take("+", "−"):
            terms.append(Node("term", sign, (self._product(),)))
        is_plain = len(terms) == 1 and not terms[0].text
        return terms[0].parts[0] if is_plain else Node("sum", "", tuple(terms))

    def _product(self) -> Node:
        return self._series(" · ", self._quotient)

    def _quotient(self) -> Node:
        node = self._factors()
        while self._take("/"):
            node = Node("fraction", "", (node, self._factors()))
        return node

    def _factors(self) -> Node:
        return self._series("·", self._factor)

    def _series(self, sign: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take(sign):
            parts.append(part())
        return Node("product", sign, tuple(parts)) if len(parts) > 1 else parts[0]

    def _factor(self) -> Node:
        if self._take("√"):
            return Node("root", "", (self._factor(),))
        if self._take("Σ"):
            return Node("prefix", "Σ", (self._factor(),))
        node = self._atom()
        while mark := self._take("^", *SUFFIXES):
            raised = (self._atom(),) if mark == "^" else ()
            node = Node("power", mark.strip("^"), (node, *raised))
        return node

    def _atom(self) -> Node:
        token = self._next()
        if token in BRACKETS:
            return Node("bracket", token, self._inside(BRACKETS[token]))
        if not re.fullmatch(rf"{NAME}|[\d.]+", token):
            self._tokens.insert(0, token)
            raise self._error()
        if self._take("("):
            return Node("call", token, self._inside(")"))
        return Node("number" if token[0].isdigit() else "name", token)

    def _inside(self, closing: str) -> tuple[Node, ...]:
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        if not self._take(closing):
            raise self._error()
        return tuple(parts)
