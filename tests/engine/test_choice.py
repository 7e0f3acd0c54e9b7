"""How it is chosen what trains a study, and what happens when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optrial.callbacks import Callback
from optrial.engine import Engines, Part, StackedEngine
from optrial.engine.select import choice as choice_module
from optrial.engine.select import engines as engines_module
from optrial.engine.select import speeds as speeds_module
from optrial.engine.select.busy import Clocks
from optrial.engine.select.measure import Candidate, StepTime, StepTimer
from optrial.memory import MemoryLimit
from optrial.plan import estimate
from optrial.spec import RunFacts, RunSpec, Status
from optrial.study import Study
from tests.small import small_keys, small_plan

WIDE = {"engine": "stacked", "compile": "never", "seeds": 4}


class Notes(Callback):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, text: str) -> None:
        self.texts.append(text)


def test_a_choice_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path))
    monkeypatch.setattr(speeds_module, "LEAST_CPU_SHARE", 0.0)  # on a busy machine too
    plan, dataset = small_plan(**WIDE)
    engines = Engines(dataset, "float32", "cpu")
    (first,) = engines.choose(plan.runs)
    monkeypatch.setattr(Engines, "build", None)  # no learner is built, so nothing is timed
    (second,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert (first.engine, first.width, first.seconds) == (
        second.engine,
        second.width,
        second.seconds,
    )


@pytest.mark.parametrize(
    ("steps", "engine", "width"),
    [
        *((100, "stacked", 16), (1000, "stacked", 4)),
        *((10_000, "compiled", 16), (1_000_000, "compiled", 4)),
    ],
)
def test_the_time_of_each_stack_and_of_compiling_it_is_worth_wider_stacks(
    monkeypatch: pytest.MonkeyPatch, steps: int, engine: str, width: int
) -> None:
    # Steps of width 4 are a little faster, but there are four times as many stacks.
    speeds = {4: 1.0e-3, 16: 1.02e-3}

    def seconds(kind: str, runs: Sequence[RunSpec]) -> StepTime:
        share, compiling = (0.4, 12.0) if kind == "compiled" else (1.0, 0.0)
        if kind == "reference":
            return StepTime(2e-3, 0.0)
        return StepTime(share * speeds[len(runs)], compiling)

    monkeypatch.setattr(
        StepTimer, "times", lambda _, *pairs, within: [seconds(*pair) for pair in pairs]
    )
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    monkeypatch.setattr(choice_module, "can_compile", lambda: True)
    plan, dataset = small_plan(budget={"steps": steps}, seeds=64)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert (choice.engine, choice.width) == (engine, width)


@pytest.mark.parametrize(("steps", "engine"), [(100, "reference"), (100_000, "compiled")])
def test_runs_that_are_fastest_by_themselves_are_compiled_so_where_that_pays(
    monkeypatch: pytest.MonkeyPatch, steps: int, engine: str
) -> None:
    def seconds(kind: str, runs: Sequence[RunSpec]) -> StepTime:
        if kind == "compiled":
            return StepTime(0.018 if len(runs) == 1 else 0.015 * len(runs), 12.0)
        return StepTime(0.02 if kind == "reference" else 0.03, 0.0)

    monkeypatch.setattr(
        StepTimer, "times", lambda _, *pairs, within: [seconds(*pair) for pair in pairs]
    )
    monkeypatch.setattr(choice_module, "can_compile", lambda: True)
    plan, dataset = small_plan(budget={"steps": steps}, engine="auto", compile="auto", seeds=4)
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert (choice.engine, choice.width) == (engine, 1)


@pytest.mark.parametrize(
    ("seeds", "engine", "width"), [(50, "reference", 1), (500, "stacked", 250)]
)
def test_many_short_runs_share_the_time_of_a_stack(
    monkeypatch: pytest.MonkeyPatch, seeds: int, engine: str, width: int
) -> None:
    """Though steps of a run by itself are faster, and all of them take less than a second."""
    speeds = {"reference": 1e-4, "stacked": 1.4e-4}
    monkeypatch.setattr(
        StepTimer,
        "times",
        lambda _, *pairs, within: [StepTime(speeds[kind], 0.0) for kind, _ in pairs],
    )
    plan, dataset = small_plan(engine="auto", compile="never", budget={"steps": 5}, seeds=seeds)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert (choice.engine, choice.width) == (engine, width)


class Machine:
    """Steps of known cost on a machine that is slower by a half in every other spell of steps."""

    def __init__(self, spell: int) -> None:
        self.seconds, self.steps, self.spell = 0.0, 0, spell
        self.clocks = Clocks(*[lambda: self.seconds] * 3)

    def learner(self, cost: float) -> Any:
        def advance(steps: int) -> Any:
            for _ in range(steps):
                self.seconds += cost * (1.5 if self.steps // self.spell % 2 else 1.0)
                self.steps += 1
            return SimpleNamespace(losses=[0.0] * steps)

        return SimpleNamespace(
            start=lambda step: None,
            advance=advance,
            chunk=20,
            threads=None,
            facts=RunFacts(flushes_denormals=False),
        )


@pytest.mark.slow
@pytest.mark.parametrize("spell", [3, 5, 7, 8, 9, 10, 11, 12, 30])
@pytest.mark.parametrize(("stack", "engine"), [(0.9, "stacked"), (1.1, "reference")])
def test_what_is_close_is_told_apart_on_a_machine_of_changing_pace(
    stack: float, engine: str, spell: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine(spell)

    def learner(_: Engines, kind: str, runs: Sequence[RunSpec]) -> Any:
        return machine.learner(len(runs) * (1.0 if kind == "reference" else stack))

    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path))
    monkeypatch.setattr(Engines, "build", learner)
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    budget = {"steps": 1000}
    plan, dataset = small_plan(engine="auto", compile="never", seeds=4, budget=budget)
    (choice,) = Engines(dataset, "float32", "cpu", machine.clocks).choose(plan.runs)
    assert choice.engine == engine


@pytest.mark.parametrize(
    ("steps", "seeds", "seconds"),
    [(10, 8, 10.0), (80, 9, 0.1), (80, 21, 0.1), (200, 45, 1.0), (1000, 300, 0.3), (40, 64, 1e-3)],
)
def test_choosing_takes_a_small_share_of_the_training(
    steps: int, seeds: int, seconds: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also if steps are slow and no width is faster than the others, so that all are compared."""
    machine = Machine(7)
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path))
    monkeypatch.setattr(
        Engines, "build", lambda _, kind, runs: machine.learner(seconds * len(runs))
    )
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    plan, dataset = small_plan(
        engine="auto", compile="never", seeds=seeds, budget={"steps": steps}, threads=1
    )
    engines = Engines(dataset, "float32", "cpu", machine.clocks)
    (choice,) = engines.choose(plan.runs)
    allowed = max(2.0, 0.1 * steps * seeds * seconds)
    assert machine.seconds < 1.3 * allowed
    (again,) = engines.forecast(plan.runs)
    assert (again.engine, again.width) == (choice.engine, choice.width)


