"""Equations in plain text become LaTeX."""

from __future__ import annotations

import pytest

from optrial.explain.formulas import equations_latex, symbol_latex

SYMBOLS = {"lr": "η", "beta1": "β₁", "momentum": "μ", "eps": "ε", "d0": "d₀"}


@pytest.mark.parametrize(
    ("line", "latex"),
    [
        ("u ← momentum·u + g", r"u &\leftarrow \mu u + g"),
        ("a = b − c", "a &= b - c"),
        ("θ ← −lr·g²", r"\theta &\leftarrow - \eta g^2"),
        # A product between spaces binds less than a quotient, one without spaces more.
        ("a ← lr · m / n", r"a &\leftarrow \eta\, \frac{m}{n}"),
        ("a ← lr·m / n", r"a &\leftarrow \frac{\eta m}{n}"),
        ("a ← m / n · k / l", r"a &\leftarrow \frac{m}{n}\, \frac{k}{l}"),
        # Within a fraction, an exponent or a function, quotients have a slash.
        ("a ← (m / n) / (k / l)", r"a &\leftarrow \frac{m / n}{k / l}"),
        ("a ← max(m / n, k)", r"a &\leftarrow \max(m / n, k)"),
        ("a ← m / (k / (l·n))", r"a &\leftarrow \frac{m}{k / (l n)}"),
        ("a ← (m / n)·k", r"a &\leftarrow \frac{m}{n}\, k"),
        # Parentheses grow around a fraction and vanish below a root or in an exponent.
        ("a ← lr·(m / n + k)", r"a &\leftarrow \eta\, \left(\frac{m}{n} + k\right)"),
        ("a ← √(m + eps)", r"a &\leftarrow \sqrt{m + \varepsilon}"),
        ("a ← √max(m, n)", r"a &\leftarrow \sqrt{\max(m, n)}"),
        ("a ← 1 − beta1^(t + 1)", r"a &\leftarrow 1 - \beta_1^{t + 1}"),
        ("a ← (X·Xᵀ)²", r"a &\leftarrow (X X^{\mathsf T})^2"),
        ("a ← ‖θ₀‖₁ + |g|", r"a &\leftarrow \lVert \theta_0 \rVert_1 + |g|"),
        ("a ← ⟨g, θ′⟩", r"a &\leftarrow \langle g, \theta' \rangle"),
        ("a ← sign(m)", r"a &\leftarrow \operatorname{sign}(m)"),
        ("c ← lr² / Σ lr²", r"c &\leftarrow \frac{\eta^2}{\textstyle\sum \eta^2}"),
        # A remark is text, except for the symbols in it.
        ("a ← b   if l > 5", r"a &\leftarrow b \quad \text{if } l > 5"),
        ("a ← b   from d = d0", r"a &\leftarrow b \quad \text{from } d = d_0"),
        ("a ← b   for a vector", r"a &\leftarrow b \quad \text{for a vector}"),
        ("a ← match_rms", r"a &\leftarrow \text{match\_rms}"),
    ],
)
def test_notation(line: str, latex: str) -> None:
    assert equations_latex([line], SYMBOLS) == latex


def test_lines_are_aligned() -> None:
    assert equations_latex(["a ← b", "b ← a"], {}) == "a &\\leftarrow b \\\\\nb &\\leftarrow a"


@pytest.mark.parametrize("line", ["a", "a ← ", "a ← b +", "a ← (b", "a ← b c", "a ← b % c"])
def test_other_notation_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="cannot be read from"):
        equations_latex([line], {})


def test_symbols() -> None:
    assert [symbol_latex(symbol) for symbol in ("η", "β₁", "x", "d₀", "clip_value")] == [
        *(r"\eta", r"\beta_1", "x", "d_0", r"\text{clip\_value}")
    ]
