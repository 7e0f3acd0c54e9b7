"""Equations of rules, from the plain text of their docstrings to LaTeX.

``lr · m / n`` is typeset as lr times a fraction, ``lr·m / n`` as one fraction; see
`optrial.rules.notation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from optrial.rules.notation import NAME, Node, parse_side, split_line

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
    "(": ("(", ")"),
    "|": ("|", "|"),
    "‖": (r"\lVert ", r" \rVert"),
    "⟨": (r"\langle ", r" \rangle"),
}
"""Opening bracket -> the LaTeX of both brackets."""

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


def _line(line: str, symbols: Mapping[str, str]) -> str:
    left, arrow, right, remark = split_line(line)
    sides = [_Writer(symbols).write(parse_side(side)) for side in (left, right)]
    relation = r"\leftarrow" if arrow == "←" else "="
    words = rf" \quad {_remark(remark, symbols)}" if remark else ""
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
        self._kinds: Mapping[str, Callable[[Node, bool], str]] = {
            "name": lambda node, _: symbol_latex(symbols.get(node.text, node.text)),
            "number": lambda node, _: node.text,
            "sum": self._sum,
            "product": self._product,
            "fraction": self._fraction,
            "root": lambda node, flat: rf"\sqrt{{{self.write(_bare(node.parts[0]), flat)}}}",
            "prefix": lambda node, flat: r"\textstyle\sum " + self.write(node.parts[0], flat),
            "power": self._power,
            "call": self._call,
            "bracket": self._bracket,
        }

    def write(self, node: Node, flat: bool = False) -> str:
        return self._kinds[node.kind](node, flat)

    def _sum(self, node: Node, flat: bool) -> str:
        signs = {"+": " + ", "−": " - ", "": ""}
        terms = [signs[term.text] + self.write(term.parts[0], flat) for term in node.parts]
        return "".join(terms).strip()

    def _product(self, node: Node, flat: bool) -> str:
        factors = [
            self.write(part if flat or not _is_fraction(_bare(part)) else _bare(part), flat)
            for part in node.parts
        ]
        product = factors[0]
        for factor in factors[1:]:
            is_apart = factor.startswith(("(", r"\left", r"\text")) or product.endswith("}")
            product += (r"\, " if is_apart or node.text == " · " else " ") + factor
        return product

    def _fraction(self, node: Node, flat: bool) -> str:
        above, below = node.parts
        if not flat:
            return "".join([r"\frac", *(f"{{{self.write(_bare(p), True)}}}" for p in node.parts)])
        divisor = Node("bracket", "(", (below,)) if below.kind == "product" else below
        return f"{self.write(above, True)} / {self.write(divisor, True)}"

    def _power(self, node: Node, flat: bool) -> str:
        base, *exponent = node.parts
        raised = [f"^{{{self.write(_bare(part), True)}}}" for part in exponent]
        return self.write(base, flat) + "".join(raised or [POSTFIX[node.text]])

    def _call(self, node: Node, _flat: bool) -> str:
        is_known = node.text in ("max", "min")
        function = rf"\{node.text}" if is_known else rf"\operatorname{{{node.text}}}"
        return f"{function}({', '.join(self.write(part, True) for part in node.parts)})"

    def _bracket(self, node: Node, flat: bool) -> str:
        opening, closing = BRACKETS[node.text]
        inside = ", ".join(self.write(part, flat) for part in node.parts)
        is_tall = node.text == "(" and r"\frac" in inside
        return rf"\left({inside}\right)" if is_tall else f"{opening}{inside}{closing}"


def _bare(node: Node) -> Node:
    """Return what parentheses hold that a fraction or a root makes superfluous."""
    return node.parts[0] if (node.kind, node.text) == ("bracket", "(") else node


def _is_fraction(node: Node) -> bool:
    return node.kind == "fraction"
