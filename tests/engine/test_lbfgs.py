"""L-BFGS in every engine, against `torch.optim.LBFGS` with one evaluation per step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial.errors import StudyError
from optrial.plan import pack
from optrial.rules import RULES, apply_all, initialise_all
from optrial.spec import Status
from tests.engine.test_groups import MODEL, STEPS, assert_alike, planned, trained
from tests.rules.network import gradients, relative_error, start
from tests.small import MOONS, learner_for, resumed
from tests.small import train as train_run
from tests.tolerance import RULE_FLOAT64

LBFGS: dict[str, Any] = {"rule": "lbfgs", "lr": 0.2}
ONE_STEP = {"max_iter": 1, "tolerance_grad": 0.0, "tolerance_change": 0.0}
KEYS: dict[str, Any] = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 200, "noise": 0.2},
        "model": MODEL | {"activation": "tanh"},
    },
    "batch_size": "full",
}


def convex(params: Any) -> dict[str, Any]:
    """Gradient of a convex function: without a line search, others are chaotic."""
    generator = np.random.default_rng(3)
    matrix, values = generator.standard_normal((40, 9)), generator.standard_normal(40)
    flat = np.concatenate([params["a"].ravel(), params["b"]])
    gradient = matrix.T @ np.tanh(matrix @ flat - values) / 40 + 0.05 * flat
    return {"a": gradient[:6].reshape(2, 3), "b": gradient[6:]}


@pytest.mark.parametrize("history", [1, 3, 10])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_the_rule_is_that_of_torch(history: int, weight_decay: float) -> None:
    generator, rule = np.random.default_rng(4), RULES["lbfgs"]
    params = {"a": generator.standard_normal((2, 3)), "b": generator.standard_normal(3)}
    named = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in params.items()}
    theirs = torch.optim.LBFGS(named.values(), lr=0.1, history_size=history, **ONE_STEP)

    def closure() -> float:
        at = {name: value.detach().numpy() for name, value in named.items()}
        for name, grad in convex(at).items():
            named[name].grad = torch.tensor(grad + weight_decay * at[name])
        return 0.0

    values = {"lr": 0.1, "history": history}
    state = initialise_all(rule, params, values)
    for step in range(1, 201):
        theirs.step(closure)  # type: ignore[arg-type]
        params, state = apply_all(rule, params, convex(params), state, step, values, weight_decay)
        expected = [value.detach().numpy() for value in named.values()]
        assert relative_error(params.values(), expected) <= RULE_FLOAT64


def test_newton_steps_on_a_quadratic() -> None:
    """With as many pairs as dimensions, the steps find the minimum of a quadratic."""
    scale, rule = np.array([1.0, 10.0, 100.0]), RULES["lbfgs"]
    params = {"w": np.array([1.0, 1.0, 1.0])}
    values = {"lr": 1.0, "history": 10}
    state = initialise_all(rule, params, values)
    for step in range(1, 40):
        params, state = apply_all(rule, params, {"w": scale * params["w"]}, state, step, values)
    assert np.abs(params["w"]).max() < RULE_FLOAT64


def test_runs_of_a_stack_may_have_other_histories() -> None:
    rule, runs = RULES["lbfgs"], 3
    histories, rates = np.array([2.0, 4.0, 9.0]), np.array([0.2, 0.3, 0.2])
    starts = [start(seed) for seed in range(runs)]
    params = {name: np.stack([one[name] for one in starts]) for name in starts[0]}
    values: dict[str, Any] = {"lr": rates, "history": histories}
    state = initialise_all(rule, params, values, lead=1)
    alone = [
        (one, initialise_all(rule, one, {"lr": rate, "history": history}))
        for one, rate, history in zip(starts, rates, histories, strict=True)
    ]
    for step in range(1, 20):
        grads = [gradients({n: p[run] for n, p in params.items()}) for run in range(runs)]
        stacked = {name: np.stack([grad[name] for grad in grads]) for name in params}
        params, state = apply_all(rule, params, stacked, state, step, values, 0.01, lead=1)
        for run, (one, before) in enumerate(alone):
            own = {"lr": rates[run], "history": histories[run]}
            alone[run] = apply_all(rule, one, gradients(one), before, step, own, 0.01)
    for run, (one, _) in enumerate(alone):
        assert relative_error([p[run] for p in params.values()], one.values()) <= RULE_FLOAT64


@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
def test_engines_take_the_steps_of_torch(engine: str) -> None:
    torch_class = {"torch": "torch.optim:LBFGS", "lr": 0.2, "history_size": 10, **ONE_STEP}
    runs, dataset = planned([LBFGS, torch_class], **KEYS)
    ours = trained(learner_for(runs[:1], dataset, engine))
    assert_alike(ours, trained(learner_for(runs[1:], dataset, "reference")))


@pytest.mark.slow
def test_one_stack_holds_other_rules_and_histories() -> None:
    entries = [
        LBFGS | {"history": [1, 5]},
        LBFGS | {"weight_decay": 0.01, "schedule": "cosine", "average": {"ema": 0.9}},
        {"rule": "adam", "lr": 0.01, "average": {"ema": 0.9}},
        LBFGS | {"groups": [{"match": "1.bias", "freeze": True}]},
    ]
    runs, dataset = planned(entries, seeds=2, **KEYS)
    for specs in pack(runs, len(runs)):
        learner = learner_for(specs, dataset, "stacked")
        learner.start(1)
        learner.advance(STEPS)
        for place, run in enumerate(specs):
            assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


def test_a_full_batch_may_be_divided() -> None:
    whole, dataset = planned([LBFGS], **KEYS)
    parts, _ = planned([LBFGS], **KEYS | {"batch_size": 40, "accumulate": 4})
    ours = trained(learner_for(parts, dataset, "stacked"))
    assert_alike(ours, trained(learner_for(whole, dataset, "reference")))


@pytest.mark.parametrize("engine", ["reference", "numpy", "stacked"])
def test_resumed_to_the_bit(engine: str) -> None:
    runs, dataset = planned([LBFGS], **KEYS)
    whole = train_run(runs[0], dataset, engine)
    ((_, segment),) = resumed(runs, dataset, engine, STEPS // 2)
    assert segment.status is Status.DONE
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (LBFGS, {"batch_size": 32}, "batch_size: 32: lbfgs compares the gradients of its steps"),
    (LBFGS, {"batch_size": 60, "drop_last": True, "accumulate": 2}, "use batch_size: full"),
    (
        LBFGS,
        {"sampling": "with_replacement"},
        "sampling: with_replacement cannot be combined with lbfgs",
    ),
    (LBFGS | {"clip": 1.0}, {}, "optimizers[0].clip: cannot be combined with lbfgs"),
    (LBFGS | {"sam": 0.1}, {}, "optimizers[0].sam: cannot be combined with lbfgs"),
    (LBFGS | {"modify": ["lookahead"]}, {}, "modify[0]: lbfgs compares its own gradients"),
    (
        LBFGS | {"weight_decay": 0.1, "decay": "decoupled"},
        {},
        "decay: decoupled cannot be combined",
    ),
    (
        LBFGS | {"groups": [{"match": "bias", "lr": 0.1}]},
        {},
        "groups: cannot be combined with lbfgs",
    ),
    (
        {"rule": "adam", "groups": [{"match": "bias", "rule": "lbfgs"}]},
        {},
        "groups[0].rule: 'lbfgs' updates all parameters",
    ),
    (LBFGS, {"zero_grad": False}, "zero_grad: false cannot be combined with lbfgs"),
    (
        LBFGS,
        {"problem": KEYS["problem"] | {"model": MODEL | {"dropout": 0.2}}},
        "lbfgs needs the same function in every step",
    ),
    (
        LBFGS,
        {"problem": {"dataset": MOONS, "model": {"factory": "tests.user_models:centred"}}},
        "as by dropout or a buffer in training mode; leave that out",
    ),
    ({"rule": "adam", "modify": [{"name": "grafting", "rule": "lbfgs"}]}, {}, "depends on more"),
]


@pytest.mark.parametrize(("entry", "keys", "text"), REFUSED)
def test_what_changes_the_function_is_refused(
    entry: dict[str, Any], keys: dict[str, Any], text: str
) -> None:
    with pytest.raises(StudyError) as error:
        planned([entry], **KEYS | keys)
    assert text in str(error.value)
