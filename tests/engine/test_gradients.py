"""Accumulated gradients and SAM against plain PyTorch scripts, in every engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from optrial.data import Dataset
from optrial.engine import Learner, StackedEngine, Training, tensor_splits
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.models import build_model
from optrial.plan import arrange, pack
from optrial.records import Segment
from optrial.spec import RunSpec
from tests.small import learner_for, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own
ENGINES = [
    "reference",
    "stacked",
    "numpy",
    pytest.param("compiled", marks=pytest.mark.slow),
]
OPTIMIZERS = [{"rule": "adam", "lr": [0.02, 0.05]}, {"rule": "momentum", "lr": 0.1}]
CONVNET = {"kind": "cnn", "widths": [4], "pool_after": [1], "batch_norm": True}
CENTRED, REPLACED = (
    {"factory": "tests.user_models:centred", "args": {"in_place": in_place}}
    for in_place in (True, False)
)


def plan_of(**keys: Any) -> tuple[tuple[RunSpec, ...], Dataset]:
    plan, data = small_plan(
        **{
            "precision": "float64",
            "budget": {"steps": 12},
            "evaluate": {"every": {"steps": 6}, "on": ["test"]},
            "seeds": [0, 1],
            "optimizers": OPTIMIZERS,
        }
        | keys
    )
    return arrange(plan.runs), data


def learner_of(runs: Sequence[RunSpec], data: Dataset, engine: str) -> Learner:
    if engine == "compiled":
        splits = tensor_splits(data, "float64", "cpu")
        return StackedEngine(runs, data, splits, compiled=True)
    return learner_for(runs, data, engine)


def trained(runs: Sequence[RunSpec], data: Dataset, engine: str) -> dict[str, Segment]:
    wide = len(runs) if engine in ("stacked", "compiled") else 1
    segments: dict[str, Segment] = {}
    for stack in pack(runs, wide):
        training = Training(stack, learner_of(stack, data, engine))
        for _ in training.run():
            pass
        segments |= {segment.run_id: segment for segment in training.segments()}
    return segments


def model_of(run: RunSpec, data: Dataset) -> nn.Module:
    return build_model(
        run.model, run.model_arguments, input_shape=data.input_shape, classes=data.classes,
        seed=run.seed,
    ).double()  # fmt: skip


def optimizer_of(run: RunSpec, model: nn.Module) -> torch.optim.Optimizer:
    lr = run.hyperparameters["lr"]
    if run.rule == "adam":
        return torch.optim.Adam(model.parameters(), lr)
    return torch.optim.SGD(model.parameters(), lr, momentum=run.hyperparameters["momentum"])


def accumulated(run: RunSpec, data: Dataset, parts: int, weight: Any = None) -> list[float]:
    """Losses of a loop that averages the gradients of `parts` batches in each step."""
    model = model_of(run, data)
    optimizer, train = optimizer_of(run, model), tensor_splits(data, "float64", "cpu")["train"]
    batches, losses = batch_order(run, len(train)).batches(1), []
    for _ in range(run.steps):
        rows = [next(batches) for _ in range(parts)]
        labels = [train.targets[some] for some in rows]
        counts = [float(len(y) if weight is None else weight[y].sum()) for y in labels]
        optimizer.zero_grad()
        total = 0.0
        for some, y, count in zip(rows, labels, counts, strict=True):
            loss = functional.cross_entropy(model(train.inputs[some]), y, weight=weight)
            loss = loss * count / sum(counts)
            loss.backward()
            total += loss.item()
        optimizer.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("engine", ENGINES)
def test_accumulated_gradients_are_those_of_a_plain_loop(engine: str) -> None:
    runs, data = plan_of(batch_size=28, accumulate=3)
    assert data.batched.size % 28, "the last batch is smaller"
    segments = trained(runs, data, engine)
    for run in runs:
        losses = segments[run.run_id].curves["train_loss"].values
        assert losses == pytest.approx(accumulated(run, data, 3), rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_weights_of_classes_weight_the_batches_of_a_step(engine: str) -> None:
    loss = {"name": "cross_entropy", "weight": [1.0, 5.0]}
    problem = {"dataset": "breast-cancer", "model": "logistic", "loss": loss}
    runs, data = plan_of(problem=problem, batch_size=100, accumulate=5, seeds=[0])
    weight, segments = torch.tensor([1.0, 5.0], dtype=torch.float64), trained(runs, data, engine)
    for run in runs:
        losses = segments[run.run_id].curves["train_loss"].values
        known = accumulated(run, data, 5, weight)
        assert losses == pytest.approx(known, rel=TRAJECTORY_FLOAT64)


def test_a_step_of_thirds_is_the_step_of_the_whole_batch() -> None:
    thirds, data = plan_of(batch_size=28, accumulate=3)
    whole, _ = plan_of(batch_size=84)
    one, other = trained(thirds, data, "stacked"), trained(whole, data, "stacked")
    for third, full in zip(thirds, whole, strict=True):
        assert third.run_id != full.run_id
        assert third.steps_per_epoch == full.steps_per_epoch == 2
        for name in ("train_loss", "train_accuracy_epoch", "test_loss"):
            known = other[full.run_id].curves[name].values
            values = one[third.run_id].curves[name].values
            assert values == pytest.approx(known, rel=TRAJECTORY_FLOAT64)


def test_masks_of_dropout_differ_between_the_batches_of_a_step() -> None:
    model = {"kind": "mlp", "hidden": [8], "dropout": 0.5}
    problem = {"dataset": "digits", "model": model}
    runs, data = plan_of(problem=problem, batch_size=100, accumulate=7, drop_last=True, seeds=[0])
    by_engine = [trained(runs, data, engine) for engine in ("reference", "stacked", "numpy")]
    for run in runs:
        first, *others = (s[run.run_id].curves["train_loss"].values for s in by_engine)
        for losses in others:
            assert losses == pytest.approx(first, rel=TRAJECTORY_FLOAT64)


def sam(run: RunSpec, data: Dataset, rho: float, adaptive: bool) -> tuple[list[float], float]:
    """Losses of the loop that the authors of SAM and its usual PyTorch port describe."""
    model = model_of(run, data)
    optimizer, splits = optimizer_of(run, model), tensor_splits(data, "float64", "cpu")
    train, test = splits["train"], splits["test"]
    batches, losses = batch_order(run, len(train)).batches(1), []
    for _, rows in zip(range(run.steps), batches, strict=False):
        inputs, labels = train.inputs[rows], train.targets[rows]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        kept = {name: b.clone() for name, b in model.named_buffers()}
        with torch.no_grad():
            parts = [(p.abs() if adaptive else 1.0) * p.grad for p in model.parameters()]
            norm = torch.stack([part.norm() for part in parts]).norm()
            for p in model.parameters():
                p.add_((p**2 if adaptive else 1.0) * p.grad * rho / (norm + 1e-12))
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(before[name])
            for name, b in model.named_buffers():
                b.copy_(kept[name])
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        return losses, functional.cross_entropy(model(test.inputs), test.targets).item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("key", ["sam", "adaptive_sam"])
def test_sam_is_that_of_a_plain_loop(engine: str, key: str) -> None:
    optimizers = [entry | {key: {"rho": [0.05, 0.5]}} for entry in OPTIMIZERS]
    runs, data = plan_of(optimizers=optimizers, seeds=[0])
    segments = trained(runs, data, engine)
    for run in runs:
        assert run.sam_rho is not None
        losses, final = sam(run, data, run.sam_rho, key == "adaptive_sam")
        curves = segments[run.run_id].curves
        assert curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        assert curves["test_loss"].values[-1] == pytest.approx(final, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("model", [CONVNET, CENTRED, REPLACED])
@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_buffers_are_those_of_the_first_pass_of_sam(engine: str, model: Any) -> None:
    """The second pass starts from them, too."""
    dataset = "digits" if model == CONVNET else {"name": "moons", "n_samples": 100}
    problem = {"dataset": dataset, "model": model}
    keys = {"problem": problem, "batch_size": 50, "budget": {"steps": 4}, "seeds": [0]}
    runs, data = plan_of(**keys, optimizers=[{"rule": "momentum", "lr": [0.05, 0.1], "sam": 0.1}])
    segments = trained(runs, data, engine)
    for run in runs:
        losses, final = sam(run, data, 0.1, adaptive=False)
        curves = segments[run.run_id].curves
        assert curves["train_loss"].values == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
        assert curves["test_loss"].values[-1] == pytest.approx(final, rel=TRAJECTORY_FLOAT64)


@pytest.mark.parametrize("model", [CENTRED, REPLACED])
def test_buffers_pass_from_batch_to_batch_of_an_accumulated_step(model: Any) -> None:
    problem = {"dataset": {"name": "moons", "n_samples": 100}, "model": model}
    keys = {"problem": problem, "batch_size": 20, "accumulate": 4, "budget": {"steps": 4}}
    runs, data = plan_of(**keys, optimizers=[{"rule": "sgd", "lr": [0.1, 0.2], "sam": 0.1}])
    alone, stacked = (trained(runs, data, engine) for engine in ("reference", "stacked"))
    for run_id, segment in alone.items():
        for metric, curve in segment.curves.items():
            values = stacked[run_id].curves[metric].values
            assert values == pytest.approx(curve.values, rel=TRAJECTORY_FLOAT64), metric


def test_runs_with_and_without_sam_are_in_stacks_of_their_own() -> None:
    entry = {"rule": "adam", "lr": 0.02}
    sharp = [entry | {"name": f"sam{rho}", "sam": rho} for rho in (0.05, 0.1)]
    runs, _ = plan_of(optimizers=[entry, *sharp], seeds=[0])
    stacks = [{run.optimizer for run in stack} for stack in pack(runs, 10)]
    assert sorted(map(sorted, stacks)) == [["adam"], ["sam0.05", "sam0.1"]]


@pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])
def test_both_resume_to_the_same_bits(engine: str) -> None:
    optimizers = [{"rule": "adam", "lr": [0.02, 0.05], "sam": 0.1}]
    runs, data = plan_of(batch_size=28, accumulate=3, optimizers=optimizers)
    runs = runs if engine == "stacked" else runs[:1]
    whole = Training(runs, learner_of(runs, data, engine))
    for _ in whole.run():
        pass
    first = Training(runs, learner_of(runs, data, engine))
    for _ in first.run(lambda step: step < 5):
        pass
    second = Training(runs, learner_of(runs, data, engine))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    assert first.step < 12
    for one, other in zip(whole.segments(), second.segments(), strict=True):
        assert one.facts.parameters_sha256 == other.facts.parameters_sha256
        assert one.facts.first_batches_sha256 == other.facts.first_batches_sha256
        assert np.array_equal(
            one.curves["test_loss"].values[-1:], other.curves["test_loss"].values[-1:]
        )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"batch_size": 25, "accumulate": 3}, "does not divide the 7 batches of 25.*use 7, or an"),
        ({"batch_size": 26, "accumulate": 3}, "use 7, or another batch_size, or drop_last: true"),
        ({"batch_size": "full", "accumulate": 3}, "an epoch has one batch; leave it out"),
        ({"accumulate": 0}, "accumulate"),
        ({"optimizers": [{"rule": "sgd", "sam": 0}]}, "optimizers\\[0\\].sam.rho: 0: must be"),
        ({"optimizers": [{"rule": "sgd", "sam": 0.1, "adaptive_sam": 1}]}, "one of sam"),
        ({"optimizers": [{"rule": "sgd", "sam": 0.1}], "zero_grad": False}, "zero_grad: true"),
        ({"optimizers": [{"torch": "torch.optim:LBFGS", "sam": 0.1}]}, "computes its gradients"),
        (
            {"batch_size": 28, "accumulate": 3, "probes": ["gradient_norm"]},
            "measured on one batch",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        plan_of(**keys)
