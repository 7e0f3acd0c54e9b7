"""Pages about rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from optrial.errors import StudyError
from optrial.explain.comparison import explain
from optrial.explain.page import (
    explanation_html,
    explanation_markdown,
    picture_of,
    rule_markdown,
)
from optrial.rules import MODIFIERS, RULES
from tests.report.pages import parse_page

NASTY = "</script><img src=x onerror=alert(1)> | *a* & `b`"


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_page(name: str) -> None:
    rule, explanation = RULES[name], explain(RULES[name])
    (article,) = parse_page(explanation_html([name])).all("article", id=name)
    assert article.all("h1")[0].text == rule.title
    formulas = article.all("math")
    lengths = [len(steps) for steps in (rule.plain_equations, rule.equations) if steps]
    assert [len(formula.all("mtr")) for formula in formulas] == lengths
    for formula in formulas:
        assert formula.attributes["display"] == "block"
        assert "&" not in formula.text
    assert not article.all("pre")  # no formula is shown as its source
    rows = [[cell.text for cell in row.children] for row in article.all("tr")]
    for h in rule.hyperparameters:
        assert [h.name, h.written, str(h.default).lower(), h.range, h.meaning] in rows
    meanings = [row[-1] for row in rows]
    for meaning in (*rule.symbols.values(), *explanation.facts.values(), *rule.state.values()):
        assert meaning in meanings
    for sentence in (rule.conventions, rule.paper, explanation.torch, *explanation.cost):
        assert sentence in article.text
    assert len(article.all("g", class_="track")) == len({"sgd", name})
    for relative, difference in explanation.relatives.items():
        assert difference in article.text
        assert name in explain(RULES[relative]).relatives


def test_several_rules_are_compared() -> None:
    page = parse_page(explanation_html(["adam", "adamw", "adam"]))
    assert [article.attributes["id"] for article in page.all("article")] == ["adam", "adamw"]
    (section,) = page.all("section", id="comparison")
    assert ["default lr", "0.001", "0.001"] in [
        [cell.text for cell in row.children] for row in section.all("tr")
    ]
    assert "weight_decay = 0" in section.text
    assert len(page.all("clippath")) == 2
    assert not page.all("script")
    assert explanation_markdown(["adam", "adamw"]).count("\n## Paper\n") == 2


@pytest.mark.parametrize("make", [explanation_html, explanation_markdown])
def test_unknown_rules_are_refused(make: Callable[[list[str]], str]) -> None:
    with pytest.raises(StudyError, match="Did you mean 'adam'"):
        make(["adm"])


def test_texts_of_rules_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = replace(RULES["adam"], title=NASTY, conventions=NASTY, direction=NASTY)
    changed = replace(MODIFIERS["agc"], title=NASTY, conventions=NASTY)
    monkeypatch.setattr("optrial.explain.page.selected", lambda _: ([nasty], [changed], None))
    page = parse_page(explanation_html(["adam"]))
    assert page.all("h1")[0].text == NASTY
    assert not page.all("img")
    text = explanation_markdown(["adam"])
    assert "<" not in text
    assert r"\*a\*" in text


def test_markdown_has_the_same_content() -> None:
    rule = RULES["adam"]
    explanation = explain(rule)
    text = rule_markdown(explanation, picture_of(rule), "adam.png")
    assert text.startswith("# Adam\n")
    assert r"v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\" in text
    assert "| beta1 | β₁ | 0.9 | 0 ≤ beta1 &lt; 1 |" in text
    assert "(adam.png)" in text
    assert all(f"]({name}.md)" in text for name in explanation.relatives)
    assert rule.paper in text
    tables = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(tables) == {3, 6}
    assert "![" not in rule_markdown(explanation)
