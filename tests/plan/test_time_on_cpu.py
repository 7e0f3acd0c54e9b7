"""The planner's model of the time on a CPU against steps measured on one core of an EPYC Zen 4."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from optrial.data import Dataset, Split
from optrial.plan import Estimate, estimate
from optrial.study import Study
from tests.tolerance import MEASURED_ESTIMATE_FACTOR

FLOPS_PER_SECOND = 85e9  # of float32 products on that core
STEPS = 100
MLP, NORMED, DECODER, PATCHES, RESIDUAL = (
    ({"kind": "mlp", "hidden": [100]}, (784,), 100),
    ({"kind": "mlp", "hidden": [200, 200], "dropout": 0.5, "batch_norm": True}, (784,), 128),
    ({"kind": "transformer", "width": 32, "depth": 2, "heads": 4}, (32,), 16),
    ({"kind": "vit", "patch": 8, "width": 32, "depth": 2, "heads": 4}, (3, 32, 32), 64),
    ({"kind": "resnet", "layers": 20, "width": 4}, (3, 32, 32), 32),
)
MEASURED = [  # model, inputs and batch size; runs in a stack; ms per run and step; evaluation
    (MLP, 1, 2.35, 0.0032),
    (MLP, 8, 1.60, 0.0031),
    (NORMED, 1, 5.94, 0.0058),
    (NORMED, 8, 5.39, 0.0117),
    (DECODER, 1, 10.86, 0.145),
    (DECODER, 8, 5.97, 0.125),
    (PATCHES, 1, 16.85, 0.0479),
    (PATCHES, 8, 12.23, 0.0519),
    (RESIDUAL, 1, 50.28, 0.3357),
    (RESIDUAL, 8, 44.59, 0.2836),
]
"""Training as measured by the CPU clock of a thread; evaluation in ms per sample."""


def estimated(problem: tuple[dict[str, Any], tuple[int, ...], int], width: int) -> Estimate:
    """Return the estimate of a stack that evaluates a test split of as many samples as a batch."""
    model, shape, batch_size = problem
    is_text = model["kind"] == "transformer"
    inputs = np.zeros((batch_size, *shape), np.int64 if is_text else np.float32)
    targets = inputs if is_text else np.zeros(batch_size, np.int64)
    split = Split(inputs, targets)
    splits = {"train": split, "test": split}
    dataset = Dataset("zeros", splits, 10, "0" * 64)
    if is_text:
        dataset = replace(dataset, classes=59, vocabulary=59, kind="positions")
    study = Study(
        problem={"dataset": "digits", "model": model},
        batch_size=batch_size,
        seeds=width,
        budget={"steps": STEPS},
        evaluate={"every": {"steps": STEPS}, "on": ["test"]},
        optimizers=[{"rule": "adam"}],
    )
    return estimate(study.plan(dataset).runs, dataset, width)


@pytest.mark.parametrize(("problem", "width", "training", "evaluation"), MEASURED)
def test_steps_and_evaluations_take_what_was_measured(
    problem: Any, width: int, training: float, evaluation: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["optrial.plan.estimate"]  # the package has a function of this name
    monkeypatch.setattr(module, "_flops_per_second", lambda precision, on_cuda: FLOPS_PER_SECOND)
    cost = estimated(problem, width)
    *_, batch_size = problem
    seconds = cost.stacked_seconds if width > 1 else cost.seconds
    for ratio in (
        1e3 * seconds / (width * STEPS * training),
        1e3 * cost.evaluation_seconds / (width * batch_size * evaluation),
    ):
        assert 1 / MEASURED_ESTIMATE_FACTOR < ratio < MEASURED_ESTIMATE_FACTOR


@pytest.mark.parametrize("fitting", [512, 256])
def test_products_are_timed_that_fit_into_memory(
    fitting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = torch.ones

    def limited(rows: int, *columns: int, **options: Any) -> torch.Tensor:
        if rows > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 128.00 MiB.")
        return ones(rows, *columns, **options)

    monkeypatch.setattr(torch, "ones", limited)
    module = sys.modules["optrial.plan.estimate"]  # the package has a function of this name
    assert module._flops_per_second.__wrapped__("float64", on_cuda=False) > 1e6


def test_without_memory_for_any_product_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 128.00 MiB.")

    monkeypatch.setattr(torch, "ones", full)
    module = sys.modules["optrial.plan.estimate"]
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        module._flops_per_second.__wrapped__("float64", on_cuda=False)
