"""The problems people compare optimizers on can be learnt, and functions be descended."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optrial.data import Split
from optrial.errors import StudyError
from optrial.plan import pack
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys, small_plan, train, train_stack

needs_data = pytest.mark.skipif(
    not os.environ.get("OPTRIAL_DATA"),
    reason="OPTRIAL_DATA is not set: it names the folder with the published files",
)


def ends(metric: str, **changes: Any) -> list[float]:
    """The last value of a metric of each run, trained as one stack."""
    plan, dataset = small_plan(**changes)
    (stack,) = pack(plan.runs, len(plan.runs))
    segments = train_stack(stack, dataset, "stacked")
    assert all(segment.status is Status.DONE for segment in segments)
    return [float(segment.curves[metric].values[-1]) for segment in segments]


def palindromes(length: int) -> np.ndarray:
    """Test accuracy of a vanilla RNN on palindromes, every hundred steps."""
    plan, dataset = small_plan(
        problem={
            "dataset": {"name": "palindrome", "length": length, "n_samples": 20_000},
            "model": {"kind": "rnn", "hidden": 128},
        },
        batch_size=128,
        budget={"steps": 300},
        evaluate={"every": {"steps": 100}},
        optimizers=[{"rule": "adam", "lr": 0.001, "clip": 10.0}],
    )
    return train(plan.runs[0], dataset).curves["test_accuracy"].values


@pytest.mark.slow
def test_a_vanilla_rnn_forgets() -> None:
    """Length 5 is learnt; the longer the sequence, the less of its first digit is left."""
    short, middle, long = map(palindromes, (5, 10, 20))
    assert short[-1] > 0.99
    assert short.mean() > middle.mean() > long.mean()


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "samples", "epochs", "least"),
    [
        ({"kind": "mlp", "hidden": [100]}, 5000, 4, 0.35),
        (
            {
                "kind": "cnn",
                "widths": [16, 32, 64, 64, 128, 128, 128, 128],
                "initialization": "kaiming_normal_fan_out",
            },
            2000,
            14,
            0.95,
        ),
    ],
)
def test_pictures_are_learnt(
    model: dict[str, Any], samples: int, epochs: int, least: float
) -> None:
    """A tenth is chance; by heart is what a network with batch norm can do."""
    study = Study(
        **small_keys(
            problem={"dataset": {"name": "cifar-10", "scale": "standardize"}, "model": model},
            batch_size=50,
            budget={"epochs": epochs},
            evaluate={"every": {"epochs": epochs}},
            optimizers=[{"rule": "adam", "lr": 0.001}],
        )
    )
    dataset = study.load_data()
    few = {
        name: Split(split.inputs[:samples], split.targets[:samples])
        for name, split in dataset.splits.items()
    }
    dataset = replace(dataset, splits=few)
    (run,) = study.plan(dataset).runs
    segment = train(run, dataset)
    assert segment.curves["train_accuracy_epoch"].values[-1] > least


def test_functions_are_descended_by_every_engine_alike() -> None:
    minimum = ends(
        "test_loss",
        problem={"function": "beale"},
        batch_size="full",
        budget={"steps": 300},
        evaluate={"every": {"steps": 300}},
        optimizers=[{"rule": "adam", "lr": 0.1}, {"rule": "sgd", "lr": 0.01}],
    )
    assert max(minimum) < 0.05


def test_starting_points_are_spread_by_seed() -> None:
    plan, dataset = small_plan(
        problem={"function": "saddle", "spread": 0.1}, batch_size="full", seeds=3
    )
    starts = [train(run, dataset).curves["train_loss"].values[0] for run in plan.runs]
    assert np.unique(starts).size == 3


def test_a_function_that_is_defined_with_noise_wants_it_said() -> None:
    with pytest.raises(StudyError, match=r"noise: 0\.3 and n_samples: 1000"):
        small_plan(problem={"function": "noisy_quadratic"})
    problem = {"function": "noisy_quadratic", "noise": 0.3, "n_samples": 50}
    plan, dataset = small_plan(problem=problem, batch_size=1)
    assert train(plan.runs[0], dataset).status is Status.DONE
