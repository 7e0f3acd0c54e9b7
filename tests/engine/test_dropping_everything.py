"""Dropout at rates of 0 and 1, and in place, trains what a plain PyTorch loop trains."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from optrial.data import Dataset
from optrial.engine import Engines, Training
from optrial.engine.options import batch_order
from optrial.models import build_model
from optrial.spec import RunSpec
from tests.small import MOONS, learner_for, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

LAYERS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
DRAWS_BY_ITSELF = ("AlphaDropout", "FeatureAlphaDropout")


def plan_of(model: str, arguments: dict[str, Any]) -> tuple[RunSpec, Dataset]:
    factory = {"factory": f"tests.engine.dropping:{model}", "args": arguments}
    plan, dataset = small_plan(
        problem={"dataset": MOONS, "model": factory},
        precision="float64",
        budget={"steps": 10},
        seeds=2,
        engine="stacked",
        compile="never",
    )
    return plan.runs[0], dataset


def by_torch(run: RunSpec, dataset: Dataset) -> dict[str, np.ndarray]:
    """Train by a plain loop with `torch.optim.SGD`; return the weights."""
    shape = dataset.input_shape
    model = build_model(
        run.model, run.model_arguments, input_shape=shape, classes=2, seed=run.seed
    ).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=run.hyperparameters["lr"])
    split = dataset.splits["train"]
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)
    for rows in islice(batch_order(run, len(targets)).batches(1), run.steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    return {name: value.numpy() for name, value in model.state_dict().items()}


def check(run: RunSpec, dataset: Dataset, engine: str) -> None:
    training = Training([run], learner_for([run], dataset, engine))
    for _ in training.run():
        pass
    weights, wanted = training.learner.weights(0), by_torch(run, dataset)
    assert weights.keys() == wanted.keys()
    for name, value in wanted.items():
        assert weights[name] == pytest.approx(value, rel=TRAJECTORY_FLOAT64), name


@pytest.mark.one_in(5)
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("layer", LAYERS)
def test_dropping_all_or_nothing(layer: str, rate: float, engine: str) -> None:
    run, dataset = plan_of("Plain", {"layer": layer, "rate": rate})
    if engine == "stacked" and layer in DRAWS_BY_ITSELF:
        (choice,) = Engines(dataset, "float64", "cpu").choose(
            plan_of("Plain", {"layer": layer, "rate": 0.5})[0:1] * 2
        )
        assert choice.engine == "reference"
        return
    check(run, dataset, engine)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("layer", ["Dropout", "Dropout2d"])
def test_dropping_in_place(layer: str, engine: str) -> None:
    run, dataset = plan_of("Plain", {"layer": layer, "rate": 1.0, "inplace": True})
    check(run, dataset, engine)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("model", ["Attending", "Reading"])
def test_dropping_within_layers(model: str, engine: str) -> None:
    check(*plan_of(model, {}), engine)
