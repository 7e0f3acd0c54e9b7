"""Formulas on pages."""

from __future__ import annotations

import pytest

from optrial.explain.mathml import mathml
from tests.report.pages import parse_page


@pytest.mark.parametrize(
    "latex",
    [
        r"\text{<script>alert(1)</script>}",
        r"\text{&lt;script&gt;}",
        r"\href{javascript:alert(1)}{x}",
        r"x \unknowncommand{",
        r"\frac{1}",
    ],
)
def test_no_formula_becomes_anything_but_a_formula(latex: str) -> None:
    page = parse_page(str(mathml(latex)))
    names = {element.name for element in page.all()}
    assert not names & {"script", "img", "a"}
    assert not any("javascript" in v for e in page.all() for v in e.attributes.values())


def test_a_formula_that_cannot_be_converted_is_shown_as_it_is() -> None:
    assert parse_page(str(mathml(r"\frac{1}"))).all("pre")[0].text == r"\frac{1}"


def test_underscores_in_text_lose_their_backslash() -> None:
    assert parse_page(str(mathml(r"\text{lr\_decay}"))).all("mtext")[0].text == "lr_decay"
