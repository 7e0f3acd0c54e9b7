"""Measured speeds are kept while they hold, and for no longer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from optrial.engine import Engines, Learner, clear_speeds, kept_speeds, speeds_file
from optrial.engine.select import speeds
from optrial.engine.select.busy import (
    BUSY,
    LEAST_CPU_SHARE,
    Clocks,
    cpu_share,
    share_of_products,
)
from optrial.engine.select.speeds import LIFETIME, Measured, Speeds
from optrial.plan import estimate
from optrial.spec import RunSpec
from tests.conftest import Command
from tests.small import MOONS, small_keys, small_plan

A = {"engine": "stacked", "model": "mlp", "batch_size": 32, "rules": ["sgd", "adam"]}
B = A | {"model": "cnn"}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path / "cache"))


def measured(candidate: dict[str, Any], seconds: list[float], cpu_share: float = 1.0) -> Any:
    """Ask for a speed in a session of its own; `seconds` is what a measurement would give."""
    return Speeds(torch.device("cpu")).measured([candidate], lambda: Measured(seconds, cpu_share))


def entries() -> dict[str, Any]:
    return json.loads(speeds_file().read_text(encoding="utf-8"))


def change(**fields: Any) -> None:
    content = {key: entry | fields for key, entry in entries().items()}
    speeds_file().write_text(json.dumps(content), encoding="utf-8")


def test_speeds_are_kept_for_the_machine() -> None:
    assert measured(A, [2.0, 3.0]) == [2.0, 3.0]
    assert measured(A, [9.0, 9.0]) == [2.0, 3.0]
    assert measured(B, [9.0, 9.0]) == [9.0, 9.0]
    assert len(list(kept_speeds())) == 2


def test_what_is_kept_says_when_where_and_how_it_was_taken() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    measured(A, [2.0, 3.0], 0.98765)
    (speed,) = kept_speeds()
    assert before <= speed.taken <= datetime.now(UTC)
    assert (speed.cpu_share, speed.candidates) == (0.988, [A])
    assert speed.machine["torch"] == torch.__version__
    assert {"processor", "host", "optrial", "threads", "device"} < set(speed.machine)


def test_what_was_measured_on_a_busy_machine_is_used_but_not_kept() -> None:
    busy = LEAST_CPU_SHARE - 0.01
    session = Speeds(torch.device("cpu"))
    assert session.measured([A], lambda: Measured([5.0, 5.0], busy)) == [5.0, 5.0]
    assert session.measured([A], lambda: Measured([6.0, 6.0], busy)) == [5.0, 5.0]
    assert session.busy
    assert list(kept_speeds()) == []
    assert measured(A, [2.0, 3.0]) == [2.0, 3.0]


def test_speeds_expire() -> None:
    measured(A, [2.0, 3.0])
    young = datetime.now(UTC) - LIFETIME + timedelta(hours=1)
    change(taken=young.isoformat())
    assert measured(A, [9.0, 9.0]) == [2.0, 3.0]
    change(taken=(young - timedelta(hours=2)).isoformat())
    assert list(kept_speeds()) == []
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]
    change(taken=(datetime.now(UTC) + timedelta(days=2)).isoformat())  # the clock was wrong
    assert measured(A, [5.0, 5.0]) == [5.0, 5.0]
    measured(B, [1.0, 1.0])
    assert len(entries()) == 2


@pytest.mark.parametrize("changed", ["torch", "optrial", "processor"])
def test_another_version_or_processor_is_another_speed(
    changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(A, [2.0, 3.0])
    match changed:
        case "torch":
            monkeypatch.setattr(torch, "__version__", "99.0")
        case "optrial":
            monkeypatch.setattr(speeds, "__version__", "99.0")
        case _:
            monkeypatch.setattr("platform.processor", lambda: "another")
    assert measured(A, [9.0, 9.0]) == [9.0, 9.0]


@pytest.mark.parametrize(
    "content",
    [
        *("no json", "", "[1, 2]", "null", "3", '"a"', "NaN", "9" * 5000, "[" * 100_000),
        *('{"a": [1.0, 2.0]}', '{"a": null}', '{"a": {"seconds": 1}}', '{"a": {"a": {}}}'),
        '{"a": "' + "b" * 10**7 + '"}',
    ],
    ids=lambda content: content[:20],
)
def test_a_damaged_file_is_ignored_and_written_again(content: str) -> None:
    measured(A, [2.0, 3.0])
    speeds_file().write_text(content, encoding="utf-8")
    assert list(kept_speeds()) == []
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]
    assert [entry["seconds"] for entry in entries().values()] == [[4.0, 4.0]]


@pytest.mark.parametrize(
    "fields",
    [
        {"seconds": [2.0]},
        {"seconds": [float("nan"), 3.0]},
        {"seconds": [-1.0, 3.0]},
        {"seconds": "fast"},
        {"taken": "yesterday"},
        {"taken": "2026-01-01T00:00:00"},
        {"taken": 10**400},
        {"candidates": 3},
        {"candidates": [A | {"rules": 5}]},
        {"candidates": [A | {"loss": float("nan")}]},
        {"candidates": [A | {"batch_size": 33}]},
        {"machine": None},
        {"machine": {"cores": float("inf")}},
        {"seconds": [10**400, 3.0]},
        {"seconds": [0.0, 3.0]},
        {"cpu_share": float("nan")},
    ],
)
def test_a_damaged_entry_is_measured_again(fields: dict[str, Any]) -> None:
    measured(A, [2.0, 3.0])
    change(**fields)
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]
    assert measured(A, [9.0, 9.0]) == [4.0, 4.0]


def test_entries_of_another_program_are_kept_apart_and_shown(optrial: Command) -> None:
    """What is sound but unknown is neither used nor a reason to fail."""
    measured(A, [2.0, 3.0])
    foreign = next(iter(entries().values())) | {"candidates": [{"model": {"\ud800": "\x1b[31m"}}]}
    speeds_file().write_text(json.dumps(entries() | {"other": foreign}), encoding="utf-8")
    assert measured(B, [4.0, 4.0]) == [4.0, 4.0]
    assert len(entries()) == 3
    answer = optrial("speeds", "show")
    assert (answer.status, answer.out.count("stacked")) == (0, 2)
    assert "\x1b[31m" not in answer.out


def test_bytes_that_are_no_text_are_ignored() -> None:
    measured(A, [2.0, 3.0])
    speeds_file().write_bytes(b"\xff\xfe\x00")
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]


def test_a_cache_that_cannot_be_written_costs_the_measurement_only(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert measured(A, [2.0, 3.0]) == [2.0, 3.0]
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]


def test_a_folder_in_the_place_of_the_cache(optrial: Command) -> None:
    speeds_file().mkdir(parents=True)
    assert measured(A, [2.0, 3.0]) == [2.0, 3.0]
    assert measured(A, [4.0, 4.0]) == [4.0, 4.0]
    assert optrial("speeds", "show").status == 0
    answer = optrial("speeds", "clear")
    assert answer.status == 2
    assert answer.err.count("error:") == 1
    assert str(speeds_file()) in answer.err


def test_a_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, optrial: Command) -> None:
    measured(A, [2.0, 3.0])

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as unreadable:
        unreadable.setattr(Path, "open", refused)
        assert list(kept_speeds()) == []
        assert optrial("speeds", "show").status == 0
    assert measured(A, [9.0, 9.0]) == [2.0, 3.0]


def test_a_full_disk_leaves_the_kept_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(A, [2.0, 3.0])
    before = speeds_file().read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        assert measured(B, [4.0, 4.0]) == [4.0, 4.0]
    assert speeds_file().read_bytes() == before
    assert [file.name for file in speeds_file().parent.iterdir()] == [speeds_file().name]


def test_a_home_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTRIAL_CACHE", "~nobody-here/cache")
    assert measured(A, [2.0, 3.0]) == [2.0, 3.0]
    assert measured(A, [4.0, 4.0]) == [2.0, 3.0]


def clocks_of(cpu: float, threads: float = 1) -> Clocks:
    """Clocks of a machine on which each look at the time is ten milliseconds later.

    The calling thread has the processor for a share `cpu` of the time; `threads` like it compute.
    """
    looks = iter(range(10**9))
    now = {"wall": 0.0}

    def wall() -> float:
        now["wall"] = next(looks) * 1e-2
        return now["wall"]

    return Clocks(wall, lambda: now["wall"] * cpu, lambda: now["wall"] * cpu * threads)


WIDE = {"engine": "stacked", "compile": "never", "seeds": 2}


@pytest.mark.parametrize(("cpu", "kept"), [(1.0, True), (0.5, False)])
def test_wall_and_cpu_time_decide_what_is_kept(cpu: float, kept: bool) -> None:
    plan, dataset = small_plan(**WIDE)
    (choice,) = Engines(dataset, "float32", "cpu", clocks_of(cpu)).choose(plan.runs)
    assert bool(list(kept_speeds())) == kept
    assert choice.notes == (() if kept else (BUSY,))


@pytest.mark.slow
def test_a_program_on_one_of_two_cores_is_noticed() -> None:
    """The thread that takes the steps never waits; the second one has half a core."""
    plan, dataset = small_plan(**WIDE, threads=2)
    Engines(dataset, "float32", "cpu", clocks_of(1.0, 1.5)).choose(plan.runs)
    assert not list(kept_speeds())
    Engines(dataset, "float32", "cpu", clocks_of(1.0, 2)).choose(plan.runs)
    assert list(kept_speeds())


@pytest.mark.parametrize(
    ("threads", "expected"), [(None, {1}), pytest.param(2, {2}, marks=pytest.mark.slow)]
)
def test_steps_are_tried_on_one_thread_of_a_busy_machine(
    threads: int | None, expected: set[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the study fixes the number; several threads would wait for each other."""
    learners: list[Learner] = []
    build = Engines.build

    def built(self: Engines, engine: str, specs: Sequence[RunSpec]) -> Learner:
        learners.append(build(self, engine, specs))
        return learners[-1]

    wide = {"problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [256]}}}
    keys = WIDE | wide | {"batch_size": 256, "budget": {"steps": 5000}}
    plan, dataset = small_plan(**keys, **({"threads": threads} if threads else {}))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        idle = Engines(dataset, "float32", "cpu", clocks_of(1.0, 2))
        assert idle.threads(plan.runs) == 2
        monkeypatch.setattr(Engines, "build", built)
        (choice,) = Engines(dataset, "float32", "cpu", clocks_of(0.5, 2)).choose(plan.runs)
    finally:
        torch.set_num_threads(before)
    assert choice.busy
    assert {learner.threads for learner in learners} == expected


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
def test_one_busy_core_is_noticed_among_several(threads: int) -> None:
    others = threads / (threads + 1)  # what a fair scheduler leaves to each of our threads
    assert cpu_share(threads * others, 1.0, threads) < LEAST_CPU_SHARE
    assert cpu_share(threads * 0.96, 1.0, threads) >= LEAST_CPU_SHARE


def test_looking_whether_threads_have_cores_ends_soon_if_they_have_none() -> None:
    looks = iter(range(100))
    share = share_of_products(Clocks(lambda: 0.2 * next(looks), lambda: 0.0, lambda: 0.0))
    assert share < LEAST_CPU_SHARE
    assert next(looks) == 4


@pytest.mark.slow
def test_programs_that_spin_are_noticed() -> None:
    spinning = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    count = 3 * len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        for _ in range(count):
            program = stack.enter_context(subprocess.Popen(spinning, stdout=subprocess.PIPE))
            stack.callback(program.kill)
            assert program.stdout is not None
            program.stdout.readline()
        shares = [share_of_products(Clocks()) for _ in range(20)]
    assert sum(shares) / len(shares) < LEAST_CPU_SHARE


@pytest.mark.one_in(2)
@pytest.mark.parametrize("tune", [{}, {"tune": {"seeds": 1, "extend": False}}])
def test_a_study_says_once_that_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, optrial: Command, tune: dict[str, Any]
) -> None:
    keys = WIDE | tune | {"optimizers": [{"rule": "sgd", "lr": [0.01, 0.1]}]}
    keys |= {"evaluate": {"on": ["validation", "test"]}}
    monkeypatch.setattr(speeds, "LEAST_CPU_SHARE", 2.0)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(json.dumps(small_keys(**keys)), encoding="utf-8")
    assert optrial("run", "small.yaml").err.count(BUSY) == 1
    assert not speeds_file().exists()


