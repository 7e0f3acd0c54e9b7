"""Long studies are divided among cores; what is trained at once shares cores and memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optrial.config import Parallel
from optrial.data import Dataset
from optrial.engine import Choice, Engines, limited_threads
from optrial.executors import Need, Room, divided, division, share_of_worker
from optrial.executors.room import cores
from optrial.plan import pack
from optrial.spec import RunSpec
from tests.small import MOONS, small_plan


def engines_for(dataset: Dataset, threads: int = 1, slowdown: float = 1.0) -> Any:
    """Engines that time nothing."""
    return SimpleNamespace(
        dataset=dataset,
        threads=lambda runs: threads,
        on_cuda=False,
        slowdown=lambda part, whole, within: slowdown,
    )


def parts(
    monkeypatch: pytest.MonkeyPatch,
    count: int = 4,
    seconds: float = 100.0,
    slowdown: float = 1.0,
    threads: int = 4,
    busy: bool = False,
    fixed: int | None = None,
    steps: int = 1000,
    **parallel: Any,
) -> list[tuple[int, int]]:
    """Return width and threads of the stacks of eight runs that were chosen as one stack."""
    monkeypatch.setattr(division, "cores", lambda: count)
    keys = {"seeds": 8, "budget": {"steps": steps}}
    plan, dataset = small_plan(**keys, **({"threads": fixed} if fixed else {}))
    choice = Choice("stacked", tuple(pack(plan.runs, 8)), seconds, busy=busy)
    engines = engines_for(dataset, threads, slowdown)
    stacks = divided([choice], engines, Parallel(**parallel))
    assert sorted(r.run_id for s in stacks for r in s.runs) == sorted(r.run_id for r in plan.runs)
    return [(len(stack.runs), stack.threads) for stack in stacks]


def test_workers_get_a_stack_for_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(monkeypatch, executor="processes") == [(2, 1)] * 4
    assert parts(monkeypatch, executor="processes", n_jobs=2) == [(2, 1)] * 4
    assert parts(monkeypatch, executor="ray") == [(1, 2)] * 8


def test_many_cores_share_few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(monkeypatch, count=64, threads=64, executor="processes") == [(1, 8)] * 8
    assert parts(monkeypatch, count=64, threads=1, executor="processes") == [(1, 1)] * 8
    resources = {"num_cpus": 2}
    chosen = parts(monkeypatch, count=64, threads=64, executor="processes", resources=resources)
    assert chosen == [(1, 2)] * 8


def test_threads_that_are_part_of_the_runs_are_those_of_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parts(monkeypatch, fixed=4, executor="processes") == [(2, 4)] * 4
    resources = {"num_cpus": 1}
    assert parts(monkeypatch, fixed=4, executor="ray", resources=resources) == [(1, 4)] * 8
    few = parts(monkeypatch, count=2, threads=4, seconds=100.0, slowdown=0.1)
    assert max(threads for _, threads in few) < 4, "a division that is worth it limits others"
    assert {threads for _, threads in parts(monkeypatch, fixed=4, slowdown=0.1)} == {4}


def divided_among(
    monkeypatch: pytest.MonkeyPatch, count: int, width: int, **changes: Any
) -> list[Sequence[RunSpec]]:
    """Return the stacks of a study for a number of workers."""
    monkeypatch.setattr(division, "cores", lambda: count)
    plan, dataset = small_plan(**changes)
    choice = Choice("stacked", tuple(pack(plan.runs, width)), 100.0)
    stacks = divided([choice], engines_for(dataset), Parallel(executor="processes"))
    assert sorted(r.run_id for s in stacks for r in s.runs) == sorted(r.run_id for r in plan.runs)
    for stack in stacks:
        settings, seeds = {r.without_seed for r in stack.runs}, {r.seed for r in stack.runs}
        assert len(stack.runs) == len(settings) * len(seeds)  # each is a grid
    return [stack.runs for stack in stacks]


@pytest.mark.parametrize(
    ("count", "width", "settings", "seeds", "widths"),
    [
        (2, 200, 15, 3, [21, 24]),  # not three stacks of 15, one of which is left at the end
        (2, 20, 15, 3, [12, 12, 9, 12]),  # as wide as was measured, and an even number
        (4, 200, 3, 4, [3, 3, 3, 3]),
        (8, 200, 3, 4, [2] * 6),
        (2, 1, 3, 1, [1, 1, 1]),
        (3, 200, 1, 1, [1]),
    ],
)
def test_stacks_keep_all_workers_busy(
    count: int,
    width: int,
    settings: int,
    seeds: int,
    widths: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = [0.01 * (number + 1) for number in range(settings)]
    study: dict[str, Any] = {"optimizers": [{"rule": "sgd", "lr": rates}], "seeds": seeds}
    stacks = divided_among(monkeypatch, count, width, **study)
    assert sorted(map(len, stacks)) == sorted(widths)


def test_rules_with_more_state_count_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [0.01 * (number + 1) for number in range(12)]
    wide = {"dataset": dict(MOONS), "model": {"kind": "mlp", "hidden": [256]}}
    optimizers = [{"rule": "adam", "lr": rates}, {"rule": "sgd", "lr": rates}]
    adam, sgd = divided_among(
        monkeypatch, 2, 256, problem=wide, batch_size=4, optimizers=optimizers
    )
    assert {run.rule for run in adam} == {"adam"}
    assert len(adam) < len(sgd)


def test_several_models_are_divided_together(monkeypatch: pytest.MonkeyPatch) -> None:
    three = {"batch_size": [16, 32, 64], "budget": {"steps": 40}, "seeds": 4}
    stacks = divided_among(monkeypatch, 2, 256, **three)
    work = sorted(sum(run.batch_size for run in runs) for runs in stacks)
    halves = {sum(work) - 2 * sum(part) for n in range(len(work)) for part in combinations(work, n)}
    assert min(map(abs, halves)) <= 0.1 * sum(work)


def test_short_studies_and_those_of_one_process_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(monkeypatch, executor="local") == [(8, 4)]
    assert parts(monkeypatch, n_jobs=1) == [(8, 4)]
    assert parts(monkeypatch, seconds=19.0, executor="processes") == [(8, 4)]


def test_one_process_on_a_busy_machine_has_one_thread_if_that_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = {"executor": "local", "busy": True}
    assert parts(monkeypatch, slowdown=0.9, **local) == [(8, 1)]
    assert parts(monkeypatch, slowdown=1.1, **local) == [(8, 4)]
    assert parts(monkeypatch, slowdown=0.9, fixed=4, **local) == [(8, 4)]
    assert parts(monkeypatch, slowdown=0.9, executor="local") == [(8, 4)]


@pytest.mark.parametrize(("slowdown", "stacks"), [(3.0, [(2, 1)] * 4), (3.9, [(8, 4)])])
def test_auto_divides_what_a_measurement_shows_to_be_faster(
    slowdown: float, stacks: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parts(monkeypatch, slowdown=slowdown) == stacks


def test_what_is_too_short_to_be_timed_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of both divisions would take more than a tenth of the training."""
    assert parts(monkeypatch, slowdown=0.1, steps=30) == [(8, 4)]
    assert parts(monkeypatch, slowdown=0.1, steps=60) == [(2, 1)] * 4


