"""The entries of the catalogue are complete and true."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from optrial.errors import StudyError
from optrial.rules import RULES, Rule, apply_all, get_rules, initialise_all
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT64

EACH_RULE = pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
WORDS = {
    *("if", "otherwise", "from", "is", "a", "for", "over", "each", "row", "column", "vector"),
    *("matrix", "five", "times", "max", "min", "mean", "sign", "exp", "log", "AdamW"),
    *("multiple", "of", "in", "the", "first", "step", "later", "steps"),
}
HUGE = 1e13


@EACH_RULE
def test_entry_is_complete(rule: Rule) -> None:
    assert RULES[rule.name] is rule
    assert re.search(r"\((19|20)\d\d\)", rule.paper), "a citation with its year"
    for text in (rule.title, rule.conventions, rule.direction, rule.scaling, rule.equations):
        assert text
    printed = [*rule.symbols, *(h.symbol or h.name for h in rule.hyperparameters)]
    assert len(set(printed)) == len(printed), "no symbol has two meanings"
    assert all(h.meaning for h in rule.hyperparameters)
    assert rule.hyperparameters[0].name == "lr"
    assert rule.update.__doc__
    assert rule.update.__doc__.startswith("One step of ")


@EACH_RULE
def test_hyperparameters_are_those_of_the_update(rule: Rule) -> None:
    parameters = inspect.signature(rule.update).parameters.values()
    named = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert named == [*rule.needs, *(h.name for h in rule.hyperparameters)]


@EACH_RULE
def test_needs_fit_together(rule: Rule) -> None:
    assert ("weight_decay" in rule.needs) == (rule.own_decay is not None)
    assert ("model" in rule.needs) == (rule.model is not None)


@EACH_RULE
def test_symbols_of_the_equations_are_those_explained(rule: Rule) -> None:
    text = re.sub("[²′ᵀ₀₁]", "", "\n".join(rule.equations))
    symbols = set(re.findall(r"[^\W\d]\w*", text)) - WORDS
    assert symbols == set(rule.terms)


@EACH_RULE
def test_state_lists_the_arrays_kept_for_a_matrix_at_the_defaults(rule: Rule) -> None:
    param = np.ones((3, 4))
    states = initialise_all(rule, {"w": param}, rule.defaults)
    kept = states["" if rule.as_one_vector else "w"]
    arrays = {name: a for name, a in kept._asdict().items() if a is not None}
    assert [n for n, array in arrays.items() if array.shape == param.shape] == list(rule.state)
    assert [n for n, array in arrays.items() if array.shape != param.shape] == list(
        rule.reduced_state
    )
    assert rule.state_size == len(rule.state)
    assert list(states[""]._asdict() if rule.model else {}) == list(
        rule.model.state if rule.model else {}
    )


@EACH_RULE
def test_defaults_are_allowed(rule: Rule) -> None:
    assert [h.check(h.default) for h in rule.hyperparameters] == [None] * len(rule.hyperparameters)
    assert rule.default_weight_decay >= 0


@EACH_RULE
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, True, "0.1", None, [0.1]])
def test_bad_values_are_refused_by_every_hyperparameter(rule: Rule, value: object) -> None:
    for hyperparameter in rule.hyperparameters:
        if hyperparameter.scale == "switch" and value is True:
            continue
        reason = hyperparameter.check(value)
        assert reason is not None
        assert repr(value) in reason
        assert hyperparameter.name in reason
        default = hyperparameter.default
        assert f"such as {int(default) if hyperparameter.whole else default} (" in reason


@pytest.mark.parametrize(
    ("rule", "name", "allowed", "refused"),
    [
        ("sgd", "lr", [1e-9, 1, 1e6, np.float32(0.1)], [0, 0.0, -1]),
        ("momentum", "momentum", [0, 0.0, 0.9999], [1, 1.0, 1.5]),
        ("adam", "beta1", [0, 0.9], [1.0]),
        ("adam", "beta2", [0, 0.9], [1.0]),
        ("adam", "eps", [0, 0.0, 1.0], [-1e-9]),
        ("rmsprop", "rho", [0, 1, 0.5], [1.01]),
        ("adadelta", "rho", [0, 1, 0.5], [1.01]),
        ("rmsprop", "centered", [True, False], [0, 1, 1.0]),
        ("adafactor", "decay_exponent", [0, 0.8, 1], [-0.8, 1.1]),
        ("adafactor", "clip_threshold", [1, 2.0], [0.5, 0]),
        ("schedule_free_sgd", "momentum", [0.1, 1], [0, 1.1]),
        ("prodigy", "d0", [1e-9, 1.0], [0]),
    ],
)
def test_ranges(rule: str, name: str, allowed: list[Any], refused: list[Any]) -> None:
    known = {h.name: h for h in RULES[rule].hyperparameters}[name]
    assert [value for value in allowed if known.check(value)] == []
    assert [value for value in refused if not known.check(value)] == []


def test_the_message_of_a_bad_value() -> None:
    lr, momentum = RULES["momentum"].hyperparameters
    assert lr.check(-1.0) == "-1.0: must be a finite number, lr > 0, such as 0.01 (the default)."
    assert momentum.check(1.5) == (
        "1.5: must be a finite number, 0 ≤ momentum < 1, such as 0.9 (the default)."
    )


def test_get_rules() -> None:
    assert get_rules(["adam", "sgd"]) == [RULES["adam"], RULES["sgd"]]
    with pytest.raises(StudyError, match=r"'rmsprob' is not a rule. Did you mean 'rmsprop'.*nadam"):
        get_rules(["rmsprob"])


@EACH_RULE
def test_aliases_name_no_other_hyperparameter(rule: Rule) -> None:
    names = {h.name for h in rule.hyperparameters}
    assert not names & {alias for h in rule.hyperparameters for alias in h.aliases}


Values = dict[str, Any]
TurnInto = Callable[[Values, int], Values]


def limit(**fixed: float) -> TurnInto:
    """Return hyperparameters of a general rule with an eps that dominates every divisor."""
    return lambda special, _t: {**fixed, "eps": HUGE, "lr": HUGE * special["lr"]}


def momentum_limit(special: Values, t: int) -> Values:
    beta1 = special["momentum"]
    lr = HUGE * special["lr"] * (1 - beta1**t) / (1 - beta1)
    return {"beta1": beta1, "eps": HUGE, "lr": lr}


def follow_momentum(special: Values, _t: int) -> Values:
    return {"momentum": special["momentum"], "eps": HUGE, "lr": HUGE * special["lr"]}


def averaging(special: Values) -> Values:
    return {"lr": special["lr"] / (1 - special["momentum"]), "momentum": special["momentum"]}


GENERALISES: dict[tuple[str, str], TurnInto] = {
    ("momentum", "sgd"): lambda special, _t: {**special, "momentum": 0.0},
    ("nesterov", "sgd"): lambda special, _t: {**special, "momentum": 0.0},
    ("adagrad", "sgd"): limit(lr_decay=0.0),
    ("qhm", "sgd"): lambda special, _t: {**special, "momentum": 0.9, "nu": 0.0},
    ("qhm", "momentum"): lambda special, _t: {**averaging(special), "nu": 1.0},
    ("qhm", "nesterov"): lambda special, _t: {**averaging(special), "nu": special["momentum"]},
    ("asgd", "sgd"): lambda special, _t: {**special, "lambd": 0.0, "alpha": 1.0, "t0": HUGE},
    ("signum", "signsgd"): lambda special, _t: {**special, "momentum": 0.0},
    ("ademamix", "adam"): lambda special, _t: {
        **special,
        **{"beta3": 0.9, "alpha": 0.0, "warmup": 0.0},
    },
    ("rmsprop", "momentum"): follow_momentum,
    ("rmsprop_nesterov", "nesterov"): follow_momentum,
    ("adadelta", "sgd"): lambda special, _t: {**special, "eps": HUGE},
    ("adam", "momentum"): momentum_limit,
    ("adam", "sgd"): limit(beta1=0.0),
    ("adamw", "adam"): lambda special, _t: special,
    ("adamw", "momentum"): momentum_limit,
    ("adamw", "sgd"): limit(beta1=0.0),
    ("amsgrad", "momentum"): momentum_limit,
    ("amsgrad", "sgd"): limit(beta1=0.0),
    ("adamax", "momentum"): momentum_limit,
    ("adamax", "sgd"): limit(beta1=0.0),
    ("nadam", "sgd"): limit(beta1=0.0),
    ("radam", "sgd"): lambda special, _t: {**special, "beta1": 0.0, "beta2": 0.0},
}

SIGN = {"beta1": 0.0, "beta2": 0.0, "eps": 0.0}
COINCIDES: dict[tuple[str, str], tuple[Values, Values]] = {
    ("rmsprop_nesterov", "rmsprop"): ({"momentum": 0.0, "rho": 0.9, "lr": 0.01}, {"rho": 0.9}),
    ("adam", "rmsprop"): ({"beta1": 0.0, "beta2": 0.5, "lr": 0.01}, {"rho": 0.5}),
    ("adamw", "rmsprop"): ({"beta1": 0.0, "beta2": 0.5, "lr": 0.01}, {"rho": 0.5}),
    ("adamax", "adam"): ({"beta2": 0.0, "lr": 0.01}, {"beta2": 0.0, "lr": 0.01}),
    ("nadam", "adam"): ({"beta1": 0.0, "lr": 0.01}, {"beta1": 0.0, "lr": 0.01}),
    ("laprop", "adam"): (
        {"beta1": 0.0, "lr": 0.01, "eps": 1e-3},
        {"beta1": 0.0, "lr": 0.01, "eps": 1e-3},
    ),
    ("signsgd", "adam"): ({"lr": 0.01}, {**SIGN, "lr": 0.01}),
    ("signsgd", "lion"): ({"lr": 0.01}, {"beta1": 0.0, "lr": 0.01}),
    ("signum", "lion"): (
        {"momentum": 0.9, "lr": 0.01},
        {"beta1": 0.9, "beta2": 0.9, "lr": 0.01},
    ),
    ("lion", "adam"): ({"beta1": 0.0, "lr": 0.01}, {**SIGN, "lr": 0.01}),
    ("prodigy", "adam"): (
        {"d_coef": 0.0, "d0": 0.5, "lr": 0.02, "beta1": 0.4, "beta2": 0.5},
        {"lr": 0.01, "beta1": 0.4, "beta2": 0.5},
    ),
    ("lion", "rmsprop"): ({"beta1": 0.0, "lr": 0.01}, {"rho": 0.0, "eps": 0.0}),
}
LATE = 50
"""Steps after which 0.5**t has died away."""


def changes(rule: Rule, at: TurnInto | None, special: Values, steps: int) -> list[np.ndarray]:
    """Return every change of a rule whose hyperparameters may depend on the step."""
    param, *grads = np.random.default_rng(5).standard_normal((steps + 1, 4, 3))
    values = [rule.defaults | (at(special, t) if at else special) for t in range(steps + 1)]
    params, steps_taken = {"w": param}, []
    state = initialise_all(rule, params, values[1])
    for step, grad in enumerate(grads, start=1):
        grads_of = {"w": grad}
        moved, state = apply_all(
            rule, params, grads_of, state, step, values[step], curvature=grads_of
        )
        steps_taken.append(moved["w"] - params["w"])
        params = moved
    return steps_taken


def test_every_statement_of_the_catalogue_is_tested_here() -> None:
    assert set(GENERALISES) == {(r.name, name) for r in RULES.values() for name, _ in r.generalises}
    assert set(COINCIDES) == {
        (r.name, name) for r in RULES.values() for name, _ in r.coincides_with
    }


@pytest.mark.parametrize(("general", "special"), list(GENERALISES))
def test_general_rule_becomes_the_special_one(general: str, special: str) -> None:
    ranges = {"lr": 0.03, "momentum": 0.7, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
    values = {name: ranges[name] for name in RULES[special].defaults}
    ours = changes(RULES[general], GENERALISES[general, special], values, 60)
    assert relative_error(ours, changes(RULES[special], None, values, 60)) <= RULE_FLOAT64
    plain = changes(RULES[general], None, RULES[general].defaults, 60)
    if (general, special) != ("adamw", "adam"):  # which are the same function
        assert relative_error(plain, ours) > RULE_FLOAT64, "the condition matters"


@pytest.mark.parametrize(("first", "second"), list(COINCIDES))
def test_rules_coincide(first: str, second: str) -> None:
    ours, theirs = (
        changes(RULES[name], None, values, 2 * LATE)[LATE:]
        for name, values in zip((first, second), COINCIDES[first, second], strict=True)
    )
    assert relative_error(ours, theirs) <= RULE_FLOAT64
