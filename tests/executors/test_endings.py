"""Workers that the kernel kills, and signals to their driver."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from optrial.engine import Choice, Engines
from optrial.errors import StoreError
from optrial.memory import MemoryLimit
from optrial.records import Store
from optrial.rules import Rule
from optrial.spec import Status
from tests.executors.test_executors import Notes, contents, run
from tests.faults.executors import processes_in
from tests.faults.process import patience
from tests.small import small_keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's"),
]


def descend(grad: Tensor, state: Any, step: Any, *, lr: Any) -> Any:
    """Gradient descent, which exhausts the memory of its process if a learning rate is 0.05."""
    if os.environ.get("HUNGRY") and bool((torch.as_tensor(lr) == 0.05).any()):
        if os.environ["HUNGRY"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
        torch.ones(2**33)
    return -lr * grad, state


HUNGRY = Rule(
    name="hungry", init=lambda param, **_: None, update=descend, hyperparameters={"lr": 0.1}
)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("killed", "processes died while they trained this run"),
        ("refused", "can't allocate memory"),
    ],
)
def test_a_run_that_exhausts_memory_is_named_and_the_others_are_recorded(
    way: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the system kills its worker or refuses an allocation."""
    limit = MemoryLimit("this container, memory.max", 10**6, 10**6 - 1000)
    monkeypatch.setattr(Engines, "memory_limit", limit)

    class Begin(Notes):
        def on_plan(self, *_: int, **__: int) -> None:
            monkeypatch.setenv("HUNGRY", way)  # of the workers that start now

    begin = Begin()
    rule = {"rule_factory": "tests.executors.test_endings:HUNGRY", "lr": [0.2, 0.1, 0.05, 0.02]}
    study = {"optimizers": [rule], "engine": "stacked", "compile": "never", "seeds": 1}
    with run(tmp_path, "processes", 2, study=study, callbacks=[begin]) as results:
        records = {record.spec.hyperparameters["lr"]: record for record in results.records}
    guilty = records.pop(0.05)
    assert {record.status for record in records.values()} == {Status.DONE}
    assert guilty.status is Status.ERROR
    assert reason in guilty.reason
    assert "needs about" in guilty.reason
    assert any("continuing with fewer" in text for text in begin.texts)


class Deadly(nn.Module):
    """Kills its process in a training step while a file names a number of deaths."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        file = Path(os.environ.get("DEADLY", "none"))
        if self.training and file.exists() and (left := int(file.read_text())):
            file.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        outputs: Tensor = self.layer(inputs)
        return outputs


@pytest.mark.parametrize(
    ("deaths", "suspected", "width"), [(1, False, 4), (2, False, 2), (1, True, 2)]
)
def test_workers_that_are_killed_before_they_store_anything_lead_to_halves(
    deaths: int, suspected: bool, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a second death, or at once if memory is a likely cause."""
    monkeypatch.setenv("DEADLY", str(tmp_path / "deaths"))
    monkeypatch.setattr(
        Engines, "choose", lambda self, runs: [Choice("stacked", (tuple(runs),), 0.0)]
    )
    if suspected:
        limit = MemoryLimit("this container, memory.max", 10**6, 10**6 - 1000)
        monkeypatch.setattr(Engines, "memory_limit", limit)

    class Begin(Notes):
        def on_plan(self, *_: int, **__: int) -> None:
            (tmp_path / "deaths").write_text(str(deaths))

    begin = Begin()
    problem = {
        "dataset": {"name": "moons", "n_samples": 100},
        "model": {"factory": "tests.executors.test_endings:Deadly"},
    }
    study = {
        **{"problem": problem, "engine": "stacked", "compile": "never", "seeds": 4},
        "optimizers": [{"rule": "sgd", "lr": 0.1}],
    }
    with run(tmp_path / "out", "processes", 1, study=study, callbacks=[begin]) as results:
        records = results.records
    assert {record.status for record in records} == {Status.DONE}
    assert {record.facts.stack_width for record in records} == {width}
    notes = "\n".join(begin.texts)
    assert "a worker process (killed by SIGKILL) died while it trained 4 runs" in notes
    assert ("continuing with fewer at a time" in notes) == (width == 2)


SLOW = """
import subprocess
import time
from pathlib import Path

from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs):
        if self.training:
            time.sleep(0.002)
            if Path("hang").exists():
                child = subprocess.Popen(["sleep", "1000"])
                Path("hangs").touch()
                child.wait()
        return self.layer(inputs)
"""


def wait_until(happened: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + patience(100)
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_stored_steps(folder: Path) -> bool:
    try:
        with Store.open(folder) as store:
            return any(record.step for record in store.runs())
    except StoreError:
        return False


def run_command(folder: Path, out: str, executor: str) -> subprocess.Popen[str]:
    options = ["--out", out, "--executor", executor]
    jobs = [] if executor == "local" else ["-j", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "optrial", "run", "study.yaml", *options, *jobs],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def all_end(folder: Path) -> bool:
    """Wait until no process has a working folder, for a while."""
    deadline = time.monotonic() + patience(30)
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes_in(folder)


def write_slow_study(folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    keys = small_keys(
        problem={"dataset": "moons", "model": {"factory": "slow:Net"}},
        budget={"steps": 500},
        evaluate={"every": {"steps": 50}},
        seeds=3,
        engine="reference",
    )
    with (folder / "study.yaml").open("w") as file:
        YAML().dump(keys, file)


def end(folder: Path, out: str) -> dict[Any, Any]:
    """Run the slow study in a folder to its end."""
    process = run_command(folder, out, "local")
    _, err = process.communicate(timeout=patience(100))
    assert process.returncode == 0, err
    return contents(folder / out)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_slow_study(folder)
    return end(folder, "whole")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("executor", "number", "times"),
    [
        ("local", signal.SIGINT, 2),
        ("processes", signal.SIGINT, 1),
        ("processes", signal.SIGTERM, 1),
        ("processes", signal.SIGINT, 2),
        ("processes", signal.SIGTERM, 2),
        ("ray", signal.SIGINT, 1),
        ("ray", signal.SIGTERM, 1),
        ("ray", signal.SIGINT, 2),
        ("ray", signal.SIGTERM, 2),
    ],
)
def test_signals_end_the_workers_and_lose_nothing(
    executor: str,
    number: signal.Signals,
    times: int,
    undisturbed: dict[Any, Any],
    tmp_path: Path,
) -> None:
    """The first stores a checkpoint; a second one ends what hangs at once, with its children."""
    if executor == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    folder = tmp_path.resolve()
    write_slow_study(folder)
    process = run_command(folder, "parts", executor)
    wait_until(lambda: has_stored_steps(folder / "parts"), process)
    if times == 2:
        (folder / "hang").touch()
        wait_until((folder / "hangs").exists, process)
        process.send_signal(number)
        time.sleep(1)
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=patience(100))
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert all_end(folder)
    (folder / "hang").unlink(missing_ok=True)
    with Store.open(folder / "parts") as store:
        records = store.runs()
    assert {record.status for record in records} <= {*Status} - {Status.ERROR}
    assert any(0 < record.step < 500 for record in records)
    assert end(folder, "parts") == undisturbed
