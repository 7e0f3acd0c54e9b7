"""Parameter groups made by a user function train as in a plain PyTorch loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch
from tests.tolerance import TRAJECTORY_FLOAT64


class Scheduled(torch.optim.SGD):
    """SGD of a head and a backbone under `CosineAnnealingLR`, as a script has them."""

    def __init__(self, params: Any, head_lr: float, backbone_lr: float, steps: int) -> None:
        params = list(params)
        groups = [
            {"params": params[-2:], "lr": head_lr},
            {"params": params[:-2], "lr": backbone_lr},
        ]
        super().__init__(groups, lr=1e-3, momentum=0.9)
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(self, steps)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        self.cosine.step()


def test_each_group_has_its_rate_under_a_schedule(case: Case) -> None:
    case("groups")
    made = Study.from_file("g.yaml", ["precision=float64", "seeds=1"])
    dataset = made.load_data()
    plan = made.plan(dataset)
    for run in plan.runs:
        if run.optimizer_kind != "torch":
            continue
        arguments = {key: run.hyperparameters[key] for key in ("head_lr", "backbone_lr")}
        model, losses = by_torch(
            run,
            dataset,
            functional.cross_entropy,
            lambda p, a=arguments, n=run.steps: Scheduled(p, **a, steps=n),
        )
        weights, curves = by_optrial(run, dataset, "reference")
        assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        for name, value in model.state_dict().items():
            assert weights[name] == pytest.approx(value.numpy(), rel=TRAJECTORY_FLOAT64)
    assert sum(run.optimizer_kind == "torch" for run in plan.runs) == 2


def test_the_rate_of_the_rule_beside_it(case: Case) -> None:
    case("groups")
    made = Study.from_file("g.yaml", ["precision=float64", "seeds=1"])
    dataset = made.load_data()
    run = next(run for run in made.plan(dataset).runs if run.rule == "momentum")

    class One(Scheduled):
        def __init__(self, params: Any) -> None:
            super().__init__(params, 0.1, 0.1, run.steps)

    _, losses = by_torch(run, dataset, functional.cross_entropy, One)
    for engine in ("reference", "stacked"):
        _, curves = by_optrial(run, dataset, engine)
        assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    assert math.isfinite(losses[-1])