def test_a_forecast_takes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, dataset = small_plan(budget={"steps": 100_000}, compile="never", seeds=4)
    monkeypatch.setattr(Engines, "build", None)
    (choice,) = Engines(dataset, "float32", "cpu").forecast(plan.runs)
    assert (choice.engine, choice.width, choice.modelled) == ("stacked", 4, True)
    cost = estimate(plan.runs, dataset, 4)
    assert 0 < choice.seconds - cost.stacked_seconds < 0.1  # one stack, besides its steps
    assert cost.stacked_seconds < cost.seconds


def test_a_forecast_uses_kept_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, dataset = small_plan(**WIDE)
    (chosen,) = Engines(dataset, "float32", "cpu", clocks_of(1.0)).choose(plan.runs)
    monkeypatch.setattr(Engines, "build", None)
    (choice,) = Engines(dataset, "float32", "cpu").forecast(plan.runs)
    assert (choice.seconds, choice.modelled) == (chosen.seconds, False)
    clear_speeds()
    (choice,) = Engines(dataset, "float32", "cpu").forecast(plan.runs)
    assert choice.modelled


def test_a_forecast_says_that_code_of_the_user_is_untried() -> None:
    problem = {"dataset": dict(MOONS), "model": {"factory": "tests.user_code:DropsTwice"}}
    plan, dataset = small_plan(**WIDE, problem=problem)
    (choice,) = Engines(dataset, "float32", "cpu").forecast(plan.runs)
    assert choice.engine == "stacked"
    assert "--measure" in choice.note


