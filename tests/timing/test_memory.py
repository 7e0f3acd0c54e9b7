"""Peaks of memory, measured in processes of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optrial.timing.memory import memory_meter
from tests.small import MOONS, small_plan
from tests.tolerance import RESIDENT_MEMORY

WIDTH = 1500
PARAMETERS_BYTES = 4 * WIDTH * WIDTH


@pytest.mark.slow  # a process that loads PyTorch
def test_adam_takes_the_memory_of_its_two_averages_more_than_sgd() -> None:
    plan, dataset = small_plan(
        problem={"dataset": dict(MOONS), "model": {"kind": "mlp", "hidden": [WIDTH, WIDTH]}},
        optimizers=[
            {"name": "sgd", "torch": "torch.optim:SGD", "lr": 0.01, "foreach": False},
            {"name": "adam", "torch": "torch.optim:Adam", "lr": 0.001, "foreach": False},
        ],
    )
    sgd, adam = plan.runs
    wrong = replace(sgd, rule="tests.timing.test_memory:refuses", hyperparameters={})
    with memory_meter(dataset, "cpu") as measure:
        small, large = measure("reference", sgd), measure("reference", adam)
        with pytest.raises(RuntimeError, match="refuses"):
            measure("reference", wrong)
    # Parameters and gradients; and those with two averages.
    assert small >= (2 - RESIDENT_MEMORY) * PARAMETERS_BYTES
    assert large - small >= (2 - RESIDENT_MEMORY) * PARAMETERS_BYTES
    # Python and PyTorch, which are many times as large, are not in it.
    assert small <= 10 * PARAMETERS_BYTES


@pytest.mark.slow  # a process that loads PyTorch
def test_modified_rules_and_groups_have_a_peak() -> None:
    plan, dataset = small_plan(
        optimizers=[
            {"rule": "adam", "modify": ["agc", "lookahead"]},
            {"rule": "sgd", "groups": [{"match": "1.*", "freeze": True}]},
        ],
    )
    with memory_meter(dataset, "cpu") as measure:
        assert all(measure("reference", run) >= 0 for run in plan.runs)


@pytest.mark.slow  # a process that loads PyTorch
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_data_is_not_counted(precision: str) -> None:
    samples, features = 20_000, 1_000
    plan, dataset = small_plan(
        problem={
            "dataset": {"name": "tests.timing.test_memory:large", "samples": samples},
            "model": {"kind": "mlp", "hidden": [8]},
        },
        batch_size=[16, 128],
        precision=precision,
    )
    with memory_meter(dataset, "cpu") as measure:
        small, large = (measure("reference", run) for run in plan.runs)
    assert max(small, large) <= RESIDENT_MEMORY * 4 * samples * features
    assert large > small


@pytest.mark.slow  # a process that loads PyTorch
def test_a_batch_is_counted_though_memory_was_freed_before() -> None:
    samples, sizes = 20_000, (16, 2_000)
    plan, dataset = small_plan(
        problem={
            "dataset": {"name": "tests.timing.test_memory:large", "samples": samples},
            "model": {"kind": "mlp", "hidden": [8]},
        },
        batch_size=list(sizes),
    )
    with memory_meter(dataset, "cpu") as measure:
        small, large = (measure("reference", run) for run in plan.runs)
    batch = 4 * 1_000 * (sizes[1] - sizes[0])
    assert (1 - RESIDENT_MEMORY) * batch <= large - small <= 5 * batch


def large(samples: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Inputs of 1000 features, and labels of two classes."""
    inputs = np.random.default_rng(0).random((samples, 1_000), dtype=np.float32)
    return {"train": (inputs, np.arange(samples) % 2), "test": (inputs[:10] + 1, np.arange(10) % 2)}


def refuses(parameters: object) -> None:
    raise RuntimeError(f"{type(parameters).__name__}: refuses")
