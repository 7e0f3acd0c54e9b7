from __future__ import annotations

from dataclasses import replace

import pytest

from optrial.explaining import rule_page
from optrial.report.explain_page import RuleComparison, RulePage, explain_html, explain_markdown
from optrial.report.pages import mathml
from optrial.rules import get_rule
from tests.report.pages import parse_page

NASTY = "</script><img src=x onerror=alert(1)> | *a* & `b`"


@pytest.fixture(scope="module")
def adam() -> RulePage:
    return rule_page(get_rule("adam"))


def test_the_page_says_all_there_is(adam: RulePage) -> None:
    page = parse_page(explain_html([adam]))
    (article,) = page.all("article", id="adam")
    assert article.all("h1")[0].text == "Adam"
    assert article.all("pre")[0].text == "\n".join(adam.equations)
    rows = [[cell.text for cell in row.children] for row in article.all("tr")]
    assert ["lr", "0.001", "lr > 0", "learning rate: the size of a step"] in rows
    for name, meaning in {**adam.symbols, **adam.facts, **adam.state}.items():
        assert [name, meaning] in rows
    for sentence in (adam.conventions, adam.paper, *adam.cost, *adam.neighbours.values()):
        assert sentence in article.text
    assert len(article.all("g", class_="track")) == 2  # sgd and adam
    assert not page.all("script")


def test_several_rules_are_compared(adam: RulePage) -> None:
    other = replace(adam, name="other", title="Other")
    comparison = RuleComparison(
        ["adam", "other"], {"lr": ("0.1", "0.2")}, {"adam and other": "As."}
    )
    page = parse_page(explain_html([adam, other], comparison))
    assert [article.attributes["id"] for article in page.all("article")] == ["adam", "other"]
    (section,) = page.all("section", id="comparison")
    assert ["lr", "0.1", "0.2"] in [[c.text for c in r.children] for r in section.all("tr")]
    assert "As." in section.text
    assert len(page.all("clippath")) == 2


def test_equations_are_tables_of_mathml(adam: RulePage) -> None:
    page = parse_page(explain_html([adam]))
    (formula,) = page.all("math")
    assert formula.attributes["display"] == "block"
    assert len(formula.all("mtr")) == len(adam.equations) == 3
    assert len(formula.all("msqrt")) == 1
    assert "&" not in formula.text


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


def test_what_rules_say_is_escaped(adam: RulePage) -> None:
    nasty = replace(
        adam, title=NASTY, equations=[NASTY], facts={NASTY: NASTY}, conventions=NASTY, torch=NASTY
    )
    page = parse_page(explain_html([nasty]))
    assert page.all("h1")[0].text == NASTY
    assert not page.all("img")
    text = explain_markdown(nasty)
    outside = text.replace("\n".join(["```text", NASTY, "```"]), "")
    assert "<" not in outside
    assert r"\*a\*" in outside


def test_markdown_has_the_same_content(adam: RulePage) -> None:
    text = explain_markdown(adam, "adam.png")
    assert text.startswith("# Adam\n")
    assert adam.equations_latex in text
    assert "\n".join(adam.equations) in text
    assert "| beta1 | 0.9 | 0 ≤ beta1 &lt; 1 |" in text
    assert "(adam.png)" in text
    assert all(f"]({name}.md)" in text for name in adam.neighbours)
    assert adam.paper in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(tables) == {3, 5}


def test_markdown_without_a_picture(adam: RulePage) -> None:
    assert "![" not in explain_markdown(adam)
