"""Long studies are divided among cores; what is trained at once shares cores and memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optrial.config import Parallel
from optrial.engine import Choice
from optrial.executors import Need, Room, divided, division
from optrial.executors.room import cores
from optrial.plan import pack
from tests.small import small_plan


def parts(
    monkeypatch: pytest.MonkeyPatch,
    count: int = 4,
    seconds: float = 100.0,
    slowdown: float = 1.0,
    threads: int = 4,
    busy: bool = False,
    fixed: int | None = None,
    **parallel: Any,
) -> list[tuple[int, int]]:
    """Return width and threads of the stacks of eight runs that were chosen as one stack."""
    monkeypatch.setattr(division, "cores", lambda: count)
    plan, _ = small_plan(seeds=8, **({"threads": fixed} if fixed else {}))
    engines: Any = SimpleNamespace(
        threads=lambda runs: threads, on_cuda=False, slowdown=lambda part, whole: slowdown
    )
    choice = Choice("stacked", tuple(pack(plan.runs, 8)), seconds, busy=busy)
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


def test_short_studies_and_those_of_one_process_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parts(monkeypatch, executor="local") == [(8, 4)]
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


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    every = cores(quota)  # there is no such file
    quota.write_text("max 100000\n")
    assert cores(quota) == every
    quota.write_text("50000 100000\n")
    assert cores(quota) == 1
