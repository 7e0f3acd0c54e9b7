from __future__ import annotations

from pathlib import Path

import pytest

from optrial.errors import OptrialError, StudyError
from optrial.explaining import (
    count_operations,
    explain_html,
    explain_markdown,
    kept_arrays,
    rule_page,
    write_rule_docs,
)
from optrial.rules import RULES
from tests.report.pages import parse_page


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        # -lr g, and the addition to the parameter.
        ("sgd", {"multiplication": 1, "addition": 1}),
        # momentum u + g, -lr u, and the addition.
        ("momentum", {"multiplication": 2, "addition": 2}),
        # sign(b1 m + (1 - b1) g), -lr d, b2 m + (1 - b2) g, and the addition.
        ("lion", {"multiplication": 5, "addition": 3, "sign": 1}),
        # Counted by hand in the five lines of `adam`; 1 - beta^t and lr over it are numbers.
        ("adam", {"multiplication": 6, "addition": 4, "division": 2, "square root": 1}),
        # The same, and the parameter times 1 - lr weight_decay.
        ("adamw", {"multiplication": 7, "addition": 4, "division": 2, "square root": 1}),
    ],
)
def test_operations_are_those_counted_by_hand(name: str, operations: dict[str, int]) -> None:
    assert count_operations(RULES[name]) == operations


@pytest.mark.parametrize("name", RULES)
def test_memory_is_what_the_catalogue_says(name: str) -> None:
    # Beyond whole arrays, only rows, columns and numbers may be kept.
    assert RULES[name].state_size <= kept_arrays(RULES[name]) < RULES[name].state_size + 0.1


@pytest.mark.parametrize("name", RULES)
def test_every_rule_has_a_page(name: str) -> None:
    page = rule_page(RULES[name])
    assert [path.name for path in page.picture.paths] == list(dict.fromkeys(["sgd", name]))
    html = parse_page(explain_html([name]))
    (formula,) = html.all("math")  # none is shown as its source
    assert len(formula.all("mtr")) >= page.equations_latex.count(r"\\" + "\n")
    assert len(html.all("pre")) == 1
    for relative in page.neighbours:
        assert relative in RULES
        assert name in rule_page(RULES[relative]).neighbours


def test_two_rules_are_compared() -> None:
    html = parse_page(explain_html(["adam", "adamw", "adam"]))
    assert [article.attributes["id"] for article in html.all("article")] == ["adam", "adamw"]
    assert "weight_decay = 0" in html.all("section", id="comparison")[0].text
    assert explain_markdown(["adam", "adamw"]).count("\n## Paper\n") == 2


def test_unknown_rules_are_refused() -> None:
    for make in (explain_html, explain_markdown):
        with pytest.raises(StudyError, match="Did you mean 'adam'"):
            make(["adm"])


def test_docs_link_to_files_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: RULES[name] for name in ("sgd", "lars")}
    monkeypatch.setattr("optrial.explaining.RULES", few)
    write_rule_docs(tmp_path / "rules")
    written = {file.name for file in (tmp_path / "rules").iterdir()}
    assert written == {"index.md", *(f"{name}.{kind}" for name in few for kind in ("md", "png"))}
    assert "(lars.png)" in (tmp_path / "rules" / "lars.md").read_text("utf-8")
    assert "(lars.md)" in (tmp_path / "rules" / "index.md").read_text("utf-8")


def test_docs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("in the way")
    with pytest.raises(OptrialError, match="rules cannot be written: File exists"):
        write_rule_docs(tmp_path / "rules")
