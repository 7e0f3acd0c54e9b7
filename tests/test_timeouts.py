"""Runs that exceed `timeout` end with an error; runs that hang are named, and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from optrial import watching
from optrial.callbacks import Callback
from optrial.records import Record, Store
from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys


def sleeping() -> None:
    time.sleep(60)


HANGS = {"act": sleeping}
"""What the optimizer calls in a step."""


class Hanging(torch.optim.SGD):
    """Calls `HANGS["act"]` in a step if its learning rate is 0.5, unless told to be quick."""

    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.calls += 1
        hangs = self.param_groups[0]["lr"] == 0.5 and not os.environ.get("IS_QUICK")
        if self.calls == 13 and hangs:
            HANGS["act"]()


class Heard(Callback):
    def __init__(self) -> None:
        self.notes, self.hangs, self.steps = list[str](), list[str](), 0

    def on_message(self, text: str) -> None:
        self.notes.append(text)

    def on_hang(self, reason: str) -> None:
        self.hangs.append(reason)

    def on_step(self, count: int) -> None:
        self.steps += count


def study(**changes: Any) -> Study:
    optimizers = [{"torch": "tests.test_timeouts:Hanging", "lr": [0.1, 0.5]}]
    return Study(**small_keys(optimizers=optimizers, **changes))


def outcomes(results: Results) -> dict[float, Record]:
    with results:
        return {record.spec.hyperparameters["lr"]: record for record in results.records}


def test_a_timeout_is_not_part_of_a_run(tmp_path: Path) -> None:
    plain, limited = study(), study(timeout=1000)
    data = plain.load_data()
    assert [r.run_id for r in plain.plan(data).runs] == [r.run_id for r in limited.plan(data).runs]


def test_a_step_that_hangs_is_interrupted_and_the_others_go_on(tmp_path: Path) -> None:
    runs = outcomes(study(timeout=2).run(tmp_path))
    assert runs[0.1].status is Status.DONE
    assert runs[0.5].status is Status.ERROR
    reason = runs[0.5].reason
    assert reason.startswith("a step took longer than timeout 2 s, after step ")
    assert "of 40, in tests/test_timeouts.py:" in reason
    assert reason.endswith("(sleeping)")


@pytest.mark.slow
def test_runs_that_timed_out_are_tried_again_with_a_longer_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(timeout=2).run(tmp_path / "limited", checkpoint_seconds=0).close()
    monkeypatch.setenv("IS_QUICK", "1")
    for limit in (2, 1.5):
        heard = Heard()
        runs = outcomes(study(timeout=limit).run(tmp_path / "limited", callbacks=[heard]))
        assert runs[0.5].status is Status.ERROR
        assert heard.steps == 0
        assert any("1 run took longer than timeout" in note for note in heard.notes)
    again = outcomes(study(timeout=600).run(tmp_path / "limited"))
    whole = outcomes(study().run(tmp_path / "whole"))
    for rate in (0.1, 0.5):
        assert again[rate].status is Status.DONE
        assert again[rate].metrics == whole[rate].metrics
        assert again[rate].facts.parameters_sha256 == whole[rate].facts.parameters_sha256


@pytest.mark.slow
def test_user_code_that_catches_everything_is_interrupted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = []

    def stubborn() -> None:
        while len(caught) < 2:
            try:
                time.sleep(60)
            except BaseException as error:  # noqa: BLE001
                caught.append(error)
        time.sleep(60)

    monkeypatch.setitem(HANGS, "act", stubborn)
    runs = outcomes(study(timeout=1).run(tmp_path))
    assert len(caught) == 2
    assert [run.status for run in runs.values()] == [Status.DONE, Status.ERROR]


class Slow(nn.Module):
    """Takes 0.2 seconds for a step, unless told to be quick."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not os.environ.get("IS_QUICK"):
            time.sleep(0.2)
        return self.layer(x)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_run_that_takes_longer_than_its_time_ends(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = {
        "dataset": {"name": "moons", "n_samples": 200},
        "model": {"factory": "tests.test_timeouts:Slow"},
    }
    optimizers = [{"rule": "sgd", "lr": [0.1, 0.2, 1e30]}]
    keys = small_keys(problem=problem, engine=engine, optimizers=optimizers, loss_limit=1e6)
    folder = tmp_path / "limited"
    runs = outcomes(Study(**keys, timeout=2).run(folder))
    assert [run.status for run in runs.values()] == [Status.ERROR] * 2 + [Status.DIVERGED]
    for rate in (0.1, 0.2):
        assert runs[rate].reason.startswith("took longer than timeout 2 s, at step ")
        assert runs[rate].facts.timeout == 2
        assert 0 < runs[rate].step < 40
    monkeypatch.setenv("IS_QUICK", "1")
    heard = Heard()
    again = outcomes(Study(**keys).run(folder, callbacks=[heard]))
    whole = outcomes(Study(**keys).run(tmp_path / "whole"))
    assert 0 < heard.steps < 2 * 40  # they go on from their checkpoints
    for rate, run in again.items():
        assert run.status is whole[rate].status
        assert run.metrics == whole[rate].metrics
        assert run.facts.parameters_sha256 == whole[rate].facts.parameters_sha256


def test_a_training_that_hangs_is_reported_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()

    def reports() -> list[str]:
        return [note for note in heard.notes if note.startswith("no step for ")]

    def until_reported() -> None:
        deadline = time.monotonic() + 120
        while len(reports()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)

    monkeypatch.setattr(watching, "PATIENCE", 1.5)
    monkeypatch.setitem(HANGS, "act", until_reported)
    runs = outcomes(study().run(tmp_path, callbacks=[heard]))
    assert [run.status for run in runs.values()] == [Status.DONE] * 2
    first, second = reports()[:2]
    assert "of 40 (Hanging lr=0.5 seed=0), in tests/test_timeouts.py:" in first
    assert first.endswith(".<locals>.until_reported)")
    assert float(second.split()[3]) > float(first.split()[3])  # at growing intervals


class Held(nn.Linear):
    """Calls `HANGS["build"]` when it is built."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        HANGS.get("build", lambda: None)()


def held_data() -> tuple[torch.Tensor, torch.Tensor]:
    HANGS.get("load", lambda: None)()
    return torch.rand(60, 2), torch.arange(60) % 2


@pytest.mark.parametrize(
    ("place", "task"),
    [
        pytest.param("load", "loading the data", marks=pytest.mark.slow),
        ("build", "trying models and optimizers on a few samples"),
    ],
)
def test_code_that_hangs_before_training_is_reported_with_its_place(
    place: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()

    def until_reported() -> None:
        started = time.monotonic()
        while not heard.notes and time.monotonic() < started + 120:
            time.sleep(0.05)
        if place == "load":
            time.sleep(max(0.0, started + 5.5 - time.monotonic()))  # longer than the time limit

    monkeypatch.setattr(watching, "PATIENCE", 0.5)
    monkeypatch.setitem(HANGS, place, until_reported)
    problem = {
        "dataset": "tests.test_timeouts:held_data",
        "model": {"factory": "tests.test_timeouts:Held"},
    }
    study = Study(**small_keys(problem=problem, engine="reference", timeout=5))
    with study.run(tmp_path, callbacks=[heard]) as results:
        assert [record.status for record in results.records] == [Status.DONE]
    assert heard.notes[0].startswith(f"{task} has taken ")
    assert " so far, in tests/test_timeouts.py:" in heard.notes[0]
    assert heard.notes[0].endswith(".<locals>.until_reported)")


def test_a_task_without_user_code_is_reported_without_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiling takes long, and a line of a compiler helps nobody."""
    told: list[str] = []
    monkeypatch.setattr(watching, "PATIENCE", 0.1)
    monkeypatch.setattr(watching, "user_frame", lambda frame: None)
    with watching.Watch(told.append) as watch, watch.busy("trying a few steps"):
        started = time.monotonic()
        while not told and time.monotonic() < started + 60:
            time.sleep(0.02)
    assert told[0].startswith("trying a few steps has taken ")
    assert told[0].endswith(" s so far")


IN_C = """
import ctypes
import torch


def lock_up():
    lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)  # waits for itself


class Hanging(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        super().step()
        self.calls += 1
        if self.calls == 13 and self.param_groups[0]["lr"] == 0.5:
            lock_up()
"""


@pytest.mark.slow
def test_a_hang_in_compiled_code_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text(IN_C)
    keys = small_keys(optimizers=[{"torch": "hanging:Hanging", "lr": [0.5, 0.1]}], timeout=2)
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(keys, file)
    command = [sys.executable, "-m", "optrial", "run", "study.yaml", "--out", "out"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 124
    assert first.stdout == ""
    assert "hanging.py:9 (lock_up); it cannot be interrupted, so the process ends" in first.stderr
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    with Store.open(tmp_path / "out") as store:
        statuses = {run.spec.hyperparameters["lr"]: run.status for run in store.runs()}
    assert statuses == {0.5: Status.ERROR, 0.1: Status.DONE}


LOCKED = """
import ctypes
import torch


def net():
    lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(lock)
    print("locked", flush=True)
    library.pthread_mutex_lock(lock)  # waits for itself
    return torch.nn.Linear(2, 2)
"""


@pytest.mark.slow
def test_a_plan_that_hangs_in_compiled_code_acknowledges_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "locked.py").write_text(LOCKED)
    problem = {"dataset": {"name": "moons"}, "model": {"factory": "locked:net"}}
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(small_keys(problem=problem), file)
    command = [sys.executable, "-m", "optrial", "plan", "study.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("locked:net printed: locked" in line for line in lines)
    process.send_signal(signal.SIGINT)
    assert any("press Ctrl-C again to stop now" in line for line in lines)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == "interrupted\n"
    assert process.returncode == 130
