"""Averages of the weights against `torch.optim.swa_utils`, in every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from optrial.data import Dataset
from optrial.engine import Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import arrange, pack
from optrial.records import Segment
from optrial.spec import MetricName, RunSpec, Status
from optrial.study import Study
from tests.small import learner_for, small_keys, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

STEPS, EVERY = 12, 3
OPTIMIZERS = [{"rule": "sgd", "lr": [0.2, 0.5]}, {"rule": "adam", "lr": 0.05}]
CONVNET = {"kind": "cnn", "widths": [4], "pool_after": [1], "batch_norm": True}


def plan_of(average: object, **keys: Any) -> tuple[tuple[RunSpec, ...], Dataset]:
    plan, data = small_plan(
        **{
            "precision": "float64",
            "budget": {"steps": STEPS},
            "evaluate": {"every": {"steps": EVERY}, "on": ["test"]},
            "seeds": [0, 1],
            "optimizers": [entry | {"average": average} for entry in OPTIMIZERS],
        }
        | keys
    )
    return arrange(plan.runs), data


def trained(runs: Sequence[RunSpec], data: Dataset, engine: str) -> dict[str, Segment]:
    segments: dict[str, Segment] = {}
    for stack in pack(runs, len(runs) if engine == "stacked" else 1):
        training = Training(stack, learner_for(stack, data, engine))
        for _ in training.run():
            pass
        segments |= {segment.run_id: segment for segment in training.segments()}
    return segments


def script(run: RunSpec, data: Dataset) -> dict[str, list[float]]:
    """Test losses of the weights and of their average, of a plain loop."""
    assert run.average is not None
    model = build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        seed=run.seed,
    ).double()  # fmt: skip
    kind = torch.optim.SGD if run.rule == "sgd" else torch.optim.Adam
    optimizer = kind(model.parameters(), run.hyperparameters["lr"])
    average, value = run.average.kind, run.average.value
    decay = get_ema_multi_avg_fn(value) if average == "ema" else None
    averaged = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
    splits = tensor_splits(data, "float64", "cpu")
    train, test = splits["train"], splits["test"]
    losses: dict[str, list[float]] = {"test_loss_raw": [], "test_loss": []}
    batches = batch_order(run, len(train)).batches(1)
    for step, rows in zip(range(1, STEPS + 1), batches, strict=False):
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(train.inputs[rows]), train.targets[rows]).backward()
        optimizer.step()
        begun = average == "ema" or step > STEPS - round(value * STEPS)
        if begun:
            averaged.update_parameters(model)
        if step % EVERY == 0:
            for name, module in (
                ("test_loss_raw", model),
                ("test_loss", averaged if begun else model),
            ):
                module.eval()
                with torch.no_grad():
                    loss = functional.cross_entropy(module(test.inputs), test.targets)
                losses[name].append(loss.item())
    return losses


@pytest.mark.one_in(2)
@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
@pytest.mark.parametrize("average", [{"ema": [0.5, 0.9]}, {"tail": 0.5}])
def test_averages_are_those_of_torch(engine: str, average: object) -> None:
    runs, data = plan_of(average)
    segments = trained(runs, data, engine)
    for run in runs:
        curves = segments[run.run_id].curves
        for name, losses in script(run, data).items():
            assert curves[name].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_averages_of_batch_norm_are_averaged_too(engine: str) -> None:
    runs, data = plan_of(
        {"ema": 0.8}, problem={"dataset": "digits", "model": CONVNET}, batch_size=100, seeds=[0]
    )
    segments = trained(runs, data, engine)
    for run in runs:
        curves = segments[run.run_id].curves
        for name, losses in script(run, data).items():
            assert curves[name].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
@pytest.mark.parametrize("average", [{"ema": 0.9}, {"tail": 0.75}])
def test_a_resumed_average_has_the_same_bits(engine: str, average: object) -> None:
    runs, data = plan_of(average)
    runs = runs if engine == "stacked" else runs[:1]
    whole = Training(runs, learner_for(runs, data, engine))
    for _ in whole.run():
        pass
    first = Training(runs, learner_for(runs, data, engine))
    for _ in first.run(lambda step: step < 5):
        pass
    second = Training(runs, learner_for(runs, data, engine))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    assert 0 < first.step < STEPS
    for run, (one, other) in enumerate(zip(whole.segments(), second.segments(), strict=True)):
        for name in ("test_loss", "test_loss_raw"):
            assert one.curves[name].values[-1] == other.curves[name].values[-1]
        kept, again = whole.learner.weights(run), second.learner.weights(run)
        assert all(np.array_equal(kept[name], again[name]) for name in kept)


def test_saved_weights_are_the_average(tmp_path: Any) -> None:
    entry = {"rule": "sgd", "lr": 0.5}
    optimizers = [entry, entry | {"name": "averaged", "average": {"ema": 0.9}}]
    study = Study(**small_keys(optimizers=optimizers, save="final"))
    with study.run(tmp_path / "study") as results:
        evaluations = results.evaluate("test")
        assert evaluations
        assert not any(evaluation.differs for evaluation in evaluations)
        assert "raw weights" in results.report(tmp_path / "report.html").read_text()
        rows = results.runs().set_index("optimizer")
        assert rows.loc["averaged", "test_loss"] != rows.loc["averaged", "test_loss_raw"]
        assert set(rows["status"]) == {Status.DONE}


def test_names_of_values_at_the_weights() -> None:
    name = MetricName.parse("test_accuracy_raw")
    assert (name.label, name.split, name.raw) == ("accuracy", "test", True)
    assert str(name) == "test_accuracy_raw"
    assert name.title == "test accuracy (raw weights)"
    assert MetricName.parse("test_my_raw", ["my_raw"]).label == "my_raw"


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        ({"rule": "sgd", "average": {"ema": 1.0}}, "average.ema: 1.0: must be"),
        ({"rule": "sgd", "average": {"tail": 0}}, "average.tail: 0: must be"),
        ({"rule": "sgd", "average": {"ema": 0.9, "tail": 0.5}}, "ema: 0.999"),
        ({"rule": "schedule_free_sgd", "average": {"ema": 0.9}}, "its own average"),
    ],
)
def test_wrong_averages_are_refused(optimizer: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        small_plan(optimizers=[optimizer])