def test_steps_on_more_threads_that_wait_for_a_core_end_a_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With another program on the processor, steps on two threads can take a hundred times."""
    machine = Machine(7)
    monkeypatch.setattr(
        Engines, "build", lambda _, kind, runs: machine.learner(1.0 if len(runs) == 2 else 100.0)
    )
    plan, dataset = small_plan(seeds=4)
    engines = Engines(dataset, "float32", "cpu", machine.clocks)
    part, whole = Part("stacked", plan.runs[:2], 1), Part("stacked", plan.runs, 2)
    assert engines.slowdown(part, whole, within=5.0) < 0.1
    assert machine.steps == 2


def test_what_memory_cannot_hold_side_by_side_is_chosen_by_what_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seconds(_: StepTimer, *candidates: Candidate, within: float) -> list[StepTime]:
        if len(candidates) > 1:
            raise MemoryError
        return [StepTime(0.02 if candidates[0][0] == "reference" else 0.021, 0.0)]

    monkeypatch.setattr(StepTimer, "times", seconds)
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    plan, dataset = small_plan(engine="auto", compile="never", seeds=4)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert choice.engine == "reference"


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    limit = MemoryLimit("this container, memory.max", 2 * free, free)
    monkeypatch.setattr(choice_module, "device_limit", lambda place: limit)


def test_stacks_are_as_wide_as_free_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        StepTimer, "times", lambda _, *pairs, within: [StepTime(1 / len(p[1]), 0.0) for p in pairs]
    )
    plan, dataset = small_plan(engine="stacked", compile="never", seeds=32)
    engines = Engines(dataset, "float32", "cpu")
    assert [choice.width for choice in engines.choose(plan.runs)] == [32]
    leave_free(monkeypatch, 3 * estimate(plan.runs, dataset, 4).stack_bytes)
    (choice,) = engines.choose(plan.runs)
    assert choice.width == 4
    assert choice.note.startswith("4 runs at a time: a stack of 32 needs about ")
    assert choice.note.endswith("(this container, memory.max) are free")


def test_a_run_that_memory_does_not_hold_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, dataset = small_plan(seeds=2)
    leave_free(monkeypatch, 100)
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert choice.width == 1
    assert choice.note.startswith("one run needs about ")
    assert "use a smaller batch_size or model" in choice.note


def fits(most: int) -> type[StackedEngine]:
    """A stacked engine on a machine whose memory holds so many runs at a time."""

    class Limited(StackedEngine):
        def __init__(self, specs: Sequence[RunSpec], *arguments: Any, **named: Any) -> None:
            if len(specs) > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
            super().__init__(specs, *arguments, **named)

    return Limited


def test_a_stack_is_halved_when_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speeds_module, "LEAST_CPU_SHARE", 0.0)  # on a busy machine too
    keys = small_keys(**WIDE, optimizers=[{"rule": "sgd", "lr": [0.1, 0.2]}])
    with Study(**keys).run(tmp_path / "roomy") as roomy:
        wanted = {r.run_id: r.facts.parameters_sha256 for r in roomy.records}
        widest = max(r.facts.stack_width for r in roomy.records)
    monkeypatch.setattr(engines_module, "StackedEngine", fits(3))
    notes = Notes()
    with Study(**keys).run(tmp_path / "tight", callbacks=[notes]) as tight:
        assert all(record.status is Status.DONE for record in tight.records)
        widths = {record.facts.stack_width for record in tight.records}
        stacks = {record.stack for record in tight.records}
        weights = {r.run_id: r.facts.parameters_sha256 for r in tight.records}
    assert widest > 3
    assert max(widths) <= 3
    assert len(stacks) * max(widths) >= len(wanted)
    assert any("memory ran out" in text for text in notes.texts)
    assert set(weights) == set(wanted)


def test_one_run_is_tried_again_after_memory_was_released(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build, builds = Engines.build, []

    def fails_once(self: Engines, kind: str, runs: Sequence[RunSpec]) -> Any:
        builds.append(runs)
        if len(builds) == 1:
            raise MemoryError
        return build(self, kind, runs)

    monkeypatch.setattr(Engines, "build", fails_once)
    with Study(**small_keys()).run(tmp_path) as results:
        assert {record.status for record in results.records} == {Status.DONE}


@pytest.mark.slow
def test_one_run_that_does_not_fit_is_an_error_and_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speeds_module, "LEAST_CPU_SHARE", 0.0)  # on a busy machine too
    keys = small_keys(**WIDE)
    Study(**keys).run(tmp_path / "first").store.close()  # the choice is kept from here on
    monkeypatch.setattr(engines_module, "StackedEngine", fits(0))
    with Study(**keys).run(tmp_path / "second") as results:
        assert {record.status for record in results.records} == {Status.ERROR}
        assert all("allocate memory" in record.reason for record in results.records)
