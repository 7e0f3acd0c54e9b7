"""The planner's model of the time on a GPU against steps measured on an H100."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from optrial.data import Dataset, Split
from optrial.plan import estimate
from optrial.study import Study
from tests.tolerance import MEASURED_ESTIMATE_FACTOR

FLOPS_PER_SECOND = 50e12  # of large float32 products on that GPU
STEPS = 1000
SHALLOW, WIDE, RECURRENT, CONVOLUTIONAL = (
    ({"kind": "mlp", "hidden": [100]}, (784,), 100),
    ({"kind": "mlp", "hidden": [1000]}, (3072,), 128),
    ({"kind": "rnn", "hidden": 128, "cell": "rnn"}, (9, 1), 128),
    ({"kind": "resnet", "layers": 20}, (3, 32, 32), 32),
)
MEASURED = [  # model, inputs and batch size; runs in a stack; microseconds per step
    (SHALLOW, 1, 3182),
    (SHALLOW, 4, 362),
    (SHALLOW, 16, 433),
    (SHALLOW, 64, 682),
    (WIDE, 1, 2831),
    (WIDE, 4, 1105),
    (RECURRENT, 1, 3752),
    (RECURRENT, 4, 574),
    (CONVOLUTIONAL, 1, 27012),
]


def seconds(
    problem: tuple[dict[str, Any], tuple[int, ...], int], width: int, **changes: Any
) -> float:
    """Return the estimated seconds of a step of a stack."""
    model, shape, batch_size = problem
    samples = 2 * batch_size
    split = Split(np.zeros((samples, *shape), np.float32), np.zeros(samples, np.int64))
    dataset = Dataset("zeros", {"train": split, "test": split}, 10, "0" * 64)
    keys: dict[str, Any] = {
        "problem": {"dataset": "digits", "model": model}, "batch_size": batch_size, "seeds": width,
        "budget": {"steps": STEPS}, "optimizers": [{"rule": "adam"}],
    }  # fmt: skip
    study = Study(**keys | changes)
    cost = estimate(study.plan(dataset).runs, dataset, width, on_cuda=True)
    return (cost.stacked_seconds if width > 1 else cost.seconds) / STEPS


@pytest.fixture(autouse=True)
def _h100(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(precision: str, on_cuda: bool) -> float:
        del precision
        return FLOPS_PER_SECOND if on_cuda else 1e9

    module = sys.modules["optrial.plan.estimate"]  # the package has a function of this name
    monkeypatch.setattr(module, "_flops_per_second", rate)


@pytest.mark.parametrize(("problem", "width", "measured"), MEASURED)
def test_steps_take_what_was_measured(problem: Any, width: int, measured: float) -> None:
    ratio = 1e6 * seconds(problem, width) / measured
    assert 1 / MEASURED_ESTIMATE_FACTOR < ratio < MEASURED_ESTIMATE_FACTOR


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"optimizers": [{"rule": "soap"}]}],
    ids=["accumulate", "soap"],
)
def test_steps_that_are_not_replayed_wait_for_the_host(changes: Any) -> None:
    assert seconds(SHALLOW, 4, **changes) > 2 * seconds(SHALLOW, 4)


def test_the_numpy_engine_stays_on_the_cpu() -> None:
    assert seconds(SHALLOW, 1, engine="numpy") > 784 * 100 * 6 * 100 / 1e9
