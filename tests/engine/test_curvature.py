"""Estimates of curvature: every engine, beside a whole Hessian and beside all other options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from torch import nn
from torch.func import functional_call

from optrial.data import Dataset
from optrial.errors import StudyError
from optrial.keyed import mask_key, signs
from optrial.models import build_model
from optrial.plan import pack
from optrial.spec import RunSpec, Status
from tests.engine.test_groups import MODEL, STEPS, assert_alike, planned, trained
from tests.small import learner_for, resumed, train

ADAHESSIAN: dict[str, Any] = {"rule": "adahessian", "lr": 0.02, "eps": 0.01}
SOPHIA: dict[str, Any] = {"rule": "sophia_h", "lr": 0.01, "every": 4, "gamma": 0.5, "eps": 1e-3}
TANH = {"dataset": {"name": "moons", "n_samples": 200}, "model": MODEL | {"activation": "tanh"}}


def z_hz(run: RunSpec, model: nn.Module, inputs: Any, targets: Any, step: int) -> list[Any]:
    """Estimates from the whole Hessian, (parameters, parameters), of one batch."""
    named = dict(model.named_parameters())
    sizes = [value.numel() for value in named.values()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, sizes)
        state = {n: p.view(v.shape) for (n, v), p in zip(named.items(), parts, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, state, (inputs,)), targets)

    flat = torch.cat([value.detach().flatten() for value in named.values()])
    hessian = torch.autograd.functional.hessian(loss, flat)
    key = mask_key(run.seed, step)
    drawn = [signs(key, name, np.arange(value.numel())) for name, value in named.items()]
    z = torch.tensor(np.concatenate(drawn), dtype=torch.float64)
    parts = torch.split(z * (hessian @ z), sizes)
    return [part.view(value.shape) for part, value in zip(parts, named.values(), strict=True)]


def in_pytorch(
    run: RunSpec, dataset: Dataset, kind: type[torch.optim.Optimizer], **arguments: Any
) -> dict[str, np.ndarray]:
    """Weights after steps of a package's optimizer with estimates from the whole Hessian."""
    model = build_model("mlp", run.model_arguments, input_shape=(2,), classes=2, seed=run.seed)
    model.double()
    optimizer: Any = kind(model.parameters(), **arguments)
    batches = learner_for([run], dataset, "reference").batches(1)
    every = run.hyperparameters["every"]
    for step in range(1, STEPS + 1):
        batch = next(batches)
        inputs, targets = torch.as_tensor(batch.inputs), torch.as_tensor(batch.targets)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        estimates = z_hz(run, model, inputs, targets, step) if step % every == 1 % every else None
        if estimates is None:  # not its own estimate, of a gradient without a graph
            optimizer.update_period = STEPS + 1
            optimizer.param_groups[0]["step"] = step
        optimizer.step(hessian=estimates)
        for state in optimizer.state.values():
            state.pop("hessian", None)
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


SLOW = pytest.mark.slow
ENGINES = ["reference", pytest.param("stacked", marks=SLOW)]
"""Stacks are compared with the reference below."""


@pytest.mark.parametrize("engine", ENGINES)
def test_adahessian_is_that_of_a_package_with_the_whole_hessian(engine: str) -> None:
    entry = ADAHESSIAN | {"weight_decay": 0.1, "decay": "decoupled"}
    runs, dataset = planned([entry], problem=TANH)
    theirs = in_pytorch(
        *(runs[0], dataset, pytorch_optimizer.AdaHessian),
        **{"lr": 0.02, "eps": 0.01, "weight_decay": 0.1, "foreach": False},
    )
    assert_alike(trained(learner_for(runs, dataset, engine)), theirs)


@pytest.mark.parametrize("engine", ENGINES)
def test_sophia_is_that_of_a_package_with_the_whole_hessian(engine: str) -> None:
    """The package clips before it multiplies by lr, where the paper clips at 1."""
    runs, dataset = planned([SOPHIA], problem=TANH)
    theirs = in_pytorch(
        *(runs[0], dataset, pytorch_optimizer.SophiaH),
        **{"lr": 0.01 / 0.5, "p": 0.5, "eps": 1e-3 / 0.5, "foreach": False},
        **{"weight_decay": 0.1 * 0.5},
    )
    assert_alike(trained(learner_for(runs, dataset, engine)), theirs)


DIGITS = {"dataset": {"name": "digits"}, "model": {"kind": "cnn", "widths": [2, 3]}}
DROPPING = {"kind": "mlp", "hidden": [8], "dropout": 0.3, "batch_norm": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "groups": (
        ADAHESSIAN
        | {
            "groups": [
                {"match": "bias", "lr": {"times": 2}, "weight_decay": 0.1},
                {"match": "head", "rule": "sophia_h", "every": 3},
            ]
        },
        {},
    ),
    "beside another rule": (
        {"rule": "adam", "groups": [{"match": "matrices", **ADAHESSIAN}]},
        {},
    ),
    "options": (
        SOPHIA
        | {
            **{"modify": ["agc", "cautious", "lookahead"], "clip": 0.1, "schedule": "cosine"},
            **{"average": {"ema": 0.9}},
        },
        {},
    ),
    "accumulation": (
        ADAHESSIAN | {"weight_decay": 0.1, "decay": "l2"},
        {"batch_size": 28, "accumulate": 3},
    ),
    "dropout and batch norm": (
        ADAHESSIAN | {"every": 3},
        {"problem": TANH | {"model": DROPPING}},
    ),
    "kernels": (ADAHESSIAN, {"problem": DIGITS, "batch_size": 20, "budget": {"steps": 10}}),
}


