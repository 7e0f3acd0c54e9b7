"""Explanations and comparisons of rules, and the text that `optrial explain` prints."""

from __future__ import annotations

from itertools import combinations

import pytest

from optrial.errors import StudyError
from optrial.explain.comparison import compare, explain
from optrial.explain.page import explanation_html, explanation_markdown
from optrial.explain.text import explanation_text
from optrial.rules import MODIFIERS, RULES, Modifier


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_explains_everything_the_catalogue_holds(name: str, width: int) -> None:
    rule = RULES[name]
    text = explanation_text([name], width)
    flat = squeezed(text)
    for line in rule.equations:
        assert line in text
    wanted = [
        rule.title,
        rule.paper,
        rule.conventions,
        *rule.terms.values(),
        *rule.state.values(),
        *rule.reduced_state.values(),
        *(rule.model.state.values() if rule.model else ()),
        *(h.range for h in rule.hyperparameters),
        *(condition for _, condition in rule.generalises + rule.coincides_with),
        explain(rule).torch,
        rule.default_decay,
    ]
    assert [part for part in wanted if squeezed(part) not in flat] == []
    equations = {f"    {line}" for line in rule.equations}
    assert max(len(line) for line in text.splitlines() if line not in equations) <= width


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("modifier", MODIFIERS.values(), ids=MODIFIERS)
def test_modifiers_are_explained(modifier: Modifier, width: int) -> None:
    text = explanation_text(["adam", modifier.name], width)
    flat = squeezed(text)
    wanted = [
        *(modifier.title, modifier.paper, modifier.conventions, *modifier.equations),
        *(*modifier.symbols.values(), *modifier.state.values(), *modifier.reduced_state.values()),
        *(h.range for h in modifier.hyperparameters),
    ]
    assert [part for part in wanted if squeezed(part) not in flat] == []
    for name in (*modifier.symbols, *(h.name for h in modifier.hyperparameters)):
        assert name in "\n".join(modifier.equations), name
    page = explanation_html([modifier.name])
    assert page.count("<math") == 1
    assert "<pre>" not in page
    assert modifier.title in explanation_markdown([modifier.name])


def test_ranges_and_headings() -> None:
    lines = explanation_text(["momentum"], 80).splitlines()
    assert lines[0] == "momentum: Momentum (heavy ball)"
    assert (
        "  momentum = 0.9  decay rate of the velocity (μ, also γ, β, α); 0 ≤ momentum < 1" in lines
    )
    assert [line for line in lines if line and not line.startswith(" ")][1:] == [
        *("Hyperparameters", "Default weight decay", "State per parameter", "Cost", "Conventions"),
        *("Special cases", "Equivalent in torch.optim", "Paper"),
    ]


def test_torch_counterpart_is_what_a_user_would_type() -> None:
    assert explain(RULES["adam"]).torch.startswith(
        "torch.optim.Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08)"
    )
    assert explain(RULES["lion"]).torch == "none"


@pytest.mark.parametrize(("first", "second"), list(combinations(RULES, 2)))
def test_every_pair_differs(first: str, second: str) -> None:
    text = str(compare([RULES[first], RULES[second]]).pairs[0])
    assert "differ in" in text
    assert text.endswith(".")


def test_aspects_have_one_value_per_rule() -> None:
    rules = [RULES[name] for name in ("adam", "rmsprop", "adadelta")]
    comparison = compare(rules)
    assert comparison.names == ("adam", "rmsprop", "adadelta")
    assert comparison.aspects["default lr"] == ("0.001", "0.01", "1")
    assert comparison.aspects["bias correction"][1:] == ("none", "none")
    assert comparison.aspects["arrays kept per parameter"][1] == "1 (square)"
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [
        ("adam", "rmsprop"),
        ("adam", "adadelta"),
        ("rmsprop", "adadelta"),
    ]


@pytest.mark.parametrize(
    ("pair", "relation"),
    [
        (("sgd", "momentum"), "momentum reduces to sgd when momentum = 0."),
        (("momentum", "sgd"), "momentum reduces to sgd when momentum = 0."),
        (
            ("sgd", "rmsprop"),
            "rmsprop reduces to momentum when eps → ∞ with lr = eps · (lr of momentum), "
            "and momentum reduces to sgd when momentum = 0.",
        ),
        (
            ("momentum", "nesterov"),
            "Both contain sgd: momentum reduces to sgd when momentum = 0; "
            "nesterov reduces to sgd when momentum = 0.",
        ),
        (("nadam", "adam"), "nadam equals adam when beta1 is 0 in both."),
        (("sgd", "lion"), ""),
    ],
)
def test_relation_of_a_pair(pair: tuple[str, str], relation: str) -> None:
    assert compare([RULES[name] for name in pair]).pairs[0].relation.endswith(relation)


def test_adamw_differs_from_adam_in_weight_decay_alone() -> None:
    pair = compare([RULES["adam"], RULES["adamw"]]).pairs[0]
    assert pair.separation.startswith("They differ in default weight decay (adam: 0, l2 (added")
    assert pair.separation.count("They differ") == 1
    assert "weights with large gradients decay less" in pair.relation


@pytest.mark.parametrize(
    ("names", "answers"),
    [
        (["adadelta", "rmsprop"], ["the units of the parameter", "its squared steps"]),
        (["adam", "rmsprop"], ["(momentum)", "divides both averages by 1 − beta^t"]),
        (["adagrad"], ["outside the root, where the paper has its small constant δ"]),
        (["adadelta"], ["The paper uses rho = 0.95", "E[Δθ²]"]),
    ],
)
def test_what_an_assignment_asks_is_answered(names: list[str], answers: list[str]) -> None:
    text = squeezed(explanation_text(names))
    assert [answer for answer in answers if answer not in text] == []


def test_roots_are_a_reason_only_where_one_eps_is_inside() -> None:
    pairs = {
        name: compare([RULES["rmsprop"], RULES[name]]).pairs[0] for name in ("adam", "adadelta")
    }
    assert "about as small as eps" in pairs["adam"].separation
    assert "Inside a root" not in pairs["adam"].separation
    assert "Inside a root" in pairs["adadelta"].separation


def test_a_rule_with_options_is_shown_without_them_first() -> None:
    lines = explanation_text(["rmsprop"]).splitlines()
    assert lines[2:4] == ["    r ← rho·r + (1 − rho)·g²", "    θ ← θ − lr · g / (√r + eps)"]
    assert "  With all options:" in lines


def test_usual_letters_are_named() -> None:
    text = squeezed(explanation_text(["rmsprop"]))
    assert "lr = 0.01 learning rate (η, also α, ε); lr > 0" in text
    assert "often v, s or E[g²]" in text


def test_smaller_states_are_explained_too() -> None:
    rules = [RULES["adafactor"], RULES["prodigy"]]
    assert compare(rules).aspects["arrays kept per parameter"] == (
        "0, and smaller ones (row, column)",
        "4 (mean, square, weighted, start), and smaller ones (distance, progress)",
    )
    assert "State of the whole model" in explanation_text(["prodigy"])
    assert "0, decoupled (part of the equations)" in explanation_text(["lamb"])


def test_a_repeated_name_is_explained_once() -> None:
    assert explanation_text(["adam", "adam"]) == explanation_text(["adam"])


def test_all_unknown_names_are_reported_at_once() -> None:
    with pytest.raises(
        StudyError, match=r"(?s)'adm' is not a rule.*'lionn' is not a rule"
    ) as caught:
        explanation_text(["adm", "sgd", "lionn"])
    assert len(caught.value.problems) == 2
