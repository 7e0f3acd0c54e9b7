"""The certificate of the stacked engine, for networks with convolutions, batch norm, recurrence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optrial.engine import Training
from optrial.plan import pack
from tests.small import learner_for, small_plan, train_stack
from tests.tolerance import RUNNING_STATISTICS, TRAJECTORY_FLOAT64

IMAGES = {"name": "digits", "augment": {"flip": True, "crop": 1}}
SEQUENCES = {"name": "palindrome", "length": 5, "n_samples": 200, "test_samples": 100}
OPTIMIZERS = [
    {"rule": "adam", "lr": [0.001, 0.01], "clip": 1.0},
    {"rule": "momentum", "lr": 0.01, "schedule": {"kind": "cosine", "warmup": {"steps": 3}}},
]
MODELS: dict[str, dict[str, Any]] = {
    "cnn": {
        "dataset": IMAGES,
        "model": {"kind": "cnn", "widths": [4, 6, 8], "dropout": [0.0, 0.3]},
    },
    "mlp with batch norm": {
        "dataset": "digits",
        "model": {"kind": "mlp", "hidden": [70, 9], "batch_norm": True, "dropout": 0.1},
    },
    "rnn": {"dataset": SEQUENCES, "model": {"kind": "rnn", "hidden": 12}},
    "gru": {"dataset": SEQUENCES, "model": {"kind": "rnn", "hidden": 12, "cell": "gru"}},
    "lstm": {"dataset": SEQUENCES, "model": {"kind": "rnn", "hidden": 12, "cell": "lstm"}},
    "logistic": {"dataset": "digits", "model": {"kind": "logistic"}},
}

DEEPER: dict[str, dict[str, Any]] = {
    "resnet": {"dataset": IMAGES, "model": {"kind": "resnet", "width": 2}},
    "resnet with group norm": {
        "dataset": IMAGES,
        "model": {"kind": "resnet", "width": 4, "norm": "group", "groups": 2},
    },
    "convnet": {"dataset": IMAGES, "model": {"kind": "convnet", "widths": [4, 6]}},
    "vit": {
        "dataset": IMAGES,
        "model": {"kind": "vit", "width": 8, "heads": 2, "dropout": 0.2},
    },
    "autoencoder": {
        "dataset": {"name": "digits", "targets": "inputs"},
        "model": {"kind": "autoencoder", "hidden": [9], "code": 3, "widths": [3]},
        "loss": "mse",
    },
    "residual mlp": {
        "dataset": "digits",
        "model": {"kind": "mlp", "hidden": [9, 9, 9], "residual": True, "layer_norm": True},
    },
}


@pytest.mark.one_in(5)
@pytest.mark.parametrize("zero_grad", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_each_run_equals_the_reference(name: str, zero_grad: bool) -> None:
    check_each_run(MODELS[name], 10, zero_grad)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "resnet" in n else ()) for n in DEEPER]
)
def test_each_run_of_a_deeper_model_equals_the_reference(name: str) -> None:
    check_each_run(DEEPER[name], 6)


def check_each_run(problem: dict[str, Any], steps: int, zero_grad: bool = True) -> None:
    plan, dataset = small_plan(
        problem=problem,
        precision="float64",
        seeds=2,
        batch_size=30,
        budget={"steps": steps},
        evaluate={"every": {"steps": steps // 3}},
        zero_grad=zero_grad,
        save="final",
        optimizers=OPTIMIZERS,
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    training = Training(stack, learner_for(stack, dataset, "stacked"))
    for _ in training.run():
        pass
    for index, (run, segment) in enumerate(zip(stack, training.segments(), strict=True)):
        alone = Training([run], learner_for([run], dataset, "reference"))
        for _ in alone.run():
            pass
        (wanted,) = alone.segments()
        for metric, curve in wanted.curves.items():
            values = segment.curves[metric].values
            assert values == pytest.approx(curve.values, rel=TRAJECTORY_FLOAT64), (run, metric)
        stacked, others = training.weights(index), alone.weights(0)
        assert stacked is not None
        assert others is not None
        assert set(stacked) == set(others)
        for parameter, value in others.items():  # running statistics among them
            np.testing.assert_allclose(
                stacked[parameter], value, rtol=RUNNING_STATISTICS, atol=TRAJECTORY_FLOAT64
            )


def test_one_run_by_itself_is_the_same_program() -> None:
    """A stack of one goes another way through PyTorch, to the same numbers."""
    plan, dataset = small_plan(
        problem=MODELS["cnn"], precision="float64", budget={"steps": 8}, optimizers=OPTIMIZERS
    )
    (whole,) = pack(plan.runs, len(plan.runs))
    for run, segment in zip(whole, train_stack(whole, dataset, "stacked"), strict=True):
        (alone,) = train_stack([run], dataset, "stacked")
        for metric, curve in alone.curves.items():
            wanted = segment.curves[metric].values
            assert curve.values == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_batch_norm_resumes_to_the_bit_and_evaluation_leaves_it_alone(engine: str) -> None:
    options = {"problem": MODELS["cnn"], "budget": {"steps": 12}, "save": "final"}

    def weights(stop_at: int, every: int) -> dict[str, Any]:
        plan, dataset = small_plan(**options, evaluate={"every": {"steps": every}})
        runs = plan.runs[:1]
        training = Training(runs, learner_for(runs, dataset, engine))
        training.learner.chunk = 1
        for _ in training.run(lambda step: step < stop_at):
            pass
        if not training.ended:
            checkpoint = training.checkpoint()
            training = Training(runs, learner_for(runs, dataset, engine))
            training.resume(checkpoint)
            for _ in training.run():
                pass
        trained = training.weights(0)
        assert trained
        return {name: value.tolist() for name, value in trained.items()}

    whole = weights(stop_at=100, every=12)
    assert weights(stop_at=5, every=12) == whole
    assert weights(stop_at=100, every=1) == whole
    assert any("running_mean" in name for name in whole)
