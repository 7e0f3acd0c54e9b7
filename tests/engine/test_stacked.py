"""The certificate of the stacked engine: a run in a stack is the run by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optrial.data import Dataset
from optrial.engine import Engines, StackedEngine, Training, tensor_splits
from optrial.plan import Plan, arrange, pack
from optrial.records import Segment
from optrial.rules import RULES
from optrial.spec import RunSpec, Status
from tests.small import learner_for, resumed, small_plan, train, train_stack
from tests.tolerance import FINAL_LOSS_FLOAT32, TRAJECTORY_FLOAT64

MIXED_DROPOUT = {
    "kind": "mlp",
    "hidden": [8, 6],
    "dropout": [0.0, 0.3],
    "input_dropout": 0.1,
    "initialization": "xavier_normal",
}


TOGETHER = [name for name, rule in RULES.items() if rule.capturable]
SOMETIMES_MORE = [
    name
    for name, rule in RULES.items()
    if not (rule.capturable or rule.needs_curvature or rule.as_one_vector)
]
"""Rules that compute more in some steps than in others."""


def with_everything(rule: str) -> dict[str, Any]:
    """An optimizer with weight decay, two rates, clipping and a schedule."""
    return {
        "rule": rule,
        "lr": [0.001, 0.003],
        "weight_decay": 0.01,
        "clip": {"norm": 0.5, "value": 0.2},
        "schedule": {"kind": "cosine", "warmup": {"steps": 10}},
    }


def mixed_plan(rules: Sequence[str] = TOGETHER, **changes: Any) -> tuple[Plan, Dataset]:
    """Rules with everything, and two dropout rates."""
    options = {
        "problem": {"dataset": {"name": "moons", "n_samples": 200}, "model": MIXED_DROPOUT},
        "batch_size": 50,  # a short batch ends each epoch of 160
        "budget": {"steps": 50},
        "precision": "float64",
        "optimizers": [with_everything(rule) for rule in rules],
    }
    return small_plan(**(options | changes))


def by_id(runs: Sequence[RunSpec], segments: Sequence[Segment]) -> dict[str, Segment]:
    assert [run.run_id for run in runs] == [segment.run_id for segment in segments]
    return {segment.run_id: segment for segment in segments}


def largest_difference(one: Segment, other: Segment) -> float:
    """The largest relative difference between two runs' curves, which must have the same steps."""
    assert set(one.curves) == set(other.curves)
    differences = []
    for metric, curve in one.curves.items():
        assert np.array_equal(curve.steps, other.curves[metric].steps)
        scale = np.abs(curve.values).max()
        differences.append(np.abs(curve.values - other.curves[metric].values).max() / scale)
    return max(differences)


@pytest.mark.parametrize("rules", [TOGETHER, SOMETIMES_MORE], ids=["alike", "sometimes more"])
def test_each_run_of_a_mixed_stack_equals_the_reference(rules: Sequence[str]) -> None:
    plan, dataset = mixed_plan(rules, seeds=1, budget={"steps": 12})
    (stack,) = pack(plan.runs, len(plan.runs))
    stacked = by_id(stack, train_stack(stack, dataset, "stacked"))
    assert len(stacked) == 4 * len(rules)
    of_rules = [[run for run in stack if run.rule == rule] for rule in rules]
    for place, runs in enumerate(of_rules):  # each of the four settings with every fourth rule
        run = runs[place % 4]
        alone = train(run, dataset, "reference")
        assert largest_difference(stacked[run.run_id], alone) <= TRAJECTORY_FLOAT64, run
        for name in ("initial_parameters_sha256", "first_batches_sha256"):
            assert getattr(stacked[run.run_id].facts, name) == getattr(alone.facts, name)


def test_a_gradient_that_a_rule_keeps_does_not_accumulate() -> None:
    """Without zero_grad PyTorch adds to the gradients that adan, rprop and mars compare with."""
    entries: list[dict[str, Any]] = [{"rule": rule} for rule in (*TOGETHER, *SOMETIMES_MORE)]
    entries += [{"rule": "adam", "name": "mars", "modify": ["mars"]}]
    plan, dataset = small_plan(
        zero_grad=False, budget={"steps": 4}, precision="float64", optimizers=entries
    )
    for stack in pack(plan.runs, len(plan.runs)):
        for run, segment in zip(stack, train_stack(stack, dataset, "stacked"), strict=True):
            alone = train(run, dataset, "reference")
            assert largest_difference(segment, alone) <= TRAJECTORY_FLOAT64, run


