"""Layers of torch.nn that keep something, draw something or change their weights: as by PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from optrial.engine import Engines
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch, split_of
from tests.tolerance import TRAJECTORY_FLOAT64

MODELS = ["SN", "WN", "BNm", "BNt", "Pad", "Max", "GN", "IN", "RR"]


def study(model: str, optimizer: Any, **more: Any) -> Study:
    return Study(
        name="layers",
        problem={"dataset": "digits", "model": {"factory": f"ly:{model}"}},
        batch_size=64,
        budget={"epochs": 1},
        seeds=more.pop("seeds", 1),
        precision="float64",
        optimizers=[optimizer],
        **more,
    )


def check(made: Study, engine: str, optimizer: Any) -> None:
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    model, losses = by_torch(run, dataset, functional.cross_entropy, optimizer)
    weights, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        outputs = model(inputs)  # which shortens rows of an embedding with max_norm
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert weights[name] == pytest.approx(
            value.numpy(), rel=TRAJECTORY_FLOAT64, abs=TRAJECTORY_FLOAT64
        ), name
    loss = functional.cross_entropy(outputs, targets).item()
    assert curves["test_loss"][-1] == pytest.approx(loss, rel=TRAJECTORY_FLOAT64)
    accuracy = (outputs.argmax(1) == targets).double().mean().item()
    assert curves["test_accuracy"][-1] == pytest.approx(accuracy)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("model", MODELS)
def test_a_rule_with_weight_decay(case: Case, model: str) -> None:
    case("layers")
    made = study(model, {"rule": "adam", "lr": 0.01, "weight_decay": 0.01})
    check(made, "reference", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("model", MODELS)
def test_a_class_of_torch_optim(case: Case, model: str) -> None:
    case("layers")
    made = study(model, {"torch": "torch.optim:SGD", "lr": 0.05, "momentum": 0.9})
    check(made, "reference", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))


@pytest.mark.parametrize("model", MODELS)
def test_in_a_stack_or_with_a_note(case: Case, model: str) -> None:
    """What a stack computes is what each run computes; what it cannot is trained one by one."""
    case("layers")
    made = study(model, {"rule": "sgd", "lr": 0.05}, seeds=2, engine="stacked", compile="never")
    dataset = made.load_data()
    (choice,) = Engines(dataset, "float64", "cpu").choose(made.plan(dataset).runs)
    if choice.engine == "reference":
        assert choice.note.startswith("trained one by one: ")
        assert model in ("SN", "BNt", "Pad", "Max", "IN", "RR")
        return
    check(made, "stacked", lambda p: torch.optim.SGD(p, lr=0.05))
