"""Stacks on a GPU against the same stacks on the CPU: every rule, model and kind of training."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from optrial.data import Dataset
from optrial.engine import (
    Choice,
    Engines,
    Learner,
    StackedEngine,
    Training,
    release_memory,
    tensor_splits,
)
from optrial.plan import Plan, arrange, pack
from optrial.records import Segment
from optrial.results import Results
from optrial.rules import MODIFIERS, RULES
from optrial.spec import RunSpec, Status
from optrial.study import Study
from tests.cuda import NEEDS_CUDA
from tests.engine import test_kinds_together as kinds
from tests.engine.test_captured import ALL_PROBES
from tests.engine.test_choice import Notes
from tests.engine.test_models_in_stacks import DEEPER, MODELS, OPTIMIZERS
from tests.engine.test_stacked import by_id, largest_difference, with_everything
from tests.small import MOONS, small_keys, small_plan, train_stack
from tests.tolerance import (
    BFLOAT16_LOSS,
    FINAL_LOSS_FLOAT32,
    METRIC_FLOAT32,
    PROBE_FLOAT64,
    TRAJECTORY_FLOAT64,
)

pytestmark = NEEDS_CUDA


@pytest.fixture(params=[False, True], ids=["stepwise", "captured"])
def captured(request: pytest.FixtureRequest) -> bool:
    """Whether steps are replayed as a graph."""
    return bool(request.param)


def learner_on_gpu(
    runs: tuple[RunSpec, ...], dataset: Dataset, captured: bool | None, compiled: bool = False
) -> Learner:
    splits = tensor_splits(dataset, runs[0].precision, "cuda")
    return StackedEngine(runs, dataset, splits, compiled=compiled, captured=captured)


def trained(runs: tuple[RunSpec, ...], learner: Learner) -> dict[str, Segment]:
    training = Training(runs, learner)
    for _ in training.run():
        pass
    return by_id(runs, training.segments())


def check_each_run(
    plan: Plan,
    dataset: Dataset,
    captured: bool | None,
    tolerance: float = TRAJECTORY_FLOAT64,
    compiled: bool = False,
) -> None:
    for stack in pack(arrange(plan.runs), len(plan.runs)):
        on_cpu = by_id(stack, train_stack(stack, dataset, "stacked"))
        learner = learner_on_gpu(stack, dataset, captured, compiled)
        for run_id, segment in trained(stack, learner).items():
            expected = on_cpu[run_id]
            assert (segment.status, segment.step) == (expected.status, expected.step)
            assert segment.facts.device == "cuda:0"
            assert segment.facts.gpu == torch.cuda.get_device_name()
            assert largest_difference(expected, segment) <= tolerance, run_id
            for name in ("initial_parameters_sha256", "first_batches_sha256"):
                assert getattr(segment.facts, name) == getattr(expected.facts, name)


def check(captured: bool, **changes: Any) -> None:
    check_each_run(*small_plan(**({"precision": "float64", "seeds": 2} | changes)), captured)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule: str, captured: bool) -> None:
    if captured and not RULES[rule].capturable:
        pytest.skip(f"steps of {rule} are not replayed")
    if RULES[rule].as_one_vector:  # lbfgs, which takes all samples and clips nothing
        check(captured, optimizers=[{"rule": rule, "lr": [0.1, 0.2]}], batch_size="full")
    else:
        check(captured, optimizers=[with_everything(rule)], batch_size=60)


@pytest.mark.parametrize("modifier", MODIFIERS)
def test_every_modifier(modifier: str, captured: bool) -> None:
    modify: Any = {"name": modifier} | ({"rule": "sgd"} if modifier == "grafting" else {})
    check(captured, optimizers=[{"rule": "adamw", "lr": [0.01, 0.02], "modify": [modify]}])


@pytest.mark.parametrize("name", [*MODELS, *DEEPER])
def test_every_model(name: str, captured: bool) -> None:
    problem = (MODELS | DEEPER)[name]
    optimizers = [OPTIMIZERS[0], OPTIMIZERS[1] | {"schedule": "cosine"}]
    check(
        captured, problem=problem, optimizers=optimizers, batch_size=30, budget={"steps": 6},
        evaluate={"every": {"steps": 3}},
    )  # fmt: skip


@pytest.mark.parametrize("entry", kinds.ENTRIES)
@pytest.mark.parametrize("accumulate", [1, kinds.PARTS])
def test_kinds_of_training_together(entry: str, accumulate: int, captured: bool) -> None:
    check(
        captured, problem=kinds.TOKENS, optimizers=[kinds.ENTRIES[entry]], batch_size=28,
        accumulate=accumulate, budget={"steps": kinds.STEPS},
        evaluate={"every": {"steps": kinds.EVERY}, "on": ["test"]},
    )  # fmt: skip


def test_every_probe_and_a_plateau(captured: bool) -> None:
    plateau = {"kind": "plateau", "patience": 0, "factor": 0.5}
    moons = {**MOONS, "validation_fraction": 0.2}
    plan, dataset = small_plan(
        problem={"dataset": moons, "model": {"kind": "mlp", "hidden": [8]}},
        precision="float64", probes=ALL_PROBES,
        optimizers=[{"rule": "sgd", "lr": [0.1, 1e30]}, {"rule": "adam", "schedule": plateau}],
    )  # fmt: skip
    check_each_run(plan, dataset, captured, PROBE_FLOAT64)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", FINAL_LOSS_FLOAT32), ("bfloat16", BFLOAT16_LOSS)]
)
def test_lower_precisions_end_at_about_the_same_loss(
    precision: str, tolerance: float, captured: bool
) -> None:
    plan, dataset = small_plan(
        problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [70, 9]}},
        precision=precision, seeds=2, optimizers=[{"rule": "adam", "lr": [0.001, 0.003]}],
    )  # fmt: skip
    (stack,) = pack(plan.runs, len(plan.runs))
    on_cpu = by_id(stack, train_stack(stack, dataset, "stacked"))
    for run_id, segment in trained(stack, learner_on_gpu(stack, dataset, captured)).items():
        ended = segment.curves["test_loss"].values[-1]
        expected = on_cpu[run_id].curves["test_loss"].values[-1]
        assert ended == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["vit", "cnn", "lstm"])
@pytest.mark.slow
def test_compiled_models(name: str) -> None:
    """Kernels of Triton, captured."""
    plan, dataset = small_plan(
        problem=(MODELS | DEEPER)[name], precision="float64", seeds=2, batch_size=30,
        budget={"steps": 6}, evaluate={"every": {"steps": 3}}, optimizers=OPTIMIZERS[:1],
    )  # fmt: skip
    check_each_run(plan, dataset, captured=None, compiled=True)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_resumed_stack_has_the_same_bits(engine: str) -> None:
    plan, dataset = small_plan(
        optimizers=[{"rule": "adamw", "lr": [0.01, 0.02] if engine == "stacked" else 0.01}]
    )
    engines = Engines(dataset, "float32", "cuda")
    (stack,) = pack(plan.runs, len(plan.runs))
    whole = trained(stack, engines.build(engine, stack))
    first, second = (Training(stack, engines.build(engine, stack)) for _ in range(2))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < 13):
        pass
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    for segment in second.segments():
        assert segment.status is Status.DONE
        expected = whole[segment.run_id].facts.parameters_sha256
        assert segment.facts.parameters_sha256 == expected


def test_the_reference_on_a_gpu_is_that_on_the_cpu() -> None:
    plan, dataset = small_plan(
        problem=DEEPER["vit"], precision="float64", batch_size=30, optimizers=OPTIMIZERS[1:]
    )
    run = plan.runs[0]
    segments = [
        trained((run,), Engines(dataset, "float64", device).build("reference", [run]))[run.run_id]
        for device in ("cpu", "cuda")
    ]
    assert largest_difference(*segments) <= TRAJECTORY_FLOAT64


def test_products_have_the_precision_that_is_recorded() -> None:
    """TF32, which PyTorch may use for convolutions, has 10 bits."""
    plan, dataset = small_plan(problem=MODELS["cnn"], budget={"steps": 3}, batch_size=30)
    run = plan.runs[0]
    losses = [
        trained((run,), Engines(dataset, "float32", device).build("reference", [run]))[
            run.run_id
        ].curves["train_loss"].values
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    assert losses[1] == pytest.approx(losses[0], rel=METRIC_FLOAT32)
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("name", [*MODELS, *DEEPER, "transformer"])
@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_training_repeats_its_bits(name: str, engine: str) -> None:
    problem = (MODELS | DEEPER | {"transformer": kinds.TOKENS})[name]
    plan, dataset = small_plan(
        problem=problem, batch_size=28, budget={"steps": 6}, evaluate={"every": {"steps": 3}},
        optimizers=OPTIMIZERS[:1],
    )  # fmt: skip
    stack = pack(plan.runs, len(plan.runs) if engine == "stacked" else 1)[0]
    engines = Engines(dataset, "float32", "cuda")
    hashes = [
        [s.facts.parameters_sha256 for s in trained(stack, engines.build(engine, stack)).values()]
        for _ in range(3)
    ]
    assert hashes[0] == hashes[1] == hashes[2]


def test_what_is_captured() -> None:
    """Steps that are one program, of code that is known not to copy from the host."""
    entries = {"adam": {"rule": "adam"}, "soap": {"rule": "soap"}}
    for name, entry in entries.items():
        plan, dataset = small_plan(optimizers=[entry], seeds=2)
        learner = Engines(dataset, "float32", "cuda").build("stacked", plan.runs)
        assert learner.facts.captured is (name == "adam")


def test_a_stack_that_was_begun_with_onednn_continues_without() -> None:
    plan, dataset = small_plan(
        problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [70]}},
        optimizers=[{"rule": "adam", "lr": [0.001, 0.003]}],
    )
    (stack,) = pack(plan.runs, len(plan.runs))
    first, second = (
        Training(stack, Engines(dataset, "float32", device).build("stacked+onednn", stack))
        for device in ("cpu", "cuda")
    )
    for _ in first.run(lambda step: step < 20):
        pass
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    assert [segment.status for segment in second.segments()] == [Status.DONE] * 2
    assert second.learner.facts.products == "default"


LARGE: dict[str, Any] = {
    "problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [2000, 2000]}},
    "batch_size": 50, "budget": {"steps": 6}, "evaluate": {"every": {"steps": 3}},
    "precision": "float64", "compile": "never", "seeds": 8, "optimizers": [{"rule": "adam"}],
}  # fmt: skip
WEIGHTS = 8 * (64 * 2000 + 2000 * 2000 + 2000 * 10)  # bytes of those of one run


@pytest.fixture
def leave() -> Iterator[Callable[[float], None]]:
    """Limit this process to some more bytes of the GPU."""
    total = torch.cuda.get_device_properties(0).total_memory

    def limited(size: float) -> None:
        release_memory()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + size) / total)

    yield limited
    torch.cuda.set_per_process_memory_fraction(1.0)


def final_losses(results: Results) -> list[float | None]:
    assert {record.status for record in results.records} == {Status.DONE}
    return [record.metrics["test_loss"] for record in results.records]


def test_a_stack_that_does_not_fit_is_narrower_or_halved(
    tmp_path: Path, leave: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, notes = Study(**small_keys(**LARGE, engine="stacked")), Notes()
    options: Any = {"device": "cuda", "callbacks": [notes]}
    with study.run(tmp_path / "whole", **options) as results:
        whole = final_losses(results)
    leave(40 * WEIGHTS)  # four or more arrays of each of eight runs
    with study.run(tmp_path / "narrower", **options) as results:
        assert final_losses(results) == pytest.approx(whole, rel=TRAJECTORY_FLOAT64)
    assert any("at a time: a stack of 8 needs about" in text for text in notes.texts)
    monkeypatch.setattr(
        Engines, "choose", lambda self, runs: [Choice("stacked", (tuple(runs),), 0.0)]
    )
    leave(30 * WEIGHTS)
    with study.run(tmp_path / "halved", **options) as results:
        assert final_losses(results) == pytest.approx(whole, rel=TRAJECTORY_FLOAT64)
    assert any("memory ran out with 8 runs at a time" in text for text in notes.texts)


def test_a_run_that_does_not_fit_is_one_error_with_the_figure(
    tmp_path: Path, leave: Callable[[float], None]
) -> None:
    study, notes = Study(**small_keys(**LARGE | {"seeds": 2})), Notes()
    leave(2 * WEIGHTS)
    with study.run(tmp_path, device="cuda", callbacks=[notes]) as results:
        (reason,) = {record.reason for record in results.records}
    figure = r"needs about [\d.]+ [GM]B of memory, and .*, share of this process\) are free"
    assert re.search(figure, reason)
    assert any(re.search(figure, text) for text in notes.texts)
