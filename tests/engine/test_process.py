"""Denormal numbers: none while runs are trained, in any thread, and the process as it was after."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import optrial
from optrial.callbacks import Callback
from optrial.engine import Engines, process, process_for, provenance
from optrial.engine.process import can_flush_denormals, device_limit, threads_for
from optrial.engine.select import engines as engines_module
from optrial.memory import MemoryLimit
from optrial.spec import RunFacts, Status
from optrial.study import Study
from tests.small import learner_for, small_keys, small_plan, train

TINY = float(np.finfo(np.float32).tiny)

needs_flushing = pytest.mark.skipif(
    not can_flush_denormals(), reason="this processor cannot take denormal numbers for 0"
)


def denormals_left() -> list[bool]:
    """Whether each eighth of a product of many denormal numbers still has any."""
    bits = torch.full((4_000_000,), 100_000, dtype=torch.int32)
    products = bits.view(torch.float32) * 0.5
    return [bool((part.view(torch.int32) != 0).any()) for part in products.chunk(8)]


@needs_flushing
def test_no_thread_has_denormals_inside_and_every_thread_afterwards() -> None:
    learner = SimpleNamespace(threads=None, facts=RunFacts(flushes_denormals=True))
    before = denormals_left()  # starts the threads, as a user's own code may have done
    with process_for(learner):
        inside = denormals_left()
    assert before == [True] * 8
    assert inside == [False] * 8
    assert denormals_left() == before


def test_a_learner_may_keep_denormals() -> None:
    learner = SimpleNamespace(threads=1, facts=RunFacts(flushes_denormals=False))
    with process_for(learner):
        assert denormals_left() == [True] * 8


@needs_flushing
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize(
    ("engine", "rng", "kept"),
    [
        ("stacked", "streams", False),
        pytest.param("compiled", "streams", False, marks=pytest.mark.slow),
        ("reference", "streams", False),
        ("reference", "script", True),
    ],
)
def test_weights_that_decay_end_at_zero(engine: str, rng: str, kept: bool) -> None:
    # Some pixels of the digits are always 0: their weights have no gradient, and each step halves
    # them, to 1e-41 at the end.
    plan, dataset = small_plan(
        problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [8]}},
        optimizers=[{"rule": "sgd", "lr": 1e-3, "weight_decay": 500.0}],
        budget={"steps": 133},
        rng=rng,
        seeds=1,
    )
    learner = Engines(dataset, "float32", "cpu").build(engine, plan.runs)
    with process_for(learner):
        learner.start(1)
        learner.advance(133)
    sizes = np.abs(np.concatenate([array.ravel() for array in learner.weights(0).values()]))
    assert bool(((sizes > 0) & (sizes < TINY)).any()) is kept
    assert learner.facts.flushes_denormals is not kept


@pytest.mark.parametrize(
    ("engine", "rng"),
    [
        ("stacked", "streams"),
        ("reference", "streams"),
        ("reference", "script"),
        ("numpy", "streams"),
    ],
)
def test_a_study_sets_the_threads_of_its_training(engine: str, rng: str) -> None:
    before = torch.get_num_threads()
    plan, dataset = small_plan(threads=2, engine=engine, rng=rng)
    segment = train(plan.runs[0], dataset, engine)
    assert segment.facts.threads == 2
    assert torch.get_num_threads() == before


def test_threads_are_part_of_the_id_of_a_run_only_if_set() -> None:
    ids = [small_plan(**keys)[0].runs[0].run_id for keys in ({}, {"threads": None}, {"threads": 1})]
    assert ids[0] == ids[1] != ids[2]


def test_what_decides_rounding_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    provenance()
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    facts = provenance()
    assert facts.environment is not None
    assert facts.environment["MKL_CBWR"] == "COMPATIBLE"
    assert facts.cpu_capability == torch.backends.cpu.get_cpu_capability()


def test_the_commit_is_that_of_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        person = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *person, *command], cwd=tmp_path, check=True)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(outside.parent))
    commits = []
    for folder in (outside, tmp_path):
        monkeypatch.chdir(folder)
        commits.append(provenance().git_commit)
    assert commits[0] is None
    assert len(commits[1] or "") == 40


@pytest.mark.parametrize("engine", ["reference", "stacked", "compiled"])
@pytest.mark.parametrize(("hidden", "batch_size", "threads"), [(8, 32, 1), (2048, 512, None)])
def test_small_steps_take_one_thread(
    engine: str, hidden: int, batch_size: int, threads: int | None
) -> None:
    plan, dataset = small_plan(
        problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [hidden]}},
        batch_size=batch_size,
    )
    assert learner_for(plan.runs, dataset, engine).threads == threads


def test_the_work_of_a_stack_is_that_of_all_its_runs() -> None:
    plan, dataset = small_plan()
    assert threads_for(plan.runs * 100, dataset) == 1
    assert threads_for(plan.runs * 10_000, dataset) is None


def test_a_study_continues_with_the_threads_of_its_first_steps(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, count: int) -> None:
            raise RuntimeError(f"stopped after {count} steps")

    study, before = Study(**small_keys(rng="script")), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="stopped"):
            study.run(tmp_path, callbacks=[Stop()])
        torch.set_num_threads(1)
        with study.run(tmp_path) as results:
            (record,) = results.records
    finally:
        torch.set_num_threads(before)
    assert (record.status, record.facts.threads) == (Status.DONE, 2)


class Card:
    """Stands in for `torch.cuda`: a card of 80 bytes, of which other processes hold 10.

    This process has arrays of 20 bytes, and 5 more for its next ones.
    """

    share = 1.0

    def __init__(self) -> None:
        self.current_device = lambda: 0
        self.get_device_name = lambda place: "H100"
        self.mem_get_info = lambda place: (45, 80)
        self.memory_allocated = lambda place: 20
        self.memory_reserved = lambda place: 25

    def get_per_process_memory_fraction(self, index: int) -> float:
        """Take an index only, as PyTorch does."""
        assert index == 0
        return self.share


@pytest.mark.parametrize("place", ["cuda", "cuda:0"])
def test_memory_of_a_gpu_is_what_the_card_or_the_share_of_the_process_leaves(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card()
    monkeypatch.setattr(process, "torch", SimpleNamespace(cuda=card))
    limit = device_limit(torch.device(place))
    assert (limit.name, limit.total, limit.free) == ("H100", 80, 50)
    card.share = 0.5
    limit = device_limit(torch.device(place))
    assert (limit.name, limit.total, limit.free) == ("H100, share of this process", 40, 20)


@pytest.mark.parametrize(("free", "released"), [(3.0, 0), (1.0, 1)])
def test_what_earlier_stacks_left_on_a_gpu_is_released_where_it_may_be_needed(
    free: float, released: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, dataset = small_plan(seeds=2)
    engines, calls = Engines(dataset, "float32", "cpu"), list[int]()
    monkeypatch.setattr(engines_module, "release_memory", lambda: calls.append(1))
    engines.make_room(plan.runs)
    assert not calls, "on a CPU, the system does"
    module = sys.modules["optrial.plan.estimate"]  # the package has a function of this name
    monkeypatch.setattr(module, "_flops_per_second", lambda precision, on_cuda: 5e13)
    monkeypatch.setattr(engines, "_place", torch.device("cuda"))
    limit = MemoryLimit("H100", 2**60, 2**60 - int(free * engines.needed_bytes(plan.runs)))
    monkeypatch.setattr(engines_module, "device_limit", lambda place: limit)
    engines.make_room(plan.runs)
    assert len(calls) == released


def test_the_version_is_that_of_the_code_that_runs() -> None:
    """Metadata of a package that is not installed is missing; of one under development, old."""
    code = "from optrial.engine import provenance; print(provenance().versions['optrial'])"
    shadow = "import importlib.metadata as m; m.version = lambda name: ''"
    answer = subprocess.run(
        [sys.executable, "-c", f"{shadow}; {code}"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [optrial.__version__]
