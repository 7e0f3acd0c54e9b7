"""A stack that killed the process is halved; one run that does is an error with the figure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from optrial.engine import Choice, Engines
from optrial.memory import MemoryLimit
from optrial.records import Store
from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.engine.test_choice import Notes
from tests.small import small_keys

KEYS = {"engine": "stacked", "compile": "never", "seeds": 4}

PROGRAM = """
    import os, signal, sys
    from optrial.engine import Choice, Engines, StackedEngine, Training
    from optrial.plan import pack
    from optrial.study import Study
    from tests.small import small_keys

    most, when, seeds = int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    def choose(self, runs):
        return [Choice("stacked", (group,), 0.0) for group in pack(runs, len(runs))]

    advance = StackedEngine.advance

    def limited(self, steps):
        if len(self.specs) > most and (when == "start" or self._taken >= 20):
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(self, steps)

    Engines.choose, StackedEngine.advance = choose, limited
    with Study(**small_keys(**{"engine": "stacked", "compile": "never", "seeds": seeds})).run(
        sys.argv[1], checkpoint_seconds=0
    ):
        pass
"""


def run_process(folder: Path, most: int = 0, when: str = "start", seeds: int = 4) -> int:
    """Train in a process that dies in a stack of more than `most` runs; return its status."""
    arguments = map(str, (folder, most, when, seeds))
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
    return subprocess.run(command, check=False, capture_output=True).returncode


def run_here(folder: Path, **changes: Any) -> tuple[Results, str]:
    notes = Notes()
    results = Study(**small_keys(**KEYS | changes)).run(folder, callbacks=[notes])
    return results, "\n".join(notes.texts)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(self: Engines, runs: Any) -> list[Choice]:
        return [Choice("stacked", (tuple(runs),), 0.0)]

    monkeypatch.setattr(Engines, "choose", choose)


def suspect_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave so little memory free that every stack is suspected of having used it up."""
    limit = MemoryLimit("this container, memory.max", 10**6, 10**6 - 1000)
    monkeypatch.setattr(Engines, "memory_limit", limit)


@pytest.mark.usefixtures("stacks")
def test_process_killed_for_memory_goes_on_with_half_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        run_process(
            tmp_path,
        )
        == -signal.SIGKILL
    )
    suspect_memory(monkeypatch)
    results, notes = run_here(tmp_path)
    with results:
        assert [r.facts.stack_width for r in results.records] == [2] * 4
        assert {r.status for r in results.records} == {Status.DONE}
    assert "the last process died while it trained 4 runs" in notes
    assert "continuing with fewer at a time (0 MB of 1 MB (this container, memory.max)" in notes


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
def test_process_killed_from_outside_goes_on_with_the_same_stack(tmp_path: Path) -> None:
    run_here(tmp_path / "whole")[0].close()
    assert (
        run_process(
            tmp_path / "killed",
        )
        == -signal.SIGKILL
    )
    results, notes = run_here(tmp_path / "killed")
    assert "trying these runs again" in notes
    with results, Store.open(tmp_path / "whole") as whole:
        expected = [(r.stack, r.facts.parameters_sha256) for r in whole.runs()]
        assert [(r.stack, r.facts.parameters_sha256) for r in results.records] == expected


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
def test_stack_that_killed_two_processes_is_halved(tmp_path: Path) -> None:
    for _ in range(2):
        assert (
            run_process(
                tmp_path,
            )
            == -signal.SIGKILL
        )
    results, _ = run_here(tmp_path)
    with results:
        assert [r.facts.stack_width for r in results.records] == [2] * 4


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
def test_process_killed_after_progress_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_process(tmp_path, when="later") == -signal.SIGKILL
    suspect_memory(monkeypatch)
    results, notes = run_here(tmp_path)
    with results:
        assert [r.facts.stack_width for r in results.records] == [4] * 4
    assert notes == ""


@pytest.mark.slow
@pytest.mark.usefixtures("stacks")
def test_run_that_kills_every_process_is_an_error_and_is_tried_again(
    tmp_path: Path,
) -> None:
    statuses = [run_process(tmp_path, seeds=1) for _ in range(3)]
    assert statuses == [-signal.SIGKILL, -signal.SIGKILL, 0]
    with Store.open(tmp_path) as store:
        (record,) = store.runs()
        assert record.status is Status.ERROR
        assert "2 processes died while they trained this run" in record.reason
        assert "; it only needs about" in record.reason
        assert record.reason.endswith("; if they were killed from outside, run the study again")
    results, _ = run_here(tmp_path, seeds=1)  # the cause is gone
    with results:
        assert {record.status for record in results.records} == {Status.DONE}


@pytest.mark.usefixtures("stacks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_no_death(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect_memory(monkeypatch)

    class Stops(Notes):
        def on_step(self, count: int) -> None:
            if count > 0:
                os.kill(os.getpid(), number)

    study = Study(**small_keys(**KEYS))
    study.run(tmp_path, callbacks=[Stops()], checkpoint_seconds=1e9).close()
    results, notes = run_here(tmp_path)
    with results:
        assert [r.facts.stack_width for r in results.records] == [4] * 4
    assert notes == ""