def test_plan_trains_only_if_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, optrial: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speeds, "LEAST_CPU_SHARE", -99.0)  # on a busy machine too
    Path("small.yaml").write_text(json.dumps(small_keys(**WIDE)), encoding="utf-8")
    with monkeypatch.context() as without_training:
        without_training.setattr(Engines, "build", None)
        assert "from a model of the cost" in optrial("plan", "small.yaml").out
    assert not speeds_file().exists()
    assert "from measured speeds" in optrial("plan", "small.yaml", "--measure").out
    assert "from kept speeds" in optrial("plan", "small.yaml").out


def test_threads_and_probes_are_part_of_a_speed() -> None:
    for changes in ({}, {"threads": 2}, {"probes": ["gradient_norm"]}):
        plan, dataset = small_plan(**WIDE, **changes)
        idle = clocks_of(1.0, plan.runs[0].threads or 1)
        before = len(list(kept_speeds()))
        Engines(dataset, "float32", "cpu", idle).choose(plan.runs)
        assert len(list(kept_speeds())) == before + 1


def test_the_commands_show_and_clear(optrial: Command) -> None:
    answer = optrial("speeds", "show")
    assert (answer.status, answer.out) == (0, "")
    measured(A, [0.002, 3.0])
    answer = optrial("speeds", "show")
    for text in ("stacked", "mlp", "32", "2.0", torch.__version__):
        assert text in answer.out
    assert str(speeds_file()) in answer.err
    (row,) = json.loads(optrial("speeds", "show", "--format", "json").out)
    assert (row["engine"], row["runs"], row["ms_per_run_and_step"]) == ("stacked", 2, 2.0)
    assert (row["age_days"], row["cores"]) == (0.0, os.cpu_count())
    change(taken=(datetime.now(UTC) - timedelta(days=3)).isoformat())
    assert json.loads(optrial("speeds", "show", "--format", "json").out)[0]["age_days"] == 3.0
    assert optrial("speeds", "show", "--format", "csv").out.startswith("taken,age_days,engine,")
    answer = optrial("speeds", "clear")
    assert (answer.status, answer.out) == (0, "")
    assert f"1 removed from {speeds_file()}" in answer.err
    assert not speeds_file().exists()
    assert "0 removed" in optrial("speeds", "clear").err
    assert clear_speeds() == 0
