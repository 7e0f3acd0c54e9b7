"""What user code prints, warns and logs becomes messages, each given once, of bounded length."""

# ruff: noqa: T201

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from ruamel.yaml import YAML
from torch import nn

from optrial.callbacks import Callback
from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys

ACTS: dict[str, Callable[[], object]] = {}
"""What the user's functions do when they are called, by name of the function."""


def act(name: str) -> None:
    ACTS.get(name, lambda: None)()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        act("init")
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        act("forward")
        return self.layer(x)


class Loud(torch.optim.SGD):
    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.calls += 1
        act("step")


def data() -> tuple[np.ndarray, np.ndarray]:
    act("data")
    inputs = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(int)


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    act("loss")
    return nn.functional.cross_entropy(outputs, targets)


def metric(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    act("metric")
    return (outputs.argmax(1) == targets).float().mean()


PROBLEM = {
    "dataset": "tests.test_user_output:data",
    "model": {"factory": "tests.test_user_output:Net"},
    "loss": "tests.test_user_output:loss",
    "metrics": [{"name": "tests.test_user_output:metric", "better": "higher"}],
}
OPTIMIZERS = [{"torch": "tests.test_user_output:Loud", "lr": [0.1, 0.2]}]


class Heard(Callback):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_message(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    ACTS.clear()


def study(**changes: Any) -> Study:
    keys = {"budget": {"steps": 6}, "evaluate": {"every": {"steps": 3}}} | changes
    return Study(**small_keys(problem=PROBLEM, optimizers=OPTIMIZERS, **keys))


def notes(folder: Path, *callbacks: Callback, **changes: Any) -> list[str]:
    """Run the study; return the messages about its code."""
    heard = Heard()
    with study(**changes).run(folder, callbacks=[heard, *callbacks]) as results:
        assert {record.status for record in results.records} == {Status.DONE}
    return [
        note
        for note in heard.notes
        if any(word in note for word in (" printed: ", " warned: ", " not shown"))
    ]


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_each_text_is_a_message_with_its_code_once(
    engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for place in ("init", "forward", "step", "data", "loss", "metric"):
        ACTS[place] = lambda place=place: print("in", place)
    heard = notes(tmp_path, engine=engine)
    names = {"init": "Net", "forward": "Net", "step": "Loud"}
    for place in ACTS:
        name = f"tests.test_user_output:{names.get(place, place)}"
        assert heard.count(f"{name} printed: in {place}") == 1
    assert len(heard) == len(ACTS)
    assert capfd.readouterr() == ("", "")


def test_texts_of_a_training_name_its_runs(tmp_path: Path) -> None:
    class Trained(Callback):
        def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
            ACTS["step"] = lambda: print("trained")

    (note,) = notes(tmp_path, Trained())
    assert note == "tests.test_user_output:Loud printed: trained (Loud lr=0.1 seed=0)"


WRITES: dict[str, Callable[[], object]] = {
    "print": lambda: print("text"),
    "parts": lambda: print("te", end="") or print("xt"),
    "error": lambda: print("text", file=sys.stderr),
    "lines": lambda: print("te\nxt", flush=True),
    "writelines": lambda: sys.stdout.writelines(["te", "xt\n"]),
    "bytes": lambda: sys.stdout.buffer.write(b"text\n"),
    "without an end": lambda: sys.stdout.write("text"),
    "bar": lambda: [sys.stderr.write(f"\rte{'x' * k}t") for k in (9, 5, 1)],
    "log": lambda: logging.getLogger("loud").warning("text"),
    "root": lambda: logging.getLogger().error("text"),
    "thread": lambda: in_a_thread(lambda: print("text")),
    "control": lambda: print("\x1b[31mte\x1b[2Jxt\x07\x1b]0;title\x07"),
}


def in_a_thread(target: Callable[[], object]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


@pytest.mark.parametrize("way", WRITES)
def test_ways_to_print(way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        ACTS["step"] = WRITES[way]
        (note, *more) = notes(tmp_path)
    finally:
        root.handlers = handlers
    name, _, text = note.removesuffix(" (Loud lr=0.1 seed=0)").partition(" printed: ")
    assert name == f"tests.test_user_output:{'<lambda>' if way == 'thread' else 'Loud'}"
    assert text == "te xt" or text.replace("text", "") == ""
    assert more == []
    assert capfd.readouterr() == ("", "")


def test_handlers_that_write_to_the_streams_are_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    logger, handler = logging.getLogger("loud"), logging.StreamHandler(terminal)
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    ACTS["step"] = lambda: logger.warning("text")
    try:
        (note,) = notes(tmp_path)
        logger.warning("afterwards")
    finally:
        logger.removeHandler(handler)
    assert "Loud printed: text" in note
    assert terminal.getvalue() == "afterwards\n"


def test_warnings_are_told_once_with_their_place(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def of_a_library() -> None:
        torch.nn.functional.softmax(torch.zeros(2), _stacklevel=0)

    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(3):
                warnings.warn("careful", stacklevel=1)
            of_a_library()

    ACTS["step"] = warn
    first, second = [note for note in notes(tmp_path) if " warned: " in note]
    line = warn.__code__.co_firstlineno + 4
    assert first == (
        "tests.test_user_output:Loud warned: UserWarning: careful "
        f"(tests/test_user_output.py:{line})"
    )
    assert second.startswith("tests.test_user_output:Loud warned: UserWarning: Implicit dimension")
    assert second.endswith(
        f"(tests/test_user_output.py:{of_a_library.__code__.co_firstlineno + 1})"
    )
    assert capfd.readouterr() == ("", "")


def test_number_and_length_are_limited(tmp_path: Path) -> None:
    def chatter() -> None:
        for number in range(5):
            print(Loud.calls, number, np.random.default_rng().random())
        print("x" * 100_000)

    def long() -> None:
        print("x" * 100_000)

    ACTS["step"] = chatter
    ACTS["init"] = long
    heard = notes(tmp_path)
    long_ones = [note for note in heard if "xxx" in note]
    assert all(len(note) < 450 for note in heard)
    assert long_ones[0].endswith("… (100,001 characters)")
    of_steps = [note for note in heard if ":Loud printed" in note]
    assert len(of_steps) == 20
    assert heard[-1].startswith("tests.test_user_output:Loud: ")
    assert heard[-1].endswith(" further texts not shown")
    assert int(heard[-1].split()[1].replace(",", "")) > 50


class Printing(Callback):
    """Prints in every hook."""

    def on_prepare(self, task: str) -> None:
        print("hook: prepare")

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        print("hook: plan", file=sys.stderr)

    def on_step(self, count: int) -> None:
        print("hook: step")
        in_a_thread(lambda: print("hook: thread"))

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:
        logging.getLogger("hook").warning("hook: logged")

    def on_end(self, error: BaseException | None) -> None:
        print("hook: end")


def test_callbacks_print_as_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ACTS["step"] = lambda: print("of user code")
    (note,) = notes(tmp_path, Printing())
    assert "of user code" in note
    out, err = capsys.readouterr()
    assert set(out.splitlines()) == {
        f"hook: {name}" for name in ("prepare", "step", "thread", "end")
    }
    assert err.splitlines()[0] == "hook: plan"


def test_threads_that_ran_before_print_as_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask, answer = threading.Event(), threading.Event()

    def monitor() -> None:
        ask.wait(60)
        print("of the monitor")
        answer.set()

    thread = threading.Thread(target=monitor)
    thread.start()

    def during() -> None:
        ask.set()
        answer.wait(60)

    ACTS["step"] = during
    assert notes(tmp_path) == []
    thread.join()
    assert capsys.readouterr().out == "of the monitor\n"


def test_a_progress_display_of_a_callback_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is drawn by a thread of its own, and replaces the streams itself."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    class Bar(Callback):
        def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
            console = Console(stderr=True, force_terminal=True, width=60)
            self.bar = Progress(console=console, refresh_per_second=50)
            self.bar.start()
            self.task = self.bar.add_task("steps", total=steps)

        def on_step(self, count: int) -> None:
            self.bar.advance(self.task, count)

        def on_end(self, error: BaseException | None) -> None:
            self.bar.stop()

    streams = sys.stdout, sys.stderr
    ACTS["step"] = lambda: print("of user code")
    (note,) = notes(tmp_path, Bar())
    assert note.count("of user code") == 1
    assert "of user code" not in terminal.getvalue()
    assert "steps" in terminal.getvalue()
    assert (sys.stdout, sys.stderr) == streams


WORKING = """
import torch


class Net(torch.nn.Linear):
    calls = 0

    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        self.calls += 1
        if self.calls == 25:
            print("in training")
        return super().forward(x)
"""


@pytest.mark.slow
def test_texts_of_worker_processes_are_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "working.py").write_text(WORKING)
    problem = {"dataset": {"name": "moons"}, "model": {"factory": "working:Net"}}
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(small_keys(problem=problem, engine="reference", seeds=4), file)
    heard = Heard()
    study = Study.from_file(tmp_path / "study.yaml")
    with study.run(tmp_path, callbacks=[heard], executor="processes", n_jobs=2) as results:
        assert {record.status for record in results.records} == {Status.DONE}
    (note,) = [note for note in heard.notes if " printed: " in note]
    assert note.startswith("working:Net printed: in training (sgd ")
    assert "in training" not in "".join(capfd.readouterr())


def test_forked_processes_print_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fork() -> None:
        if (child := os.fork()) == 0:
            print("of a child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)

    ACTS["data"] = fork
    assert notes(tmp_path) == []
    assert capfd.readouterr() == ("", "of a child\n")


def test_a_text_is_told_while_the_code_computes(tmp_path: Path) -> None:
    heard, told = Heard(), []

    def slow() -> None:
        print("before it hangs")
        for _ in range(600):
            if heard.notes:
                break
            threading.Event().wait(0.05)
        told.extend(heard.notes)

    ACTS["data"] = slow
    study().run(tmp_path, callbacks=[heard]).close()
    assert "before it hangs" in told[0]


def test_an_error_of_a_hook_that_hears_a_text_stops_the_study(tmp_path: Path) -> None:
    class Deaf(Callback):
        def on_message(self, text: str) -> None:
            raise RuntimeError("deaf")

    ACTS["step"] = lambda: print("text")
    with pytest.raises(RuntimeError, match="deaf"):
        study().run(tmp_path, callbacks=[Deaf()])


def fail() -> None:
    print("then it fails")
    raise ValueError("13")


def end() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("error", [fail, end, lambda: sys.stdout.close() or print("closed")])
@pytest.mark.parametrize("place", ["data", "init", "step"])
def test_streams_are_restored_on_every_exit(
    place: str, error: Callable[[], object], tmp_path: Path
) -> None:
    before = sys.stdout, sys.stderr, warnings.showwarning, list(warnings.filters)
    ACTS[place] = error
    heard = Heard()
    try:
        results: Results | None = study().run(tmp_path, callbacks=[heard])
    except Exception:  # noqa: BLE001
        results = None
    if results is not None:
        results.close()
    if error is fail:
        assert any("printed: then it fails" in note for note in heard.notes)
    assert before == (sys.stdout, sys.stderr, warnings.showwarning, list(warnings.filters))


def test_studies_in_two_threads_restore_the_streams(tmp_path: Path) -> None:
    before = sys.stdout, sys.stderr, warnings.showwarning
    first, second = threading.Event(), threading.Event()
    ACTS["data"] = lambda: (second.set(), first.wait(60)) and print("text")
    heard = [Heard(), Heard()]

    def run(index: int) -> None:
        study().run(tmp_path / str(index), callbacks=[heard[index]]).close()

    one = threading.Thread(target=run, args=(0,))
    one.start()
    second.wait(60)
    ACTS["data"] = lambda: (first.set(), one.join())
    run(1)
    assert before == (sys.stdout, sys.stderr, warnings.showwarning)
    assert any("text" in note for note in heard[0].notes)


def test_plans_and_timings_log_what_is_printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    ACTS["forward"] = lambda: print("text")
    for work in (lambda: study().plan(), lambda: study().timing(rounds=3, memory=False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "optrial"):
            work()
        told = [r.getMessage() for r in caplog.records if "printed" in r.getMessage()]
        assert told == ["tests.test_user_output:Net printed: text"]
    assert capfd.readouterr().out == ""


MODULE = """
import torch
from torch import nn

print("at import")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        print("[red]when built[/red]")
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)
"""


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_commands_note_each_text_once(quiet: bool, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(MODULE)
    problem = {"dataset": {"name": "moons"}, "model": {"factory": "loud:Net"}}
    with (tmp_path / "study.yaml").open("w") as file:
        YAML().dump(small_keys(problem=problem, save="final"), file)
    lines = ["loud printed: at import", "loud:Net printed: [red]when built[/red]"]
    for arguments in (
        ["run", "study.yaml", "--out", "out"],
        ["plan", "study.yaml"],
        ["evaluate", "out"],
    ):
        if quiet:
            arguments.append("--quiet")
        ended = subprocess.run(
            [sys.executable, "-m", "optrial", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        for line in lines:
            assert ended.stderr.splitlines().count(line) == (0 if quiet else 1), ended.stderr
        assert not any(line in ended.stdout for line in lines)
        if quiet:
            break
