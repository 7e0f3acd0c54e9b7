"""The engines agree with each other, and with automatic differentiation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from optrial.engine import Training
from optrial.engine.backends.numpy_backprop import Network, cross_entropy
from optrial.keyed import mask_key
from optrial.models import ACTIVATIONS, build_model, key_dropout, set_mask_key
from optrial.rules import RULES
from optrial.spec import Status
from tests.small import learner_for, small_plan, train
from tests.tolerance import GRADIENT_FLOAT64, TRAJECTORY_FLOAT64

WITH_DROPOUT = {"kind": "mlp", "hidden": [8, 6], "dropout": 0.3, "input_dropout": 0.1}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_numpy_gradients_equal_autograd(activation: str, bias: bool) -> None:
    arguments = {
        "hidden": [7, 5],
        "activation": activation,
        "dropout": 0.4,
        "input_dropout": 0.2,
        "bias": bias,
    }
    twin = build_model("mlp", arguments, input_shape=(6,), classes=3, seed=0).double()
    network = Network(twin, "float64")
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(20, 6)), generator.integers(0, 3, 20)

    loss, gradient = cross_entropy(network.forward(inputs, mask_key(1, 2)), targets)
    ours = network.backward(gradient)

    set_mask_key(key_dropout(twin), 1, 2)
    expected = nn.functional.cross_entropy(
        twin(torch.from_numpy(inputs)), torch.from_numpy(targets)
    )
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=GRADIENT_FLOAT64)
    for mine, parameter in zip(ours, twin.parameters(), strict=True):
        theirs = parameter.grad.numpy()
        assert np.abs(mine - theirs).max() <= GRADIENT_FLOAT64 * np.abs(theirs).max()


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    "rule", [n for n, r in RULES.items() if not (r.needs_curvature or r.as_one_vector)]
)
def test_numpy_and_reference_train_alike(rule: str) -> None:
    """Float64 steps with dropout and weight decay: same batches, masks and numbers."""
    plan, dataset = small_plan(
        problem={"dataset": {"name": "moons", "n_samples": 200}, "model": WITH_DROPOUT},
        budget={"steps": 40},
        precision="float64",
        optimizers=[{"rule": rule, "weight_decay": 0.001}],
    )
    (run,) = plan.runs
    reference, by_hand = train(run, dataset, "reference"), train(run, dataset, "numpy")
    for name in ("initial_parameters_sha256", "first_batches_sha256"):
        assert getattr(reference.facts, name) == getattr(by_hand.facts, name)
    assert set(reference.curves) == set(by_hand.curves)
    for metric, curve in reference.curves.items():
        assert np.array_equal(curve.steps, by_hand.curves[metric].steps)
        difference = np.abs(curve.values - by_hand.curves[metric].values)
        assert (difference <= TRAJECTORY_FLOAT64 * np.abs(curve.values)).all(), metric


@pytest.mark.parametrize(
    ("options", "steps_per_epoch", "last_batch"),
    [
        ({}, 5, 32),
        ({"batch_size": "full"}, 1, 160),
        ({"batch_size": 1}, 160, 1),
        ({"batch_size": 50}, 4, 10),
        ({"batch_size": 50, "drop_last": True}, 3, 50),
        ({"sampling": "with_replacement", "batch_size": 50}, 4, 50),
        ({"shuffle": False}, 5, 32),
    ],
)
@pytest.mark.parametrize("engine", ["reference", "numpy"])
def test_batches(
    options: dict[str, Any], steps_per_epoch: int, last_batch: int, engine: str
) -> None:
    plan, dataset = small_plan(**options)
    (run,) = plan.runs
    assert run.steps_per_epoch == steps_per_epoch
    batches = learner_for([run], dataset, engine).batches(1)
    epoch = [np.asarray(next(batches).indices) for _ in range(steps_per_epoch)]
    assert len(epoch[-1]) == last_batch
    seen = np.concatenate(epoch)
    if options.get("sampling") != "with_replacement":
        assert len(np.unique(seen)) == len(seen)
    if options.get("shuffle") is False:
        assert np.array_equal(seen, np.arange(len(seen)))


def test_script_batches_follow_the_same_options() -> None:
    plan, dataset = small_plan(rng="script", shuffle=False, batch_size=50, drop_last=True)
    (run,) = plan.runs
    batches = learner_for([run], dataset).batches(1)
    seen = np.concatenate([np.asarray(next(batches).indices) for _ in range(3)])
    assert np.array_equal(seen, np.arange(150))


@pytest.mark.parametrize("engine", ["reference", "numpy"])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_runs_with_one_seed_are_paired(engine: str, rule: str) -> None:
    plan, dataset = small_plan(
        seeds=2, optimizers=[{"rule": "rmsprop"}, {"rule": rule}], engine=engine
    )
    facts = [train(run, dataset).facts for run in plan.runs]
    for name in ("initial_parameters_sha256", "first_batches_sha256"):
        first_0, first_1, second_0, second_1 = (getattr(fact, name) for fact in facts)
        assert first_0 == second_0 != first_1 == second_1


@pytest.mark.parametrize("engine", ["reference", "numpy"])
def test_evaluation_changes_nothing(engine: str) -> None:
    """Training is bit for bit the same however often it is evaluated, dropout included."""
    plan, dataset = small_plan(problem={"dataset": "moons", "model": WITH_DROPOUT}, engine=engine)
    (often,) = plan.runs
    rarely = replace(often, evaluate_every=40)
    dense = train(replace(often, evaluate_every=1, evaluate_on=("train", "test")), dataset)
    sparse = train(rarely, dataset)
    assert np.array_equal(dense.curves["train_loss"].values, sparse.curves["train_loss"].values)
    assert dense.facts.parameters_sha256 == sparse.facts.parameters_sha256


def test_evaluation_uses_the_whole_network() -> None:
    """Evaluating twice in a row gives the same numbers, and they are those of eval mode."""
    plan, dataset = small_plan(problem={"dataset": "moons", "model": WITH_DROPOUT})
    learner = learner_for(plan.runs[:1], dataset)
    first = learner.evaluate("test", 1)
    assert first == learner.evaluate("test", 1)
    learner.model.eval()
    test = dataset.splits["test"]
    with torch.no_grad():
        logits = learner.model(torch.from_numpy(test.inputs))
    right = (logits.argmax(1).numpy() == test.targets).mean()
    assert first[1] == right


def test_recorded_metrics_and_their_steps() -> None:
    plan, dataset = small_plan(evaluate={"every": {"steps": 15}, "on": ["train", "test"]})
    curves = train(plan.runs[0], dataset).curves
    assert set(curves) == {
        "train_loss",
        "train_loss_epoch",
        "train_accuracy_epoch",
        "train_eval_loss",
        "train_eval_accuracy",
        "test_loss",
        "test_accuracy",
    }
    assert curves["train_loss"].steps.tolist() == list(range(1, 41))
    assert curves["train_loss_epoch"].steps.tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert curves["test_loss"].steps.tolist() == [15, 30, 40]


def test_epoch_means_weigh_samples() -> None:
    """The last batch of 10 counts a fifth of a batch of 50; each epoch is a mean of its own."""
    plan, dataset = small_plan(batch_size=50, budget={"epochs": 3})
    curves = train(plan.runs[0], dataset).curves
    losses = curves["train_loss"].values.reshape(3, 4)
    assert curves["train_loss_epoch"].values == pytest.approx(
        np.average(losses, axis=1, weights=[50, 50, 50, 10]), rel=GRADIENT_FLOAT64
    )


@pytest.mark.parametrize("engine", ["reference", "numpy"])
def test_divergence_is_a_status_with_its_step(engine: str) -> None:
    plan, dataset = small_plan(optimizers=[{"rule": "sgd", "lr": 1e30}], engine=engine)
    segment = train(plan.runs[0], dataset)
    assert segment.status is Status.DIVERGED
    assert 1 < segment.step < 40
    assert "loss is" in segment.reason
    assert np.isfinite(segment.curves["train_loss"].values).all()
    assert segment.curves["train_loss"].steps[-1] < segment.step


def test_divergence_found_by_the_last_evaluation() -> None:
    """The last update can ruin the weights without any training loss left to show it."""
    plan, dataset = small_plan(optimizers=[{"rule": "sgd", "lr": 1e38}], budget={"steps": 1})
    segment = train(plan.runs[0], dataset)
    assert segment.status is Status.DIVERGED
    assert "test_loss" in segment.reason
    assert "test_loss" not in segment.curves


@pytest.mark.one_in(7)
@pytest.mark.parametrize(
    "options",
    [
        {"engine": "numpy"},
        {"engine": "reference"},
        {"rng": "script"},
        {"rng": "script", "batch_size": "full"},
    ],
)
@pytest.mark.parametrize("rule", ["momentum", "nadam", "rmsprop_nesterov"])
@pytest.mark.parametrize("stop_at", [1, 5, 13, 20, 39])
def test_resumed_training_is_bit_identical(
    options: dict[str, Any], rule: str, stop_at: int
) -> None:
    plan, dataset = small_plan(
        problem={"dataset": "moons", "model": WITH_DROPOUT},
        optimizers=[{"rule": rule}],
        **options,
    )
    (run,) = plan.runs
    whole = train(run, dataset)

    first = Training([run], learner_for([run], dataset))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < stop_at):
        pass
    assert (first.status, first.step) == ([Status.INTERRUPTED], stop_at)
    checkpoint, (before,) = first.checkpoint(), first.segments()
    torch.manual_seed(12345)  # another process knows nothing of this one's generator
    second = Training([run], learner_for([run], dataset))
    second.resume(checkpoint)
    for _ in second.run():
        pass
    (after,) = second.segments()
    assert after.facts.parameters_sha256 == whole.facts.parameters_sha256
    assert after.facts.first_batches_sha256 == whole.facts.first_batches_sha256
    for metric, curve in whole.curves.items():
        parts = [part.curves[metric] for part in (before, after) if metric in part.curves]
        assert np.array_equal(curve.steps, np.concatenate([part.steps for part in parts]))
        assert np.array_equal(curve.values, np.concatenate([part.values for part in parts]))
