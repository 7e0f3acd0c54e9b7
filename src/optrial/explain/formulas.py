"""Equations of rules, from the plain text of their docstrings to LaTeX.

    θ ← θ − lr · m / (√v + eps)    otherwise

A line assigns (``←``) or defines (``=``) its left side; a remark in words follows three or more
spaces. ``·`` without spaces binds tightest, then ``/``, then ``·`` between spaces, then sums:
``lr · m / n`` is typeset as lr times a fraction, ``lr·m / n`` as one fraction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["equations_latex", "symbol_latex"]

GREEK = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta"},
    **{"θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ρ": "rho"},
    **{"τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega"},
}
SUBSCRIPTS = str.maketrans("₀₁₂₃", "0123")
POSTFIX = {"²": "^2", "³": "^3", "ᵀ": r"^{\mathsf T}", "′": "'"} | {
    digit: f"_{digit.translate(SUBSCRIPTS)}" for digit in "₀₁₂₃"
}
BRACKETS = {
    "(": ("(", ")", ")"),
    "|": ("|", "|", "|"),
    "‖": (r"\lVert ", r" \rVert", "‖"),
    "⟨": (r"\langle ", r" \rangle", "⟩"),
}
"""Opening bracket -> its LaTeX, that of the closing bracket, and the closing bracket."""

NAME = r"[A-Za-zα-ω][A-Za-z0-9_]*"
TOKEN = re.compile(rf" · |{NAME}|\d+(?:\.\d+)?|\s+|.")
REMARK = re.compile(rf"(?P<name>{NAME})(?: (?P<relation>[=>]) (?P<value>[\w.]+))?")


def equations_latex(equations: Iterable[str], symbols: Mapping[str, str]) -> str:
    """Return equations as the body of a LaTeX ``aligned``.

    Args:
        equations: lines in the notation of this module.
        symbols: name in the equations -> the symbol to print for it: "lr" -> "η".

    Raises:
        ValueError: a line is not in that notation.
    """
    return " \\\\\n".join(_line(line, symbols) for line in equations)


def symbol_latex(symbol: str) -> str:
    """Return the LaTeX of a letter with a subscript, or of a name: "β₁" -> ``\\beta_1``."""
    letter, subscript = symbol[0], symbol[1:].translate(SUBSCRIPTS)
    if subscript and not subscript.isdigit():
        return rf"\text{{{symbol}}}".replace("_", r"\_")
    base = rf"\{GREEK[letter]}" if letter in GREEK else letter
    return f"{base}_{subscript}" if subscript else base


@dataclass(frozen=True)
class _Node:
    """A part of an equation: its kind, the LaTeX or name it is written with, and its parts."""

    kind: str
    text: str
    parts: tuple[_Node, ...] = ()


class _Parser:
    """Recursive descent over the tokens of one side of an equation."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        tokens: list[str] = TOKEN.findall(self._text)
        self._tokens = [token for token in tokens if token == " · " or not token.isspace()]

    def parse(self) -> _Node:
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

    def _sum(self) -> _Node:
        terms = [_Node("term", self._take("−"), (self._product(),))]
        while sign := self._take("+", "−"):
            terms.append(_Node("term", sign, (self._product(),)))
        is_plain = len(terms) == 1 and not terms[0].text
        return terms[0].parts[0] if is_plain else _Node("sum", "", tuple(terms))

    def _product(self) -> _Node:
        return self._series(" · ", r"\, ", self._quotient)

    def _quotient(self) -> _Node:
        node = self._factors()
        while self._take("/"):
            node = _Node("fraction", "", (node, self._factors()))
        return node

    def _factors(self) -> _Node:
        return self._series("·", " ", self._factor)

    def _series(self, sign: str, space: str, part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        while self._take(sign):
            parts.append(part())
        return _Node("product", space, tuple(parts)) if len(parts) > 1 else parts[0]

    def _factor(self) -> _Node:
        if self._take("√"):
            return _Node("root", "", (self._factor(),))
        if self._take("Σ"):
            return _Node("prefix", r"\textstyle\sum ", (self._factor(),))
        node = self._atom()
        while mark := self._take("^", *POSTFIX):
            raised = (self._atom(),) if mark == "^" else ()
            node = _Node("power", POSTFIX.get(mark, ""), (node, *raised))
        return node

    def _atom(self) -> _Node:
        token = self._next()
        if token in BRACKETS:
            return _Node("bracket", token, self._inside(BRACKETS[token][2]))
        if not re.fullmatch(rf"{NAME}|[\d.]+", token):
            self._tokens.insert(0, token)
            raise self._error()
        if self._take("("):
            return _Node("call", token, self._inside(")"))
        return _Node("number" if token[0].isdigit() else "name", token)

    def _inside(self, closing: str) -> tuple[_Node, ...]:
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        if not self._take(closing):
            raise self._error()
        return tuple(parts)


def _line(line: str, symbols: Mapping[str, str]) -> str:
    equation, *remark = re.split(r"\s{3,}", line.strip(), maxsplit=1)
    left, arrow, right = equation.partition("←")
    if not arrow:
        left, arrow, right = equation.partition("=")
    sides = [_Writer(symbols).write(_Parser(side).parse()) for side in (left, right)]
    relation = r"\leftarrow" if arrow == "←" else "="
    words = "".join(rf" \quad {_remark(text, symbols)}" for text in remark)
    return f"{sides[0]} &{relation} {sides[1]}{words}"


def _remark(text: str, symbols: Mapping[str, str]) -> str:
    """Return words as text, with the symbols and comparisons among them as formulas."""

    def formula(match: re.Match[str]) -> str:
        name, relation, value = match["name"], match["relation"], match["value"]
        if name not in symbols and (len(name) > 1 or name == "a"):
            return match[0].replace("_", r"\_")
        latex = [symbol_latex(symbols.get(side, side)) for side in (name, value) if side]
        return rf"}} {f' {relation} '.join(latex)} \text{{"

    return rf"\text{{{REMARK.sub(formula, text)}}}".replace(r"\text{}", "").strip()


class _Writer:
    """Writes nodes as LaTeX; `flat` writes quotients with a slash, as within a fraction."""

    def __init__(self, symbols: Mapping[str, str]) -> None:
        self._kinds: Mapping[str, Callable[[_Node, bool], str]] = {
            "name": lambda node, _: symbol_latex(symbols.get(node.text, node.text)),
            "number": lambda node, _: node.text,
            "sum": self._sum,
            "product": self._product,
            "fraction": self._fraction,
            "root": lambda node, flat: rf"\sqrt{{{self.write(_bare(node.parts[0]), flat)}}}",
            "prefix": lambda node, flat: node.text + self.write(node.parts[0], flat),
            "power": self._power,
            "call": self._call,
            "bracket": self._bracket,
        }

    def write(self, node: _Node, flat: bool = False) -> str:
        return self._kinds[node.kind](node, flat)

    def _sum(self, node: _Node, flat: bool) -> str:
        signs = {"+": " + ", "−": " - ", "": ""}
        terms = [signs[term.text] + self.write(term.parts[0], flat) for term in node.parts]
        return "".join(terms).strip()

    def _product(self, node: _Node, flat: bool) -> str:
        factors = [
            self.write(part if flat or not _is_fraction(_bare(part)) else _bare(part), flat)
            for part in node.parts
        ]
        product = factors[0]
        for factor in factors[1:]:
            is_apart = factor.startswith(("(", r"\left", r"\text")) or product.endswith("}")
            product += (r"\, " if is_apart else node.text) + factor
        return product

    def _fraction(self, node: _Node, flat: bool) -> str:
        above, below = node.parts
        if not flat:
            return "".join([r"\frac", *(f"{{{self.write(_bare(p), True)}}}" for p in node.parts)])
        divisor = _Node("bracket", "(", (below,)) if below.kind == "product" else below
        return f"{self.write(above, True)} / {self.write(divisor, True)}"

    def _power(self, node: _Node, flat: bool) -> str:
        base, *exponent = node.parts
        raised = [f"^{{{self.write(_bare(part), True)}}}" for part in exponent]
        return self.write(base, flat) + "".join(raised or [node.text])

    def _call(self, node: _Node, _flat: bool) -> str:
        is_known = node.text in ("max", "min")
        function = rf"\{node.text}" if is_known else rf"\operatorname{{{node.text}}}"
        return f"{function}({', '.join(self.write(part, True) for part in node.parts)})"

    def _bracket(self, node: _Node, flat: bool) -> str:
        opening, closing, _ = BRACKETS[node.text]
        inside = ", ".join(self.write(part, flat) for part in node.parts)
        is_tall = node.text == "(" and r"\frac" in inside
        return rf"\left({inside}\right)" if is_tall else f"{opening}{inside}{closing}"


def _bare(node: _Node) -> _Node:
    """Return what parentheses hold that a fraction or a root makes superfluous."""
    return node.parts[0] if (node.kind, node.text) == ("bracket", "(") else node


def _is_fraction(node: _Node) -> bool:
    return node.kind == "fraction"
