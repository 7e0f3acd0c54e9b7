"""What `optrial explain` prints."""

from __future__ import annotations

from itertools import combinations

import pytest

from optrial.errors import StudyError
from optrial.rules import RULES, compare, explain, render_explanation


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_explains_everything_the_catalogue_holds(name: str, width: int) -> None:
    rule = RULES[name]
    text = render_explanation([name], width)
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
    assert "How" not in text.splitlines()[-1]


def test_torch_counterpart_is_what_a_user_would_type() -> None:
    assert explain(RULES["adam"]).torch.startswith(
        "torch.optim.Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08)"
    )
    assert explain(RULES["lion"]).torch == "none"


@pytest.mark.parametrize(("first", "second"), list(combinations(RULES, 2)))
def test_every_pair_is_told_apart(first: str, second: str) -> None:
    text = str(compare([RULES[first], RULES[second]]).pairs[0])
    assert "differ in" in text
    assert text.endswith(".")


def test_aspects_hold_one_value_a_rule() -> None:
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
        (("sgd", "momentum"), "momentum is sgd at momentum = 0."),
        (("momentum", "sgd"), "momentum is sgd at momentum = 0."),
        (
            ("sgd", "rmsprop"),
            "rmsprop is momentum at eps → ∞ with lr = eps · (lr of momentum), "
            "and momentum is sgd at momentum = 0.",
        ),
        (
            ("momentum", "nesterov"),
            "Both contain sgd: momentum is sgd at momentum = 0; nesterov is sgd at momentum = 0.",
        ),
        (("nadam", "adam"), "nadam coincides with adam where beta1 is 0 in both."),
        (("sgd", "lion"), ""),
    ],
)
def test_relation_of_a_pair(pair: tuple[str, str], relation: str) -> None:
    assert compare([RULES[name] for name in pair]).pairs[0].relation == relation


def test_adamw_differs_from_adam_in_weight_decay_alone() -> None:
    pair = compare([RULES["adam"], RULES["adamw"]]).pairs[0]
    assert pair.separation.startswith("They differ in default weight decay; they agree in ")


def test_what_is_smaller_than_a_parameter_is_told_too() -> None:
    rules = [RULES["adafactor"], RULES["prodigy"]]
    assert compare(rules).aspects["arrays kept per parameter"] == (
        "0, and smaller ones (row, column)",
        "4 (mean, square, weighted, start), and smaller ones (distance, progress)",
    )
    assert "Kept once for the whole model" in render_explanation(["prodigy"])
    assert "decoupled (part of the equations), 0" in render_explanation(["lamb"])


def test_a_repeated_name_is_explained_once() -> None:
    assert render_explanation(["adam", "adam"]) == render_explanation(["adam"])


def test_all_unknown_names_are_reported_at_once() -> None:
    with pytest.raises(
        StudyError, match=r"(?s)'adm' is not a rule.*'lionn' is not a rule"
    ) as caught:
        render_explanation(["adm", "sgd", "lionn"])
    assert len(caught.value.problems) == 2
