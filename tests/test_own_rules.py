"""A user-defined rule needs a name, two functions and its hyperparameters, and keeps its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import optrial
from optrial import Study, StudyError
from optrial.rules import RULES, Hyperparameter, Rule
from optrial.rules.arrays import zeros_like
from tests.small import small_keys
from tests.tolerance import METRIC_FLOAT32


class Trace(NamedTuple):
    trace: Any


def named(grad: Any, state: Trace, _: Any, *, lr: Any, beta: Any) -> Any:
    trace = beta * state.trace + grad
    return -lr * trace, Trace(trace)


def one_array(grad: Any, trace: Any, _: Any, *, lr: Any, beta: Any) -> Any:
    trace = beta * trace + grad
    return -lr * trace, trace


def two_arrays(grad: Any, state: Any, _: Any, *, lr: Any, beta: Any) -> Any:
    trace = beta * state[0] + grad
    return -lr * trace, (trace, state[1] + trace)


def no_state(grad: Any, _: Any, __: Any, *, lr: Any) -> Any:
    return -lr * grad, None


RATES = {"lr": 0.1, "beta": 0.9}
BARE = {
    "one array": Rule(
        name="mine", init=lambda p, **_: zeros_like(p), update=one_array, hyperparameters=RATES
    ),
    "a tuple": Rule(
        name="mine",
        init=lambda p, **_: (zeros_like(p), zeros_like(p)),
        update=two_arrays,
        hyperparameters=RATES,
    ),
    "a NamedTuple": Rule(
        name="mine", init=lambda p, **_: Trace(zeros_like(p)), update=named, hyperparameters=RATES
    ),
}
PLAIN = Rule(
    name="plain", init=lambda param, **_: None, update=no_state, hyperparameters={"lr": 0.1}
)


def trained(folder: Path, entry: Any, **changes: Any) -> dict[str, list[float]]:
    """Return the final losses of an optimizer by its name and setting."""
    keys = small_keys(budget={"steps": 10}, **changes) | {"optimizers": [entry]}
    with Study(**keys).run(folder) as results:
        runs = results.runs()
    assert set(runs["status"]) == {"done"}
    return {f"{r.optimizer} {r.setting}": r.train_loss for r in runs.itertuples()}


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_any_form_of_state_takes_the_steps_of_momentum(engine: str, tmp_path: Path) -> None:
    expected = trained(
        tmp_path / "expected", {"rule": "momentum", "lr": [0.05, 0.1]}, engine=engine
    )
    for number, rule in enumerate(BARE.values()):
        entry = {"rule": rule, "lr": [0.05, 0.1]}
        losses = trained(tmp_path / str(number), entry, engine=engine)
        assert list(losses) == ["mine lr=0.05", "mine lr=0.1"]
        assert list(losses.values()) == list(expected.values())


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_a_rule_without_state(engine: str, tmp_path: Path) -> None:
    expected = trained(tmp_path / "expected", {"rule": "sgd", "lr": 0.1}, engine=engine)
    losses = trained(tmp_path / "mine", {"rule": PLAIN}, engine=engine)
    assert list(losses.values()) == list(expected.values())


@pytest.mark.parametrize(
    ("rule", "size"), [(BARE["one array"], 1), (BARE["a tuple"], 2), (PLAIN, 0)]
)
def test_memory_of_the_state_is_known_without_texts(rule: Rule, size: int) -> None:
    assert rule.state_size == size


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_catalogue_has_all_texts(rule: Rule) -> None:
    texts = (rule.title, rule.paper, rule.equations, rule.direction, rule.scaling, rule.conventions)
    assert all(texts)
    assert all(h.meaning for h in rule.hyperparameters)


def test_a_hyperparameter_needs_no_text() -> None:
    rule = replace(PLAIN, hyperparameters=(Hyperparameter("lr", 0.01, low_open=True),))
    assert Study(**small_keys() | {"optimizers": [rule]}).plan().runs[0].hyperparameters == {
        "lr": 0.01
    }


def test_hyperparameters_by_their_defaults_have_ranges() -> None:
    assert BARE["one array"].defaults == RATES
    for lr in (0, -1, True):
        with pytest.raises(StudyError, match=r"lr: .* must be a finite number, lr > 0"):
            Study(**small_keys() | {"optimizers": [{"rule": BARE["one array"], "lr": lr}]})
    Study(**small_keys() | {"optimizers": [{"rule": BARE["one array"], "beta": -0.5}]})
    with pytest.raises(StudyError, match=r"beta: True: must be a finite number, beta of any sign"):
        Study(**small_keys() | {"optimizers": [{"rule": BARE["a tuple"], "beta": True}]})
    with pytest.raises(StudyError, match="Did you mean 'beta'"):
        Study(**small_keys() | {"optimizers": [{"rule": BARE["a tuple"], "betta": 0.5}]})


class Mine(torch.optim.SGD):
    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)


def wrapped(params: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr)


def made() -> Rule:
    return PLAIN


@pytest.mark.parametrize("key", ["rule", "torch", "rule_factory"])
@pytest.mark.parametrize(
    ("thing", "name"),
    [(PLAIN, "plain"), (Mine, "Mine"), (wrapped, "wrapped"), (made, "made")],
)
def test_objects_have_their_own_name_under_any_key(
    key: str, thing: Callable[..., Any] | Rule, name: str
) -> None:
    study = Study(**small_keys() | {"optimizers": [{key: thing, "lr": [0.1, 0.2]}]})
    assert [entry.label for entry in study.config.optimizers] == [name]
    own = Study(**small_keys() | {"optimizers": [{key: thing, "name": "given"}]})
    assert [entry.label for entry in own.config.optimizers] == ["given"]
    both = Study(**small_keys() | {"optimizers": [{key: thing}, {key: thing, "name": "given"}]})
    assert [entry.label for entry in both.config.optimizers] == [name, "given"]


def test_compare_takes_objects_alone_and_with_hyperparameters() -> None:
    results = optrial.compare(
        data="digits",
        model="logistic",
        optimizers=[PLAIN, {"rule": BARE["one array"], "lr": [0.01, 0.1]}, Mine, "sgd"],
        steps=2,
        seeds=1,
    )
    with results:
        runs = results.runs()
    assert list(runs["optimizer"]) == ["plain", "mine", "mine", "Mine", "sgd"]
    losses = dict(zip(runs["optimizer"], runs["train_loss"], strict=True))
    np.testing.assert_allclose(losses["plain"], losses["Mine"], rtol=METRIC_FLOAT32)


def test_objects_that_share_a_name_are_told_apart() -> None:
    def maker(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
        def make(params: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(params, lr=lr)

        return make

    optimizers = [{"torch": maker(0.1)}, {"torch": maker(0.2)}]
    labels = [e.label for e in Study(**small_keys() | {"optimizers": optimizers}).config.optimizers]
    assert len(set(labels)) == 2
    assert all(label.startswith("make_") for label in labels)


@pytest.mark.parametrize("thing", [3, torch.optim.SGD([torch.ones(1)], lr=0.1), object()])
def test_other_objects_are_refused(thing: object) -> None:
    with pytest.raises(StudyError, match=r"optimizers\[0\]\.rule: .*must be the name of a rule"):
        Study(**small_keys() | {"optimizers": [{"rule": thing, "lr": 0.1}]})


def test_a_study_takes_a_model_and_arrays() -> None:
    problem = {
        "dataset": (np.ones((400, 2), np.float32), np.arange(400) % 2),
        "model": lambda: torch.nn.Linear(2, 2),
        "loss": torch.nn.functional.cross_entropy,
    }
    study = Study(problem=problem, budget={"steps": 1}, optimizers=[PLAIN])
    assert len(study.plan().runs) == 3


def test_a_state_that_is_no_array_is_refused() -> None:
    rule = Rule(name="odd", init=lambda p, **_: "m", update=no_state, hyperparameters={"lr": 0.1})
    study = Study(**small_keys() | {"optimizers": [{"rule": rule}]})
    with pytest.raises(StudyError, match=r"failed in init: .*not an array, a tuple of arrays"):
        study.plan()


class Kept:
    """What rules may not do: count, keep or draw outside of their state, or reduce over runs."""

    steps = 0
    former: Any = 0.0


def counts(grad: Any, state: Any, _: Any, *, lr: Any) -> Any:
    Kept.steps += 1
    return -lr * grad / Kept.steps, state


def keeps(grad: Any, state: Any, _: Any, *, lr: Any) -> Any:
    former, Kept.former = Kept.former, grad.sum()
    return -lr * (grad + former), state


def draws(grad: Any, state: Any, _: Any, *, lr: Any) -> Any:
    return -lr * grad * np.random.default_rng().random(), state


def reduces(grad: Any, state: Any, _: Any, *, lr: Any) -> Any:
    """The mean of the whole array, which in a stack is that of all runs."""
    return -lr * grad / (1 + 1e-3 * abs(grad).mean()), state


def rule_with(update: Any) -> Rule:
    def init(param: Any, **_: Any) -> None:
        del param

    return Rule(name="odd", init=init, update=update, hyperparameters={"lr": 0.1})


@pytest.mark.parametrize("update", [counts, keeps, draws])
def test_a_rule_that_does_not_repeat_its_steps_is_refused(update: Any, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="a different change when a step is repeated"):
        trained(tmp_path, {"rule": rule_with(update)})


def test_code_in_the_place_of_a_rule_has_a_way_out() -> None:
    with pytest.raises(
        StudyError, match="by rule_factory: mine:rule, a class of optimizers by torch"
    ):
        Study(**small_keys(optimizers=[{"rule": "mine:rule"}]))


def test_a_rule_that_reduces_over_runs_is_trained_one_by_one(tmp_path: Path) -> None:
    """The difference of a stack is too small to be seen in losses."""
    entry = {"rule": rule_with(reduces), "lr": [0.1, 0.2]}
    alone, stacked = (
        trained(tmp_path / engine, entry, engine=engine, precision="float64")
        for engine in ("reference", "stacked")
    )
    assert alone == stacked
