"""Schedules are those of torch.optim.lr_scheduler, and their written-out formulas."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from optrial.errors import StudyError
from optrial.rules import (
    SCHEDULES,
    check_schedule,
    learning_rate_factors,
    resolve_schedule,
)
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT64

TOTAL, EPOCH = 240, 60
STEPS = np.arange(1, TOTAL + 1)
LR = 0.3
EXAMPLES: dict[str, dict[str, Any]] = {
    "constant": {},
    "step": {"every": 50},
    "multistep": {"at": [100, 0.75]},
    "exponential": {"half_life": {"epochs": 0.5}},
    "cosine": {"final": 0.1},
    "cosine_restarts": {"period": 50},
    "linear": {},
    "polynomial": {"power": 2.0},
    "inverse_sqrt": {},
    "one_cycle": {},
    "warmup_stable_decay": {},
    "plateau": {},
}

# The default warm-up of torch.optim.lr_scheduler is none: each case is one kind over all steps.
TORCH: list[tuple[dict[str, Any], Callable[[Any], Any]]] = [
    ({"kind": "step", "every": 7, "factor": 0.9}, lambda o: lr_scheduler.StepLR(o, 7, 0.9)),
    ({"kind": "step", "every": {"epochs": 1}}, lambda o: lr_scheduler.StepLR(o, EPOCH)),
    (
        {"kind": "multistep", "at": [200, 5, {"epochs": 1.5}, 90], "factor": 0.5},
        lambda o: lr_scheduler.MultiStepLR(o, [5, 90, 90, 200], 0.5),
    ),
    ({"kind": "exponential", "factor": 0.99}, lambda o: lr_scheduler.ExponentialLR(o, 0.99)),
    (
        {"kind": "exponential", "half_life": 30},
        lambda o: lr_scheduler.ExponentialLR(o, 0.5 ** (1 / 30)),
    ),
    ({"kind": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL)),
    (
        {"kind": "cosine", "final": 0.1},
        lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * LR),
    ),
    *(
        (
            {"kind": "cosine_restarts", "period": 20, "growth": growth, "final": 0.1},
            lambda o, growth=growth: lr_scheduler.CosineAnnealingWarmRestarts(
                o, 20, growth, eta_min=0.1 * LR
            ),
        )
        for growth in (1, 2, 3)
    ),
    *(
        (
            {"kind": "polynomial", "power": power},
            lambda o, power=power: lr_scheduler.PolynomialLR(o, TOTAL, power),
        )
        for power in (0.5, 1.0, 3.0)
    ),
    (
        {"kind": "inverse_sqrt", "warmup": 40},
        lambda o: lr_scheduler.LambdaLR(o, lambda t: min((t + 1) / 40, (40 / (t + 1)) ** 0.5)),
    ),
    ({"kind": "linear", "final": 0.2}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, TOTAL)),
    ({"kind": "one_cycle"}, lambda o: lr_scheduler.OneCycleLR(o, LR, TOTAL)),
    (
        {"kind": "one_cycle", "anneal": "linear", "pct_start": 0.11, "div_factor": 3},
        lambda o: lr_scheduler.OneCycleLR(
            o, LR, TOTAL, pct_start=0.11, anneal_strategy="linear", div_factor=3
        ),
    ),
    (
        {"kind": "one_cycle", "final_div_factor": 1.0, "pct_start": 0.9},
        lambda o: lr_scheduler.OneCycleLR(o, LR, TOTAL, pct_start=0.9, final_div_factor=1.0),
    ),
    ({"kind": "one_cycle", "pct_start": 1e-3}, lambda o: lr_scheduler.OneCycleLR(
        o, LR, TOTAL, pct_start=1e-3)),
]  # fmt: skip


def factors(schedule: Any, total: int = TOTAL) -> np.ndarray:
    resolved = resolve_schedule(schedule, total, EPOCH)
    return learning_rate_factors(resolved, np.arange(1, total + 1), total)


@pytest.mark.parametrize(("schedule", "make"), TORCH)
def test_torch_takes_the_same_learning_rates(
    schedule: dict[str, Any], make: Callable[[torch.optim.Optimizer], Any]
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler, rates = make(optimizer), []
    for step in STEPS:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < TOTAL:
            scheduler.step()
    assert relative_error([LR * factors(schedule)], [np.array(rates)]) <= RULE_FLOAT64


def test_warmup_stable_decay_is_its_three_phases() -> None:
    schedule = {"kind": "warmup_stable_decay", "warmup": 24, "decay": 0.25, "final": 0.1}
    for anneal, shape in (("linear", lambda p: p), ("1-sqrt", math.sqrt)):
        expected = []
        for t in STEPS:
            if t <= 24:
                expected.append(t / 24)
            elif t <= TOTAL - 60:
                expected.append(1.0)
            else:
                expected.append(1 - 0.9 * shape((t - 1 - (TOTAL - 60)) / 60))
        ours = factors(schedule | {"anneal": anneal})
        assert relative_error([ours], [np.array(expected)]) <= RULE_FLOAT64


def test_warm_up_rises_and_then_the_schedule_has_the_rest() -> None:
    for kind in ("cosine", "linear", "one_cycle"):
        ours = factors({"kind": kind, "warmup": 40})
        alone = learning_rate_factors(resolve_schedule(kind, 200, EPOCH), np.arange(1, 201), 200)
        assert relative_error([ours[40:]], [alone]) <= RULE_FLOAT64
        assert relative_error([ours[:40]], [alone[0] * np.arange(1, 41) / 40]) <= RULE_FLOAT64
    rise = np.minimum(1, STEPS / 40)
    for kind in ("step", "multistep", "constant"):
        ours = factors({"kind": kind, **EXAMPLES[kind], "warmup": 40})
        plain = factors({"kind": kind, **EXAMPLES[kind]})
        assert relative_error([ours], [rise * plain]) <= RULE_FLOAT64, "counts all steps"


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 10, TOTAL])
def test_every_budget_has_sane_factors(kind: str, total: int) -> None:
    ours = factors({"kind": kind, **EXAMPLES[kind]}, total)
    assert ours.shape == (total,)
    assert ours.dtype == np.float64
    assert (ours > 0).all()
    assert (ours <= 1).all()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_resolved_schedules_are_plain_complete_and_stay_what_they_are(kind: str) -> None:
    warmups = {"momentum": {"from": 0.5, "over": {"epochs": 1}}, "weight_decay": 0.1}
    schedule = {"kind": kind, **EXAMPLES[kind], "warmup": 0.1, "warmup_of": warmups}
    resolved = resolve_schedule(schedule, TOTAL, EPOCH)
    assert json.loads(json.dumps(resolved)) == resolved
    assert resolve_schedule(resolved, TOTAL, EPOCH) == resolved
    unset = {"exponential": {"factor"}, "one_cycle": {"momentum"}, "plateau": {"better"}}
    optional = unset.get(kind, set())
    assert {"kind", *SCHEDULES[kind].model_fields} - optional == set(resolved)
    assert resolved["warmup"] == 24
    assert resolved["warmup_of"] == {
        "momentum": {"from": 0.5, "over": EPOCH},
        "weight_decay": {"from": 0.0, "over": 24},
    }
    some = learning_rate_factors(resolved, np.array([[7, 3], [200, 24]]), TOTAL)
    np.testing.assert_array_equal(some, factors(schedule)[[[6, 2], [199, 23]]])


def test_durations() -> None:
    for duration, steps in ((50, 50), ({"steps": 50}, 50), ({"epochs": 2}, 120), (0.25, 60)):
        assert resolve_schedule({"kind": "step", "every": duration}, TOTAL, EPOCH)["every"] == steps
    assert resolve_schedule({"kind": "step", "every": 0.001}, TOTAL, EPOCH)["every"] == 1
    assert resolve_schedule("cosine", TOTAL, EPOCH) == {
        "kind": "cosine",
        "warmup": 0,
        "final": 0.0,
    }


@pytest.mark.parametrize("kind", SCHEDULES)
def test_entry_explains_itself(kind: str) -> None:
    schedule = SCHEDULES[kind]
    assert inspect.getdoc(schedule)
    assert all(field.description for field in schedule.model_fields.values())
    assert check_schedule({"kind": kind, **EXAMPLES[kind]}) == []


@pytest.mark.parametrize(
    ("schedule", "messages"),
    [
        ("cosin", ["'cosin' is not a schedule. Did you mean 'cosine'? Allowed: constant, step,"]),
        ({"final": 0.1}, ["kind: is required and missing. Allowed: constant,"]),
        ({"kind": ["cosine"]}, ["kind: ['cosine'] is not a schedule."]),
        ("step", ["every: is required and missing."]),
        ({"kind": "step", "evry": 3}, ["every: is required", "evry: unknown key. Did you mean"]),
        ({"kind": "step", "every": 0}, ["every: 0: must be at least one step."]),
        ({"kind": "step", "every": 3, "factor": 0}, ["factor: 0: must be greater than 0."]),
        ({"kind": "multistep", "at": []}, ["at: must not be empty."]),
        ({"kind": "multistep", "at": [1, -2]}, ["at[1]: -2: must be a number of steps,"]),
        ({"kind": "multistep", "at": 3}, ["at: 3: must be a list."]),
        ("exponential", ["must have either a `factor`, such as 0.999, or a `half_life`."]),
        ({"kind": "exponential", "factor": 0.9, "half_life": 3}, ["must have either"]),
        ({"kind": "cosine", "final": 2, "warmup": 1.5}, ["warmup: 1.5: must be", "final: 2: must"]),
        ({"kind": "cosine", "final": "0.1"}, ["final: '0.1': must be a number."]),
        ({"kind": "one_cycle", "anneal": "cosine"}, ["anneal: 'cosine' is not one of the choices"]),
    ],
)
def test_every_problem_is_reported(schedule: Any, messages: list[str]) -> None:
    problems = check_schedule(schedule)
    assert len(problems) == len(messages)
    for message in messages:
        assert any(message in str(problem) for problem in problems)
    with pytest.raises(StudyError, match="the schedule has"):
        resolve_schedule(schedule, TOTAL, EPOCH)


@pytest.mark.parametrize(
    "wrong",
    [
        *(True, -1, 0.0, 1.0, 1.5, math.nan, math.inf, "10", None, [3], {}),
        *({"steps": 1.5}, {"epochs": 0}, {"epochs": math.inf}, {"epochs": True}),
        *({"days": 3}, {"steps": 3, "epochs": 1}),
    ],
)
def test_wrong_durations_are_refused(wrong: object) -> None:
    (problem,) = check_schedule({"kind": "constant", "warmup": wrong})
    assert problem.path == "warmup"
    assert str(wrong) in problem.message
    assert "{epochs: n}" in problem.message


def test_schedules_longer_than_the_budget_are_refused() -> None:
    with pytest.raises(StudyError, match="240 steps of warmup do not fit into 240 steps"):
        resolve_schedule({"kind": "cosine", "warmup": 240}, TOTAL, EPOCH)
    with pytest.raises(StudyError, match="150 steps of warmup and 100 steps of decay do not fit"):
        resolve_schedule({"kind": "warmup_stable_decay", "warmup": 150, "decay": 100}, TOTAL, EPOCH)