@pytest.mark.slow
def test_resumed_stacks_of_a_transformer_have_the_same_bits() -> None:
    """Bases of soap and gradients of attention are not laid out in memory as what is restored."""
    model = {"kind": "transformer", "width": 8, "depth": 2, "heads": 2}
    rules = [name for name, rule in RULES.items() if "axes" in rule.needs or rule.model]
    plan, dataset = small_plan(
        problem={"dataset": {"name": "coriolanus", "context": 6}, "model": model},
        optimizers=[{"rule": rule} for rule in rules],
        budget={"steps": 7},
        precision="float64",
    )
    for stack in pack(plan.runs, len(plan.runs)):
        ends = [end for _, end in resumed(stack, dataset, "stacked", 3)]
        for run, whole, end in zip(
            stack, train_stack(stack, dataset, "stacked"), ends, strict=True
        ):
            assert end.facts.parameters_sha256 == whole.facts.parameters_sha256, run.rule


@pytest.mark.parametrize("bias", [True, False])
def test_wide_layers_equal_the_reference(bias: bool) -> None:
    """From 64 inputs on, layers are multiplied the other way round; digits have 64."""
    model = {"kind": "mlp", "hidden": [70, 5], "dropout": 0.2, "bias": bias}
    plan, dataset = small_plan(
        problem={"dataset": "digits", "model": model},
        seeds=2,
        budget={"steps": 15},
        precision="float64",
        optimizers=[{"rule": "sgd", "lr": [0.1, 0.2]}, {"rule": "adam"}],
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    for run, segment in zip(stack, train_stack(stack, dataset, "stacked"), strict=True):
        assert largest_difference(segment, train(run, dataset, "reference")) <= TRAJECTORY_FLOAT64


@pytest.mark.slow
def test_float32_ends_at_the_same_loss() -> None:
    """Rounding differs, and training amplifies it; on gentle settings the end is the same."""
    plan, dataset = mixed_plan(precision="float32", budget={"steps": 15})
    (stack,) = pack(plan.runs, len(plan.runs))
    for run, segment in zip(stack, train_stack(stack, dataset, "stacked"), strict=True):
        alone = train(run, dataset, "reference").curves["test_loss"].values[-1]
        ended = segment.curves["test_loss"].values[-1]
        assert ended == pytest.approx(alone, rel=FINAL_LOSS_FLOAT32), run


def test_splitting_a_stack_changes_nothing() -> None:
    plan, dataset = mixed_plan(seeds=2, budget={"steps": 12})
    (whole,) = pack(plan.runs, len(plan.runs))
    together = by_id(whole, train_stack(whole, dataset, "stacked"))
    for width in (1, 5, 20):
        for part in pack(plan.runs, width)[:5]:
            for run_id, segment in by_id(part, train_stack(part, dataset, "stacked")).items():
                assert largest_difference(together[run_id], segment) <= TRAJECTORY_FLOAT64, width


def test_a_diverging_neighbour_changes_no_bit() -> None:
    def other_bits(rate: float) -> list[str]:
        optimizers = [{"rule": "adam"}, {"rule": "momentum"}, {"rule": "sgd", "lr": [0.1, rate]}]
        plan, dataset = small_plan(optimizers=optimizers, seeds=2)
        (stack,) = pack(plan.runs, len(plan.runs))
        segments = train_stack(stack, dataset, "stacked")
        kept = [run.hyperparameters["lr"] != rate for run in stack]
        diverged = [segment.status is Status.DIVERGED for segment in segments]
        assert diverged == [rate > 1 and not keep for keep in kept]
        values = [segment.curves["train_loss"].values.tobytes() for segment in segments]
        hashes = [segment.facts.parameters_sha256 for segment in segments]
        return [x for many in (values, hashes) for x, keep in zip(many, kept, strict=True) if keep]

    assert other_bits(0.2) == other_bits(1e30)


@pytest.mark.parametrize("rate", [1e10, 1e30])
def test_divergence_has_the_step_of_the_reference(rate: float) -> None:
    plan, dataset = small_plan(optimizers=[{"rule": "sgd", "lr": [0.1, rate]}])
    (stack,) = pack(plan.runs, 2)
    (segment,) = [s for s in train_stack(stack, dataset, "stacked") if s.status is Status.DIVERGED]
    alone = train(next(run for run in stack if run.run_id == segment.run_id), dataset, "reference")
    assert (alone.status, alone.step, alone.reason) == (
        segment.status,
        segment.step,
        segment.reason,
    )
    assert np.isfinite(segment.curves["train_loss"].values).all()


def test_a_diverged_run_is_frozen_and_the_others_go_on() -> None:
    plan, dataset = small_plan(optimizers=[{"rule": "sgd", "lr": [0.1, 1e30]}])
    (stack,) = pack(plan.runs, 2)
    learner = learner_for(stack, dataset, "stacked")
    learner.start(1)
    before = [learner.parameters_sha256(run) for run in range(len(stack))]
    while np.isfinite(losses := learner.advance(1).losses[0]).all():
        before = [learner.parameters_sha256(run) for run in range(len(stack))]
    learner.advance(3)
    kept = [learner.parameters_sha256(run) == sha256 for run, sha256 in enumerate(before)]
    assert (
        kept == (~np.isfinite(losses)).tolist() == [run.hyperparameters["lr"] > 1 for run in stack]
    )


def test_evaluation_changes_nothing() -> None:
    plan, dataset = mixed_plan(budget={"steps": 12})
    (stack,) = pack(plan.runs, len(plan.runs))
    often = [replace(run, evaluate_every=1, evaluate_on=("train", "test")) for run in stack]
    rarely = [replace(run, evaluate_every=12) for run in stack]
    dense, sparse = (train_stack(runs, dataset, "stacked") for runs in (often, rarely))
    for one, other in zip(dense, sparse, strict=True):
        assert one.facts.parameters_sha256 == other.facts.parameters_sha256


RESUMED: dict[str, list[dict[str, Any]]] = {
    "alike": [
        {"rule": "nadam"},
        {"rule": "rmsprop", "momentum": [0.0, 0.9]},
        {"rule": "sgd", "lr": [0.1, 1e30]},
    ],
    "sometimes more": [
        {"rule": "soap", "precondition_frequency": 3},
        {"rule": "psgd_kron", "lr": [0.001, 0.003]},
    ],
}


class Undisturbed(NamedTuple):
    """A stack, its dataset, and its runs trained without a pause, by id."""

    stack: Sequence[RunSpec]
    dataset: Dataset
    runs: dict[str, Segment]


@pytest.fixture(scope="module", params=RESUMED.values(), ids=RESUMED)
def undisturbed(request: pytest.FixtureRequest) -> Undisturbed:
    plan, dataset = small_plan(
        problem={"dataset": "moons", "model": MIXED_DROPOUT}, seeds=2, optimizers=request.param
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    return Undisturbed(stack, dataset, by_id(stack, train_stack(stack, dataset, "stacked")))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("stop_at", [1, 7, 20, 39])
def test_resumed_stack_is_bit_identical(undisturbed: Undisturbed, stop_at: int) -> None:
    stack, dataset, whole = undisturbed
    first = Training(stack, learner_for(stack, dataset, "stacked"))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < stop_at):
        pass
    checkpoint, before = first.checkpoint(), by_id(stack, first.segments())
    second = Training(stack, learner_for(stack, dataset, "stacked"))
    second.resume(checkpoint)
    for _ in second.run():
        pass
    after = {segment.run_id: segment for segment in second.segments()}
    for run_id, expected in whole.items():
        parts = [part[run_id] for part in (before, after) if run_id in part]
        assert (parts[-1].status, parts[-1].step) == (expected.status, expected.step)
        if expected.status is Status.DONE:
            hashes = [s.facts.parameters_sha256 for s in (parts[-1], expected)]
            assert hashes[0] == hashes[1]
        for metric, curve in expected.curves.items():
            pieces = [part.curves[metric] for part in parts if metric in part.curves]
            values = np.concatenate([piece.values for piece in pieces])
            assert np.array_equal(curve.values, values), metric


def test_runs_with_one_seed_share_their_draws_whatever_the_rate() -> None:
    """What a stack must not do is share noise between seeds."""
    plan, dataset = small_plan(
        problem={"dataset": "moons", "model": MIXED_DROPOUT}, seeds=2, shuffle=False
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    segments = train_stack(stack, dataset, "stacked")
    losses = {
        run.seed: s.curves["train_loss"].values for run, s in zip(stack, segments, strict=True)
    }
    assert not np.array_equal(losses[0], losses[1])


RUNS = small_plan(
    batch_size=[16, 32],
    seeds=3,
    optimizers=[{"rule": "sgd", "lr": [0.1, 0.2, 0.3]}, {"rule": "adam", "weight_decay": [0, 0.1]}],
)[0].runs


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.sampled_from(RUNS), unique_by=lambda run: run.run_id, min_size=1),
    width=st.integers(1, 40),
)
def test_packing_law(runs: list[RunSpec], width: int) -> None:
    """Every run once; no stack too wide; each a grid; the order of the runs does not matter."""
    stacks = pack(runs, width)
    packed = sorted(run.run_id for stack in stacks for run in stack)
    assert packed == sorted(run.run_id for run in runs)
    for stack in stacks:
        assert len(stack) <= width
        assert stack == arrange(stack)
        assert len({run.batch_size for run in stack}) == 1
        seeds = list(dict.fromkeys(run.seed for run in stack))
        kinds = [json.dumps(run.as_dict() | {"seed": 0}, sort_keys=True) for run in stack]
        settings_of_one = kinds[: len(stack) // len(seeds)]
        assert kinds == settings_of_one * len(seeds)
    assert pack(list(reversed(runs)), width) == stacks


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({}, "reference"),  # too short to be worth measuring
        ({"engine": "numpy"}, "numpy"),
        ({"engine": "reference"}, "reference"),
        ({"rng": "script"}, "reference"),
        ({"engine": "stacked"}, "stacked"),
        ({"engine": "stacked", "compile": "always"}, "compiled"),
        ({"budget": {"steps": 100_000}, "compile": "never"}, "stacked"),
    ],
)
def test_choice_of_engine(options: dict[str, Any], engine: str) -> None:
    plan, dataset = small_plan(
        seeds=3, optimizers=[{"rule": "sgd", "lr": [0.1, 0.2, 0.3]}], **options
    )
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert choice.engine == engine
    assert (choice.width > 1) is (engine in ("stacked", "compiled"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_compiled_step_is_the_same_and_compiles_once() -> None:
    """New values of rate, step or data compile nothing; results are those of the eager stack."""
    optimizers = [{"rule": "adam", "lr": [0.001, 0.01]}, {"rule": "sgd", "lr": 0.1}]
    plan, dataset = small_plan(optimizers=optimizers, seeds=2, precision="float64", batch_size=50)
    (stack,) = pack(plan.runs, len(plan.runs))
    splits = tensor_splits(dataset, "float64", "cpu")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    learner = StackedEngine(stack, dataset, splits, compiled=True)
    training = Training(stack, learner)
    graphs = []
    for _ in training.run():
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        for group in learner._groups:
            group.hyperparameters["lr"].mul_(1.0)
    assert graphs == [2] * len(graphs), "the gradient and the update, once each"
    eager = by_id(stack, train_stack(stack, dataset, "stacked"))
    for segment in training.segments():
        assert largest_difference(eager[segment.run_id], segment) <= TRAJECTORY_FLOAT64


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_a_compiled_stack_with_steps_that_differ_is_that_of_the_plain_one() -> None:
    """The update of such rules is not compiled; the gradient is."""
    rules = [name for name, rule in RULES.items() if not rule.capturable]
    optimizers = [{"rule": rule, "lr": [0.001, 0.01]} for rule in ("adam", *rules)]
    plan, dataset = small_plan(  # lbfgs needs the same samples at each step
        optimizers=optimizers, seeds=2, precision="float64", batch_size="full"
    )
    for stack in pack(plan.runs, len(plan.runs)):
        plain = by_id(stack, train_stack(stack, dataset, "stacked"))
        for run_id, segment in by_id(stack, train_stack(stack, dataset, "compiled")).items():
            assert largest_difference(plain[run_id], segment) <= TRAJECTORY_FLOAT64
