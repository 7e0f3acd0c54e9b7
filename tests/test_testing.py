"""`check_rule` passes every rule of the catalogue and finds what is wrong with others."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from optrial.rules import RULES, Hyperparameter, Rule
from optrial.testing import check_rule

MOMENTUM = RULES["momentum"]


class State(NamedTuple):
    velocity: Any


def heavy_ball(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    velocity = momentum * state.velocity + grad
    return -lr * velocity, State(velocity)


def in_place(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    state.velocity[...] = momentum * state.velocity + grad
    return -lr * state.velocity, state


def random(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    change, state = heavy_ball(grad, state, step, lr=lr, momentum=momentum)
    return change * np.random.default_rng().random(), state


def normalised_over_the_stack(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    return heavy_ball(grad / (grad * grad).sum() ** 0.5, state, step, lr=lr, momentum=momentum)


def widened(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    change, state = heavy_ball(grad, state, step, lr=lr, momentum=momentum)
    wide = np.float64 if isinstance(grad, np.ndarray) else torch.float64
    return change * (np.ones(1) if wide is np.float64 else torch.ones(1, dtype=wide)), state


def branching(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    return heavy_ball(grad, state, step, lr=lr if step < 2 else lr / 2, momentum=momentum)


def uphill(grad: Any, state: Any, step: Any, *, lr: Any, momentum: Any) -> Any:
    change, state = heavy_ball(grad, state, step, lr=lr, momentum=momentum)
    return change + math.inf, state


def forgetful(grad: Any, state: Any, step: Any, *, lr: Any) -> Any:
    return -lr * grad, state


def shared(param: Any, **_: Any) -> State:
    return State(velocity=param)


@pytest.mark.one_in(13)
@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_every_rule_of_the_catalogue_passes(rule: Rule) -> None:
    check_rule(rule)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"update": in_place}, "changes its input 'matrix.velocity' in place"),
        ({"update": random}, "must not draw random numbers"),
        ({"update": normalised_over_the_stack}, "of a stack (3,) differs from the same run alone"),
        ({"update": widened}, "changes from float32 (3, 4, 3) to float64 (3, 4, 3)"),
        ({"update": branching}, "One compiled program serves all steps"),
        ({"update": uphill}, "is not finite after 50 steps"),
        ({"update": forgetful}, "takes ['lr'] but is given ['lr', 'momentum']"),
        ({"init": shared}, "'matrix' and 'matrix.velocity' share their memory"),
        ({"state": {}}, "the state 'velocity' is kept, but not explained"),
        ({"state": {**MOMENTUM.state, "u": "what?"}}, "'u' is explained, but not kept"),
        ({"paper": ""}, "`paper` is empty"),
        ({"symbols": {**MOMENTUM.symbols, "ψ": "?"}}, "'ψ' is explained but not in the equations"),
        (
            {
                "hyperparameters": (
                    *MOMENTUM.hyperparameters[:1],
                    Hyperparameter(name="momentum", default=2.0, meaning="memory", high=1.0),
                )
            },
            "momentum = 2.0: must be a finite number, 0 ≤ momentum ≤ 1",
        ),
        ({"hyperparameters": MOMENTUM.hyperparameters[::-1]}, "first hyperparameter must be `lr`"),
    ],
)
def test_finds(changes: dict[str, Any], finding: str) -> None:
    rule = replace(MOMENTUM, name="mine", **({"update": heavy_ball} | changes))
    with pytest.raises(AssertionError) as caught:
        check_rule(rule)
    assert str(caught.value).startswith("The rule 'mine' fails ")
    assert finding in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(AssertionError, match=r"(?s)fails 2 check.*`title` is empty.*`paper` is"):
        check_rule(replace(MOMENTUM, title="", paper=""))


def test_another_implementation_is_an_oracle() -> None:
    check_rule(RULES["adamw"], torch_optimizer=torch.optim.AdamW)
    check_rule(MOMENTUM, torch_optimizer=torch.optim.SGD, lr=0.01, momentum=0.9)
    with pytest.raises(AssertionError, match="after 50 steps 'matrix' differs from SGD's by"):
        check_rule(MOMENTUM, torch_optimizer=torch.optim.SGD, lr=0.01, momentum=0.8)