def steps_of(keys: Mapping[str, Any]) -> int:
    steps: int = keys.get("budget", {"steps": STEPS})["steps"]
    return steps


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=SLOW) if c == "kernels" else c for c in CASES]
)
def test_engines_agree(case: str) -> None:
    entry, keys = CASES[case]
    runs, dataset = planned([entry], **keys)
    weights = []
    for engine in ("reference", "stacked"):
        learner = learner_for(runs, dataset, engine)
        learner.start(1)
        learner.advance(steps_of(keys))
        weights.append(learner.weights(0))
    assert_alike(*weights)


@pytest.mark.slow
def test_one_stack_holds_runs_that_estimate_at_other_steps() -> None:
    entries = [CASES["groups"][0], CASES["beside another rule"][0], SOPHIA]
    grid = ADAHESSIAN | {"every": [1, 2, 7]}
    runs, dataset = planned([*entries, grid], seeds=2)
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "stacked")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


def test_other_rules_have_stacks_of_their_own() -> None:
    """As have those that compute more in some steps than in others."""
    entries = [{"rule": rule} for rule in ("adam", "soap", "muon", "shampoo")]
    runs, _ = planned([ADAHESSIAN, *entries, SOPHIA])
    stacks = sorted(sorted(run.rule for run in stack) for stack in pack(runs, 10))
    assert stacks == [["adahessian", "sophia_h"], ["adam", "muon"], ["shampoo", "soap"]]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_compiled_stacks_estimate_curvature() -> None:
    runs, dataset = planned([CASES["groups"][0], SOPHIA, ADAHESSIAN])
    (specs,) = pack(runs, len(runs))
    learner = learner_for(specs, dataset, "compiled")
    learner.start(1)
    learner.advance(STEPS)
    for place, run in enumerate(specs):
        assert_alike(learner.weights(place), trained(learner_for([run], dataset, "reference")))


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("case", [pytest.param("groups", marks=SLOW), "dropout and batch norm"])
def test_resumed_to_the_bit(engine: str, case: str) -> None:
    entry, keys = CASES[case]
    runs, dataset = planned([entry], **keys)
    whole = train(runs[0], dataset, engine)
    ((_, segment),) = resumed(runs, dataset, engine, STEPS // 2)
    assert segment.status is Status.DONE
    assert segment.facts.parameters_sha256 == whole.facts.parameters_sha256


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_records_say_how_many_gradients_a_step_computes(engine: str) -> None:
    entries = [ADAHESSIAN, SOPHIA, CASES["groups"][0]]
    for entry, expected in zip(entries, (2, 1.25, 2), strict=True):
        runs, dataset = planned([entry])
        (facts,) = learner_for(runs, dataset, engine).run_facts
        facts = learner_for(runs, dataset, engine).facts | facts
        assert facts.gradients_per_step == expected


class Once(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        del ctx
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        del ctx
        return gradient.clone()


class OnceModel(nn.Module):
    """A linear model without a second derivative."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Once.apply(self.layer(x))  # type: ignore[no-any-return, no-untyped-call]


class Recurrent(nn.Module):
    """Layers whose fast kernels have no second derivative."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, _ = self.lstm(self.embed(x.unsqueeze(-1)))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        scores = nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return self.head(scores.mean(1))  # type: ignore[no-any-return]


HERE = "tests.engine.test_curvature"


def test_attention_and_recurrent_layers_of_the_user_are_differentiated_twice() -> None:
    problem = TANH | {"model": {"kind": f"{HERE}:Recurrent"}}
    runs, dataset = planned([ADAHESSIAN], problem=problem, budget={"steps": 5})
    weights = []
    for engine in ("reference", "stacked"):
        learner = learner_for(runs, dataset, engine)
        learner.start(1)
        learner.advance(5)
        weights.append(learner.weights(0))
    assert_alike(*weights)


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (ADAHESSIAN | {"sam": 0.1}, {}, "optimizers[0].sam: cannot be combined with adahessian, which"),
    (SOPHIA, {"zero_grad": False}, "zero_grad: false cannot be combined with sophia_h, which"),
    (ADAHESSIAN, {"engine": "numpy"}, "optimizers[0].rule: 'adahessian' needs second derivatives"),
    (
        {"rule": "adam", "groups": [{"match": "head", "rule": "sophia_h"}]},
        {"engine": "numpy"},
        "optimizers[0].groups[0].rule: 'sophia_h' needs second derivatives, which engine",
    ),
    (
        ADAHESSIAN,
        {"problem": TANH | {"model": {"kind": f"{HERE}:OnceModel"}}},
        "optimizers[0].rule: 'adahessian' needs second derivatives, and the gradient of",
    ),
    (
        {"rule": "adam", "modify": [{"name": "grafting", "rule": "adahessian"}]},
        {},
        "depends on more than a parameter",
    ),
    (SOPHIA | {"every": 2.5}, {}, "every: 2.5: must be a whole number"),
]


@pytest.mark.parametrize(("entry", "keys", "text"), REFUSED)
def test_what_has_no_curvature_is_refused(
    entry: dict[str, Any], keys: dict[str, Any], text: str
) -> None:
    with pytest.raises(StudyError) as error:
        planned([entry], **keys)
    assert text in str(error.value)


def test_signs_are_independent_of_the_library() -> None:
    drawn = signs(mask_key(3, 5), "weight", np.arange(1000))
    assert set(drawn.tolist()) == {-1, 1}
    assert abs(drawn.mean()) < 0.1
    key = torch.tensor(mask_key(3, 5))
    assert torch.equal(signs(key, "weight", torch.arange(1000)), torch.from_numpy(drawn))
    assert not np.array_equal(drawn, signs(mask_key(3, 5), "bias", np.arange(1000)))
    assert not np.array_equal(drawn, signs(mask_key(3, 6), "weight", np.arange(1000)))
