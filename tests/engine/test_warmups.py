"""Warm-ups of hyperparameters other than lr, against a plain PyTorch script."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optrial.data import Dataset
from optrial.engine import StackedEngine, Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import arrange
from optrial.records import Segment
from optrial.rules import RULES, apply_all, initialise_all
from optrial.spec import RunSpec
from tests.small import learner_for, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own
STEPS, RATE = 30, 0.02
WARMUPS = {
    "beta1": {"from": 0.5, "over": 10},
    "beta2": {"from": 0.99, "over": {"epochs": 2}},
    "weight_decay": 0.5,
    "adaptive_sam.rho": {"from": 0.3, "over": 6},
}
CONSTANT = {"kind": "constant", "warmup_of": WARMUPS}
ENTRY = {
    **{"rule": "adamw", "lr": RATE, "weight_decay": 0.2, "adaptive_sam": 0.1, "schedule": CONSTANT},
    "groups": [
        {"match": "head", "rule": "sgd", "lr": 0.1, "weight_decay": 0.1},
        {"match": "vectors", "weight_decay": 0, "beta1": 0.7},
    ],
}
ENGINES = [
    *("reference", "stacked", "numpy"),
    pytest.param("compiled", marks=pytest.mark.slow),
]


def plan_of(optimizers: Sequence[Any], **more: Any) -> tuple[tuple[RunSpec, ...], Dataset]:
    plan, data = small_plan(
        **{
            "budget": {"steps": STEPS},
            "precision": "float64",
            "seeds": [0, 1],
            "optimizers": optimizers,
        }
        | more
    )
    return arrange(plan.runs), data


def trained(runs: Sequence[RunSpec], data: Dataset, engine: str) -> dict[str, Segment]:
    together = [runs] if engine in ("stacked", "compiled") else [[run] for run in runs]
    segments = {}
    for some in together:
        learner = learner_for(some, data, engine) if engine != "compiled" else None
        splits = tensor_splits(data, "float64", "cpu")
        training = Training(some, learner or StackedEngine(some, data, splits, compiled=True))
        for _ in training.run():
            pass
        segments |= {segment.run_id: segment for segment in training.segments()}
    return segments


def warmed(start: float, end: float, over: int, step: int) -> float:
    return start + (end - start) * min(1.0, (step - 1) / over)


def model_of(run: RunSpec, data: Dataset) -> nn.Module:
    return build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        seed=run.seed,
    ).double()  # fmt: skip


def script(run: RunSpec, data: Dataset) -> list[float]:
    """Losses of `ENTRY` as a script trains it."""
    model = model_of(run, data)
    (hidden, hidden_bias, head, head_bias) = model.parameters()
    adamw = torch.optim.AdamW([{"params": [hidden]}, {"params": [hidden_bias]}], lr=RATE)
    sgd = torch.optim.SGD([head, head_bias], lr=0.1)
    train = tensor_splits(data, "float64", "cpu")["train"]
    batches = batch_order(run, len(train)).batches(1)
    losses = []

    def differentiate(rows: np.ndarray) -> float:
        model.zero_grad()
        loss = functional.cross_entropy(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        return loss.item()

    for step in range(1, STEPS + 1):
        rows = next(batches)
        losses.append(differentiate(rows))
        before = [p.detach().clone() for p in model.parameters()]
        scaled = [p.detach().abs() * p.grad for p in model.parameters()]
        norm = torch.sqrt(sum(value.square().sum() for value in scaled))
        rho = warmed(0.3, 0.1, 6, step)
        with torch.no_grad():
            for p, value in zip(model.parameters(), scaled, strict=True):
                p.add_(p.abs() * value * rho / norm)
        differentiate(rows)
        with torch.no_grad():
            for p, value in zip(model.parameters(), before, strict=True):
                p.copy_(value)
        beta2 = warmed(0.99, 0.999, 2 * run.steps_per_epoch, step)
        for group, beta1, decay in zip(adamw.param_groups, (0.9, 0.7), (0.2, 0.0), strict=True):
            group["betas"] = (warmed(0.5, beta1, 10, step), beta2)
            group["weight_decay"] = warmed(0.0, decay, STEPS // 2, step)
        sgd.param_groups[0]["weight_decay"] = warmed(0.0, 0.1, STEPS // 2, step)
        adamw.step()
        sgd.step()
    return losses


@pytest.mark.parametrize("engine", ENGINES)
def test_warm_ups_are_those_of_a_plain_script(engine: str) -> None:
    constant = {**ENTRY, "name": "constant", "schedule": "constant"}
    runs, data = plan_of([ENTRY, constant])
    segments = trained(runs, data, engine)
    for run in runs:
        losses = segments[run.run_id].curves["train_loss"].values
        same = losses == pytest.approx(script(run, data), rel=TRAJECTORY_FLOAT64)
        assert same == (run.optimizer == "adamw")


@pytest.mark.parametrize("rng", ["streams", "script"])
def test_a_class_and_a_rule_take_the_same_warm_ups(rng: str) -> None:
    schedule = {
        "kind": "cosine",
        "warmup_of": {"momentum": {"from": 0.5, "over": 9}, "weight_decay": 12},
    }
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "schedule": schedule}
    runs, data = plan_of(
        [{"rule": "momentum", **values}, {"torch": "torch.optim:SGD", **values}],
        rng=rng,
        engine="reference",
    )
    segments = trained(runs, data, "reference")
    curves = {
        (run.optimizer, run.seed): segments[run.run_id].curves["train_loss"].values for run in runs
    }
    for seed in (0, 1):
        expected = pytest.approx(curves["SGD", seed], rel=TRAJECTORY_FLOAT64)
        assert curves["momentum", seed] == expected


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_a_group_takes_what_its_rule_has_of_a_schedule(engine: str) -> None:
    cycle = {"kind": "one_cycle", "momentum": [0.8, 0.9]}
    groups = [{"match": "head", "rule": "sgd", "lr": 0.1}]
    entry = {"rule": "momentum", "lr": 0.1, "schedule": cycle, "groups": groups}
    runs, data = plan_of([entry], seeds=[0])
    model = model_of(runs[0], data)
    first, second = list(model.parameters())[:2], list(model.parameters())[2:]
    optimizers = [torch.optim.SGD(first, 0.1, momentum=0.9), torch.optim.SGD(second, 0.1)]
    schedulers = [
        torch.optim.lr_scheduler.OneCycleLR(
            o, 0.1, STEPS, cycle_momentum=cycles, base_momentum=0.8, max_momentum=0.9
        )
        for o, cycles in zip(optimizers, (True, False), strict=True)
    ]
    train = tensor_splits(data, "float64", "cpu")["train"]
    losses = []
    for rows in islice(batch_order(runs[0], len(train)).batches(1), STEPS):
        model.zero_grad()
        loss = functional.cross_entropy(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        losses.append(loss.item())
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    (segment,) = trained(runs, data, engine).values()
    values = segment.curves["train_loss"].values
    assert values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


def test_warm_ups_are_part_of_a_run_and_keep_their_share_of_it() -> None:
    runs, _ = plan_of([{"rule": "adamw", "schedule": [CONSTANT_DECAY, "constant"]}])
    assert runs[0].schedule == {
        "kind": "constant",
        "warmup": 0,
        "warmup_of": {"weight_decay": {"from": 0.0, "over": 6}},
    }
    assert len({run.run_id for run in runs}) == 4
    assert RunSpec.from_dict(runs[0].as_dict()) == runs[0]


CONSTANT_DECAY = {"kind": "constant", "warmup_of": {"weight_decay": 0.2}}


def _changes(rule_name: str, hyperparameter: str, *, at_start: bool, later: bool) -> bool:
    """Return whether another value at the start, or in later steps, changes parameters."""
    rule = RULES[rule_name]
    ends = []
    for value in (rule.defaults[hyperparameter], 0.9 * rule.defaults[hyperparameter] + 0.01):
        random = np.random.default_rng(0)
        params = {"matrix": random.normal(size=(4, 3)), "vector": random.normal(size=3)}
        changed = rule.defaults | {hyperparameter: value}
        state = initialise_all(rule, params, changed if at_start else rule.defaults)
        for step in range(1, 6):
            grads = {name: random.normal(size=p.shape) for name, p in params.items()}
            curvature = {name: random.normal(size=p.shape) for name, p in params.items()}
            params, state = apply_all(
                rule, params, grads, state, step,
                changed if later and step > 1 else rule.defaults,
                curvature=curvature if rule.needs_curvature else None,
            )  # fmt: skip
        ends.append(np.concatenate([p.ravel() for p in params.values()]))
    return not np.array_equal(*ends)


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (rule.name, h.name)
        for rule in RULES.values()
        for h in rule.hyperparameters
        if not h.whole and h.scale != "switch" and h.name != "lr"
    ],
)
def test_what_only_the_start_uses_is_known(rule: str, name: str) -> None:
    (known,) = (h for h in RULES[rule].hyperparameters if h.name == name)
    starts = _changes(rule, name, at_start=True, later=False)
    lasts = _changes(rule, name, at_start=False, later=True)
    assert known.at_start == (starts and not lasts)


REFUSED = [
    ({"lr": 10}, "use that key"),
    ({"beta1": {"from": 0.5, "over": 100}}, r"schedule: 100 steps of warm-up of beta1 do not fit"),
    ({"momentum": 10}, "not a hyperparameter of adamw"),
    ({}, "must map hyperparameters to durations"),
    (3, "must map hyperparameters to durations"),
    ({"beta1": "long"}, "must be a number of steps"),
    ({"beta1": {"from": 2, "over": 3}}, "from 2.0: must be a finite number, 0 ≤ beta1 < 1"),
    ({"beta1": {"from": 0.9, "over": 3}}, "changes nothing"),
    ({"beta1": {"from": 0.1}}, "over: is required"),
    ({"beta1": {"over": 3, "to": 1}}, "takes `from` and `over`, not 'to'"),
    ({"weight_decay": {"from": -1, "over": 3}}, "0 or more"),
    ({"sam.rho": 0.1}, "the optimizer has no sam"),
    ({"adaptive_sam.rho": 0.1}, "the optimizer has no adaptive_sam"),
]


@pytest.mark.parametrize(("warmups", "words"), REFUSED)
def test_a_warm_up_that_cannot_be_is_refused(warmups: object, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        plan_of([{"rule": "adamw", "schedule": {"kind": "cosine", "warmup_of": warmups}}])


REFUSED_ENTRIES = [
    ({"rule": "adam", "schedule": CONSTANT_DECAY}, "has no weight decay"),
    (
        {
            "rule": "adagrad",
            "schedule": {"kind": "cosine", "warmup_of": {"initial_accumulator": 5}},
        },
        "used only before the first step",
    ),
    (
        {"rule": "schedule_free_sgd", "schedule": {"kind": "cosine", "warmup_of": {"momentum": 5}}},
        "part of the average",
    ),
    (
        {"rule": "lbfgs", "schedule": {"kind": "cosine", "warmup_of": {"history": 5}}},
        "has no values between",
    ),
    (
        {
            "rule": "adam",
            "schedule": {"kind": "one_cycle", "momentum": [0.8, 0.9], "warmup_of": {"beta1": 5}},
        },
        "is cycled by the schedule",
    ),
    (
        {"torch": "torch.optim:SGD", "schedule": {"kind": "cosine", "warmup_of": {"rho": 5}}},
        "not an argument of 'torch.optim:SGD'",
    ),
    (
        {"torch": "torch.optim:SGD", "schedule": {"kind": "cosine", "warmup_of": {"momentum": 5}}},
        "changes nothing",
    ),
    (
        {
            "torch": f"{__name__}:ForgetfulSGD",
            "momentum": 0.9,
            "schedule": {"kind": "cosine", "warmup_of": {"momentum": 5}},
        },
        "does not read momentum from its param_groups",
    ),
    (
        {
            "rule": "sgd",
            "sam": 0.1,
            "groups": [
                {"match": "head", "schedule": {"kind": "cosine", "warmup_of": {"sam.rho": 5}}}
            ],
        },
        "for all groups together",
    ),
    (
        {
            "rule": "sgd",
            "groups": [{"match": "head", "schedule": {"kind": "cosine", "warmup": 99}}],
        },
        r"optimizers\[0\].groups\[0\].schedule: 99 steps of warmup do not fit into 30 steps",
    ),
]


@pytest.mark.parametrize(("entry", "words"), REFUSED_ENTRIES)
def test_a_warm_up_that_does_not_suit_is_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        plan_of([{"lr": 0.1, **entry}], batch_size="full")


def test_a_script_refuses_what_its_class_has_no_argument_for() -> None:
    entry = {"rule": "rmsprop", "schedule": {"kind": "cosine", "warmup_of": {"rho": 5}}}
    with pytest.raises(StudyError, match=r"torch\.optim\.RMSprop, which has no such argument"):
        plan_of([entry], rng="script", engine="reference")


class ForgetfulSGD(torch.optim.Optimizer):
    """Momentum that is read once, when the optimizer is built."""

    def __init__(self, params: Any, lr: float, momentum: float) -> None:
        self.momentum = momentum
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                velocity = self.state[p].setdefault("velocity", torch.zeros_like(p))
                velocity.mul_(self.momentum).add_(p.grad)
                p.add_(velocity, alpha=-group["lr"])
