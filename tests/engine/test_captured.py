"""Steps that are captured once and replayed: what can be shown of them without a GPU, and with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from optrial.engine import (
    Engines,
    Learner,
    StackedEngine,
    Training,
    tensor_splits,
)
from optrial.engine.backends import cuda_graph, stacked
from optrial.plan import pack
from optrial.records import Segment
from optrial.rules import RULES
from optrial.spec import PROBES, RunSpec, Status
from tests.cuda import NEEDS_CUDA
from tests.engine.memory import Addresses, address
from tests.engine.test_models_in_stacks import MODELS, OPTIMIZERS
from tests.engine.test_stacked import (
    MIXED_DROPOUT,
    by_id,
    largest_difference,
    mixed_plan,
    with_everything,
)
from tests.engine.without_data import ELSEWHERE, Transfers
from tests.small import MOONS, small_plan
from tests.tolerance import TRAJECTORY_FLOAT64

Outputs = tuple[torch.Tensor, torch.Tensor]

MIXED = {
    "problem": {"dataset": dict(MOONS), "model": MIXED_DROPOUT},  # 160 points to train on
    "seeds": 2,
    "precision": "float64",
    "batch_size": 60,
    "optimizers": [
        {"rule": "nadam", "schedule": {"kind": "cosine", "warmup": {"steps": 10}}},
        {"rule": "rmsprop", "momentum": [0.0, 0.9], "weight_decay": 0.01, "clip": {"norm": 0.5}},
        {"rule": "sgd", "lr": [0.1, 1e30]},
    ],
}


class Graph:
    """Stands in for a CUDA graph: replaying computes once more, from and into the same arrays."""

    def __init__(self) -> None:
        self.replays = 0
        self.capturing = False
        self.compute: Callable[[], Outputs]
        self.outputs: Outputs

    @contextmanager
    def capture(self) -> Iterator[None]:
        self.capturing = True
        yield
        self.capturing = False

    def replay(self) -> None:
        self.replays += 1
        for captured, new in zip(self.outputs, self.compute(), strict=True):
            captured.copy_(new)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The only graph; streams and compilation do nothing."""
    graph = Graph()
    stream = SimpleNamespace(wait_stream=lambda other: None)
    cuda = SimpleNamespace(
        CUDAGraph=lambda: graph,
        Stream=lambda: stream,
        current_stream=lambda: stream,
        stream=lambda stream: nullcontext(),
        graph=Graph.capture,
    )
    compute = StackedEngine.compute

    def recorded(engine: StackedEngine, *batch: torch.Tensor, **options: Any) -> Outputs:
        outputs = compute(engine, *batch, **options)
        if graph.capturing:
            graph.compute, graph.outputs = partial(compute, engine, *batch, **options), outputs
        return outputs

    monkeypatch.setattr(StackedEngine, "compute", recorded)
    monkeypatch.setattr(cuda_graph, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(stacked, "compiled_program", lambda function: function)
    return graph


def mixed_engine(*, captured: bool = False, compiled: bool = True) -> StackedEngine:
    """An engine that writes its state into place, as a compiled or captured one does."""
    plan, dataset = small_plan(**MIXED)
    (stack,) = pack(plan.runs, len(plan.runs))
    splits = tensor_splits(dataset, "float64", "cpu")
    return StackedEngine(stack, dataset, splits, compiled=compiled, captured=captured)


def trained(specs: Sequence[RunSpec], learner: Learner) -> dict[str, Segment]:
    training = Training(specs, learner)
    for _ in training.run():
        pass
    return by_id(specs, training.segments())


@pytest.mark.parametrize("compiled", [True, False])
def test_replayed_steps_are_the_steps_themselves(graph: Graph, compiled: bool) -> None:
    """Warming up leaves no trace, every batch arrives, and a short one is not replayed."""
    learner = mixed_engine(captured=True, compiled=compiled)
    plain = trained(learner.specs, mixed_engine())
    replayed = trained(learner.specs, learner)
    assert graph.replays == 40 - 40 // 3, "each epoch has two batches of 60 and one of 40"
    for run_id, segment in replayed.items():
        expected = plain[run_id]
        assert (segment.status, segment.step) == (expected.status, expected.step)
        assert segment.curves.keys() == expected.curves.keys()
        for metric, curve in segment.curves.items():
            assert curve.values.tobytes() == expected.curves[metric].values.tobytes(), metric
        if segment.status is Status.DONE:
            assert segment.facts.parameters_sha256 == expected.facts.parameters_sha256


def test_no_garbage_is_collected_while_a_step_is_captured(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph of an earlier stack that was freed meanwhile would invalidate the new one."""
    collects, recorded = [], StackedEngine.compute

    def compute(engine: StackedEngine, *batch: torch.Tensor) -> Outputs:
        collects.append((graph.capturing, gc.isenabled()))
        return recorded(engine, *batch)

    monkeypatch.setattr(StackedEngine, "compute", compute)
    learner = mixed_engine(captured=True, compiled=False)
    learner.start(1)
    learner.advance(1)
    assert collects == [(False, True)] * 3 + [(True, False)]
    assert gc.isenabled()


@pytest.mark.parametrize("compiled", [True, False])
def test_all_that_a_captured_step_reads_stays_where_it_is(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    """A graph knows addresses: training, a short batch, an evaluation or `load` changes none."""
    learner, reads = mixed_engine(compiled=compiled, captured=not compiled), []
    learner._captured = None
    compute = learner.compute

    def watched(*batch: torch.Tensor, **options: Any) -> Outputs:
        with Addresses() as memory:
            outputs = compute(*batch, **options)
        reads.append(memory.read - {address(tensor) for tensor in batch})
        return outputs

    monkeypatch.setattr(learner, "compute", watched)
    learner.start(1)
    learner.advance(5)
    learner.load(learner.state(), 5)
    learner.evaluate("test", 5)
    learner.advance(5)
    full = [read for step, read in enumerate(reads, 1) if step % 3]  # each third batch is short
    assert len(full) == 7
    assert len(full[1]) > len(learner.state())
    assert all(read == full[1] for read in full[1:])  # the first one is compared with PyTorch's


ALL_PROBES = {"measure": list(PROBES), "every": {"steps": 1}, "per_layer": True}


def learner_without_data(**changes: Any) -> StackedEngine:
    """Return an engine on a device without data, after a first step, where values are allowed."""
    plan, dataset = small_plan(**({"seeds": 2, "precision": "float64"} | changes))
    (stack,) = pack(plan.runs, len(plan.runs))
    with Transfers(strict=False):
        splits = tensor_splits(dataset, "float64", str(ELSEWHERE))
        learner = StackedEngine(stack, dataset, splits)
        learner.start(1)
        learner.advance(1)
    return learner


def check_steps_stay_on_the_device(**changes: Any) -> None:
    """Batches, mask keys and rates go there and losses and metrics come back once for all steps."""
    learner = learner_without_data(**changes)
    for steps in (1, 2):
        with Transfers(strict=True) as transfers:
            learner.advance(steps)
        assert (transfers.sent, transfers.fetched) == (3, 2)


@pytest.mark.one_in(11)
@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.capturable])
def test_a_step_of_every_rule_needs_nothing_from_the_host(rule: str) -> None:
    optimizers = [with_everything(rule)]
    check_steps_stay_on_the_device(problem=MIXED["problem"], optimizers=optimizers)


@pytest.mark.one_in(7)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("zero_grad", [True, False])
def test_a_step_of_every_model_needs_nothing_from_the_host(name: str, zero_grad: bool) -> None:
    check_steps_stay_on_the_device(problem=MODELS[name], optimizers=OPTIMIZERS, zero_grad=zero_grad)


def test_every_probe_measures_on_the_device() -> None:
    learner = learner_without_data(
        problem=MIXED["problem"], optimizers=MIXED["optimizers"], probes=ALL_PROBES
    )
    with Transfers(strict=False) as transfers:
        steps = learner.advance(2)
    assert {name.partition("/")[0] for name in steps.probes} == set(PROBES)
    assert transfers.fetched == 2 + 2 * len(steps.probes)


def test_what_a_step_may_not_do_is_noticed() -> None:
    there = torch.zeros(3, device=ELSEWHERE)
    with Transfers(strict=True):
        with pytest.raises(RuntimeError, match="meta"):
            bool(there.any())
        with pytest.raises(AssertionError, match="of the host"):
            there.copy_(torch.ones(3))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let PyTorch raise where the host would wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@NEEDS_CUDA
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stack_on_cuda_equals_the_stack_on_the_cpu(compiled: bool) -> None:
    plan, dataset = mixed_plan(seeds=2)
    (stack,) = pack(plan.runs, len(plan.runs))
    expected = trained(stack, Engines(dataset, "float64", "cpu").build("stacked", stack))
    engine = "compiled" if compiled else "stacked"
    learner = Engines(dataset, "float64", "cuda").build(engine, stack)
    assert (learner.facts.compiled, learner.facts.captured) == (compiled, True)
    for run_id, segment in trained(stack, learner).items():
        assert largest_difference(expected[run_id], segment) <= TRAJECTORY_FLOAT64


@NEEDS_CUDA
@pytest.mark.parametrize("engine", ["stacked", "compiled"])
def test_nothing_waits_for_the_gpu_within_a_step(engine: str) -> None:
    plan, dataset = small_plan(**MIXED)
    (stack,) = pack(plan.runs, len(plan.runs))
    learner = Engines(dataset, "float64", "cuda").build(engine, stack)
    assert isinstance(learner, StackedEngine)
    learner.start(1)
    learner.advance(3)
    batches = [[np.stack([next(order) for order in learner._batches])] for _ in range(3)]
    steps = list(learner._on_device(batches))
    with no_waiting():
        for step in steps:
            learner._take_step(*step, {})
