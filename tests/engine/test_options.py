"""Options of a run mean the same in every engine: schedules, clipping, losses, metrics, ..."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial.plan import pack
from optrial.spec import Status
from tests.small import MOONS, small_plan, train, train_stack
from tests.tolerance import BFLOAT16_LOSS, TRAJECTORY_FLOAT64

OPTIONS: dict[str, dict[str, Any]] = {
    "schedules": {
        "optimizers": [
            {"rule": "adam", "schedule": ["cosine", {"kind": "step", "every": 10, "factor": 0.5}]},
            {"rule": "sgd", "lr": 0.1, "schedule": {"kind": "linear", "warmup": 0.2}},
            {"rule": "momentum"},
        ]
    },
    "clipping": {
        "optimizers": [
            {"rule": "sgd", "lr": 0.5, "clip": 0.1},
            {"rule": "adam", "clip": {"value": [0.01, 0.1]}},
            {"rule": "sgd", "name": "free", "lr": 0.5},
        ]
    },
    "gradients pile up": {"zero_grad": False, "optimizers": [{"rule": "adam"}, {"rule": "sgd"}]},
    "piled and clipped": {"zero_grad": False, "optimizers": [{"rule": "sgd", "clip": 0.3}]},
    "smoothing": {
        "problem": {"dataset": MOONS, "loss": {"name": "cross_entropy", "label_smoothing": 0.1}}
    },
    "mse of labels": {
        "problem": {
            "dataset": MOONS,
            "loss": "mse",
            "metrics": ["accuracy", "mse", "mae", "top_1_accuracy"],
        }
    },
    "regression": {
        "problem": {"dataset": "diabetes", "loss": "mse", "metrics": ["mae"]},
        "optimizers": [{"rule": "adam", "lr": 0.01}],
    },
    "other evaluation point": {
        "optimizers": [{"rule": "schedule_free_adamw"}, {"rule": "schedule_free_sgd", "lr": 1.0}]
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_three_engines_agree(name: str) -> None:
    plan, dataset = small_plan(precision="float64", seeds=2, budget={"steps": 20}, **OPTIONS[name])
    for stack in pack(plan.runs, len(plan.runs)):
        for run, stacked in zip(stack, train_stack(stack, dataset, "stacked"), strict=True):
            for other in (train(run, dataset, "reference"), train(run, dataset, "numpy")):
                assert set(other.curves) == set(stacked.curves)
                for metric, curve in stacked.curves.items():
                    values = other.curves[metric].values
                    assert values == pytest.approx(
                        curve.values, rel=TRAJECTORY_FLOAT64, abs=TRAJECTORY_FLOAT64
                    ), (run, metric)


def test_schedule_and_clipping_change_the_run_they_belong_to() -> None:
    """And no other one: a neighbour in the stack has the bits it has without them."""
    plain, dataset = small_plan(optimizers=[{"rule": "sgd"}, {"rule": "sgd", "name": "b"}])
    changed, _ = small_plan(
        optimizers=[{"rule": "sgd"}, {"rule": "sgd", "name": "b", "clip": 0.01}]
    )
    ends = []
    for plan in (plain, changed):
        (stack,) = pack(plan.runs, 2)
        segments = train_stack(stack, dataset, "stacked")
        names = [run.optimizer for run in stack]
        hashes = [segment.facts.parameters_sha256 for segment in segments]
        ends.append(dict(zip(names, hashes, strict=True)))
    assert ends[0]["sgd"] == ends[1]["sgd"]
    assert ends[0]["b"] != ends[1]["b"]


def test_piled_gradients_are_those_of_a_script_that_forgets_zero_grad() -> None:
    plan, dataset = small_plan(
        zero_grad=False,
        precision="float64",
        shuffle=False,
        optimizers=[{"rule": "sgd", "lr": 0.01}],
    )
    (run,) = plan.runs
    torch.manual_seed(run.seed)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    model = model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    split = dataset.splits["train"]
    inputs, targets = torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets)
    losses = []
    for step in range(run.steps):
        first = 32 * (step % run.steps_per_epoch)
        loss = torch.nn.functional.cross_entropy(
            model(inputs[first : first + 32]), targets[first : first + 32]
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for engine in ("reference", "stacked", "numpy"):
        values = train(run, dataset, engine).curves["train_loss"].values
        assert values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_loss_limit_ends_a_run(engine: str) -> None:
    options = {"optimizers": [{"rule": "sgd", "lr": 0.1}], "zero_grad": False}
    free, dataset = small_plan(budget={"steps": 400}, **options)
    losses = train(free.runs[0], dataset, engine).curves["train_loss"].values
    limit = float(losses.max()) * 0.9
    plan, _ = small_plan(budget={"steps": 400}, loss_limit=limit, **options)
    segment = train(plan.runs[0], dataset, engine)
    assert segment.status is Status.DIVERGED
    assert segment.step == 1 + int((losses > limit).argmax())
    assert "above loss_limit" in segment.reason
    assert segment.curves["train_loss"].values.max() <= limit


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_bfloat16_keeps_float32_weights_and_learns_alike(engine: str) -> None:
    """Products lose digits, updates do not: the loss is near, and the weights are float32."""
    options = {
        "problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [70]}},
        "optimizers": [{"rule": "adam", "lr": 0.01}],
        "save": "final",
    }
    exact, dataset = small_plan(**options)
    plan, _ = small_plan(precision="bfloat16", **options)
    (run,) = plan.runs
    assert run.run_id != exact.runs[0].run_id
    segment, full = train(run, dataset, engine), train(exact.runs[0], dataset, engine)
    values, wanted = (s.curves["train_loss"].values for s in (segment, full))
    assert values[-10:] == pytest.approx(wanted[-10:], rel=BFLOAT16_LOSS)
    assert not np.array_equal(values, wanted)
    other = train(run, dataset, "stacked" if engine == "reference" else "reference")
    assert other.curves["train_loss"].values[-10:] == pytest.approx(values[-10:], rel=BFLOAT16_LOSS)


def test_metrics_are_what_they_say() -> None:
    """Against NumPy, on the outputs of a model that was not trained."""
    plan, dataset = small_plan(
        problem={
            "dataset": "digits",
            "loss": "mse",
            "metrics": ["accuracy", "top_3_accuracy", "mse", "mae"],
        },
        evaluate={"every": {"steps": 1}, "on": ["test"]},
        budget={"steps": 1},
        optimizers=[{"rule": "sgd", "lr": 1e-30}],
        precision="float64",
    )
    (run,) = plan.runs
    segment = train(run, dataset, "numpy")
    from optrial.engine import NumpyEngine

    network = NumpyEngine(run, dataset).network
    test = dataset.splits["test"]
    outputs = network.forward(test.inputs.reshape(len(test.inputs), -1).astype(np.float64))
    ranks = (-outputs).argsort(axis=1)
    errors = outputs - np.eye(10)[test.targets]
    wanted = {
        "test_loss": (errors**2).mean(),
        "test_mse": (errors**2).mean(),
        "test_mae": np.abs(errors).mean(),
        "test_accuracy": (ranks[:, 0] == test.targets).mean(),
        "test_top_3_accuracy": (ranks[:, :3] == test.targets[:, None]).any(axis=1).mean(),
    }
    recorded = {name: segment.curves[name].values[-1] for name in wanted}
    assert recorded == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)