@pytest.mark.parametrize(
    ("keys", "share"),
    [
        ({"executor": "processes"}, (2, 1)),
        ({"n_jobs": 3}, (2, 1)),
        ({"executor": "ray", "n_jobs": 2, "resources": {"num_cpus": 2}}, (1, 2)),
        ({"executor": "local"}, None),
        ({}, None),
        ({"n_jobs": 1}, None),
    ],
)
def test_runs_for_workers_are_timed_as_one_worker_trains_them(
    keys: dict[str, Any], share: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their stacks are chosen with the width and the threads that they will have."""
    monkeypatch.setattr(division, "cores", lambda: 4)
    plan, dataset = small_plan(seeds=8, budget={"steps": 10**6})
    assert share_of_worker(plan.runs, engines_for(dataset), Parallel(**keys)) == share
    short, _ = small_plan(seeds=8)
    assert share_of_worker(short.runs, engines_for(dataset), Parallel(**keys)) is None


def test_no_stack_is_wider_than_the_share_of_a_worker() -> None:
    plan, dataset = small_plan(seeds=8, engine="stacked", compile="never")
    with limited_threads(1):
        (choice,) = Engines(dataset, "float32", "cpu").within(2).choose(plan.runs)
    assert choice.width == 2


def test_threads_and_memory_limit_what_is_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.executors.room.cores", lambda: 4)
    room = Room.of(slots=2, free=10e9)
    small = Need(threads=2, memory=10**9)
    assert room.admits(small, [small])
    assert not room.admits(small, [small, small])  # of threads
    assert not room.admits(Need(1, 7 * 10**9), [small])
    assert not room.admits(Need(1, 0, alone=True), [small])
    assert not room.admits(small, [Need(1, 0, alone=True)])
    assert room.admits(Need(64, 10**12, alone=True), [])


def test_workers_take_memory_too_but_only_those_that_start() -> None:
    room = Room.of(slots=1000, free=8e9)
    small = Need(threads=1, memory=0)
    assert room.admits(small, [small] * 10)
    assert not room.admits(small, [small] * 100)


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    every = cores(quota)  # there is no such file
    quota.write_text("max 100000\n")
    assert cores(quota) == every
    quota.write_text("50000 100000\n")
    assert cores(quota) == 1
