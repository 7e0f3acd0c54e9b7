"""Signals are acknowledged at once, stop a study where nothing is lost, and set the exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from optrial.callbacks import Callback
from optrial.interruption import stop_on_signal
from optrial.records import Store
from optrial.study import Study
from tests.small import small_keys
from tests.test_sweep import Hook, contents

CODE = '''
import ctypes, os, sys, time
import numpy as np
import torch
from torch import nn

WAITS = os.environ.get("WAITS", "")


def wait(place):
    """Tell the test that a place is reached, and sleep there."""
    if place == WAITS:
        print("reached", file=sys.stderr, flush=True)
        if os.environ.get("IN_C"):
            lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
            library.pthread_mutex_lock(lock)
            library.pthread_mutex_lock(lock)  # waits for itself
        time.sleep(20)


def data():
    wait("data")
    inputs = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(int)


class Net(nn.Module):
    built = 0

    def __init__(self):
        super().__init__()
        wait("trial")
        self.layer, self.calls = nn.Linear(2, 2), 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 30:
            wait("step")
        return self.layer(x)
'''


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "waiting.py").write_text(CODE)
    problem = {"dataset": "waiting:data", "model": {"factory": "waiting:Net"}}
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(small_keys(problem=problem, engine="reference"), file)
    return tmp_path


def started(folder: Path, place: str, **environment: str) -> subprocess.Popen[str]:
    """Start the study; return its process when it has reached a place."""
    process = subprocess.Popen(
        [sys.executable, "-m", "optrial", "run", "study.yaml", "--out", "out"],
        cwd=folder,
        env=os.environ | {"WAITS": place, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    while line := process.stderr.readline():
        if "reached" in line:
            time.sleep(0.2)
            return process
    pytest.fail("it ended before")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["data", "trial"])
def test_a_signal_before_training_ends_the_command(
    study: Path, place: str, number: signal.Signals
) -> None:
    process = started(study, place)
    process.send_signal(number)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 128 + number
    assert "to continue: optrial run study.yaml" in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_what_the_first_waits_for(
    study: Path, number: signal.Signals
) -> None:
    """Also within code in C, where the main thread sees no signal."""
    process = started(study, "step", IN_C="1")
    assert process.stderr
    process.send_signal(number)
    assert "stopping after the current step; press Ctrl-C again" in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 128 + number
    assert err.strip() == "interrupted; everything stored so far is kept"
    environment = os.environ | {"WAITS": ""}
    again = [sys.executable, "-m", "optrial", "run", "study.yaml", "--out", "out", "--quiet"]
    subprocess.run(again, cwd=study, env=environment, check=True, capture_output=True)
    with Store.open(study / "out") as store:
        assert [record.status for record in store.runs()] == ["done"]


def test_an_interruption_that_python_ignores_is_not_lost() -> None:
    class Last:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), stop_on_signal():
        Last()


class Listening(Callback):
    """Keeps messages and signals."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_message(self, text: str) -> None:
        self.heard.append(text)

    def on_signal(self, number: int, again: bool) -> None:
        self.heard.append((number, again))


def test_callbacks_hear_of_signals_at_once(tmp_path: Path) -> None:
    """In a thread of their own, while a step goes on."""
    listening, heard = Listening(), []

    def signalled() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while len(listening.heard) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        heard.extend(listening.heard)

    study = Study(**small_keys())
    with study.run(tmp_path, callbacks=[listening, Hook(10, signalled)]) as results:
        assert [record.status for record in results.records] == ["interrupted"]
    assert heard == [
        "stopping after the current step; press Ctrl-C again to stop now",
        (signal.SIGTERM, False),
    ]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGXCPU])
@pytest.mark.parametrize("status", ["interrupted", "done"])
def test_a_closed_terminal_stops_a_study_unless_it_is_to_outlive_it(
    tmp_path: Path, status: str, number: signal.Signals
) -> None:
    """A shell sends SIGHUP once more, which asks for nothing else; below nohup it is ignored.

    The same holds for SIGXCPU, which the kernel sends each second beyond a limit of CPU time.
    """

    def closed() -> None:
        for _ in range(2):
            os.kill(os.getpid(), number)
            time.sleep(0.05)

    earlier = signal.signal(number, signal.SIG_IGN if status == "done" else signal.SIG_DFL)
    listening = Listening()
    try:
        study = Study(**small_keys())
        with study.run(tmp_path, callbacks=[listening, Hook(10, closed)]) as results:
            assert [record.status for record in results.records] == [status]
    finally:
        signal.signal(number, earlier)
    signals = [heard for heard in listening.heard if isinstance(heard, tuple)]
    assert signals == [(number, False)] * (status == "interrupted")


def test_an_error_after_a_signal_is_not_one_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal reaches processes that a run needs, such as compilers, too."""
    from optrial.engine.backends.reference import ReferenceEngine

    study, step = Study(**small_keys()), ReferenceEngine.step

    def fragile(self: ReferenceEngine, batch: Any, number: int) -> Any:
        if number == 20:
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError("the compiler was interrupted")
        return step(self, batch, number)

    monkeypatch.setattr(ReferenceEngine, "step", fragile)
    with study.run(tmp_path / "parts", checkpoint_seconds=0) as results:
        assert [record.status for record in results.records] == ["interrupted"]
    monkeypatch.undo()
    study.run(tmp_path / "parts").close()
    study.run(tmp_path / "whole").close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
