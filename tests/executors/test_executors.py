"""The numbers of a study do not depend on where, how many at once, or how often it is trained."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from optrial import child
from optrial.callbacks import Callback
from optrial.engine import Engines
from optrial.errors import EngineError, StudyError
from optrial.executors import Arrays, Ended, StackTask, Update, processes, start
from optrial.executors.local import Local
from optrial.memory import MemoryLimit
from optrial.records import Store
from optrial.results import Results
from optrial.spec import StackId, Status
from optrial.study import Study
from optrial.sweep.needs import Needs
from tests.small import small_keys

pytestmark = pytest.mark.usefixtures("one_stack")

KEYS = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 500},
        "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    },
    "budget": {"steps": 60},
    "evaluate": {"every": {"steps": 7}},
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
}
FACTS = (
    *("engine", "threads", "stack_width", "compiled", "products", "device", "implementation"),
    *("initial_parameters_sha256", "parameters_sha256", "weights_sha256", "saved_step"),
    *("first_batches_sha256", "epoch_batches_sha256", "first_masks_sha256"),
    *("timeout", "not_finite", "split_sizes", "scale", "constant_answer"),
)
"""Facts about runs, and not about the process that trains them or the time they take."""


def contents(folder: Path) -> dict[Any, Any]:
    """Everything that a store holds about runs, except times and the order of commits."""
    entries: dict[Any, Any] = {}
    with Store.open(folder) as store:
        for record in store.runs(everything=True):
            facts = [getattr(record.facts, name) for name in FACTS]
            if check := record.facts.evaluation:  # the state of generators is that of a process
                entries[record.run_id, "evaluation"] = (
                    check.changes_buffers,
                    check.uses_generators,
                )
            entries[record.run_id] = (record.stack, record.status, record.step, record.reason)
            entries[record.run_id, "values"] = (dict(record.metrics), facts)
        for key, curve in store.curves().items():
            entries[key] = (curve.steps.tobytes(), curve.values.tobytes())
    return entries


class Notes(Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.steps = 0

    def on_message(self, text: str) -> None:
        self.texts.append(text)

    def on_step(self, count: int) -> None:
        self.steps += count


def run(folder: Path, executor: str = "local", n_jobs: Any = "auto", **options: Any) -> Results:
    study = KEYS | options.pop("study", {})
    parallel = {"executor": executor, "n_jobs": n_jobs, **options.pop("parallel", {})}
    options.setdefault("checkpoint_seconds", 0)
    return Study(**small_keys(**study)).run(folder, parallel=parallel, **options)


@pytest.fixture(scope="module", params=["reference", "stacked"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_stack: None
) -> Path:
    """The study by each engine, trained in this process."""
    folder = tmp_path_factory.mktemp(request.param)
    run(folder, study={"engine": request.param}).close()
    return folder


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "workers", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 4))]
)
def test_processes_store_what_one_process_stores(whole: Path, workers: int, tmp_path: Path) -> None:
    engine = whole.name.rstrip("0123456789")
    run(tmp_path, "processes", workers, study={"engine": engine}).close()
    assert contents(tmp_path) == contents(whole)


def workers_of(driver: int) -> list[int]:
    """The worker processes of a driver."""
    tasks = Path(f"/proc/{driver}/task").glob("*/children")
    children = [int(pid) for task in tasks for pid in task.read_text().split()]
    return [pid for pid in children if b"optrial.executors" in command_of(pid)]


def command_of(pid: int) -> bytes:
    """The command line of a process; empty if it is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def contents_and_weights(folder: Path) -> dict[Any, Any]:
    """Contents of a store, and its weights."""
    weights = {path.name: path.read_bytes() for path in folder.glob("weights/*")}
    return contents(folder) | weights


LONG = {"engine": "stacked", "compile": "never", "budget": {"steps": 3000}, "save": "final"}


class Killer(Callback):
    """Kills a worker after each of some numbers of steps."""

    def __init__(self, moments: list[int]) -> None:
        self.moments, self.steps, self.killed = moments, 0, 0
        self.texts: list[str] = []

    def on_step(self, count: int) -> None:
        self.steps += count
        if self.moments and self.steps > self.moments[0]:
            workers = workers_of(os.getpid())
            if workers:
                self.moments.pop(0)
                self.killed += 1
                os.kill(random.choice(workers), signal.SIGKILL)

    def on_message(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.slow
def test_workers_that_are_killed_change_no_number(tmp_path: Path) -> None:
    batches = {"batch_size": [16, 32]}  # two stacks
    run(tmp_path / "whole", study=LONG | batches, checkpoint_seconds=1).close()
    killer = Killer([500, 5_000, 12_000, 20_000])
    results = run(
        *(tmp_path / "parts", "processes", 2),
        study=LONG | batches,
        callbacks=[killer],
        checkpoint_seconds=0.05,
        parallel={"retries": 10},
    )
    results.close()
    assert killer.killed == 4
    assert sum("a worker process" in text for text in killer.texts) >= 3
    assert contents_and_weights(tmp_path / "parts") == contents_and_weights(tmp_path / "whole")


@pytest.mark.slow
def test_stacks_that_memory_does_not_hold_together_are_trained_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engines, "memory_limit", MemoryLimit("this machine", 3 * 10**9, 0))
    monkeypatch.setattr(Needs, "memory", lambda self, specs: 10**9)
    most = 0

    class Count(Callback):
        def on_step(self, count: int) -> None:
            nonlocal most
            most = max(most, len(workers_of(os.getpid())))

    study = {"batch_size": [16, 32], "engine": "stacked", "compile": "never"}
    run(tmp_path, "processes", 2, study=study, callbacks=[Count()]).close()
    assert most == 1


class Shrinking(processes.Processes):
    """An executor that loses a worker's place as soon as two stacks are trained."""

    submitted = ended = most = 0

    @property
    def slots(self) -> int:
        return 1 if self.submitted - self.ended > 1 else 2

    @slots.setter
    def slots(self, number: int) -> None:
        assert number == 2

    def submit(self, task: StackTask, checkpoint: Arrays | None) -> None:
        super().submit(task, checkpoint)
        Shrinking.submitted += 1
        Shrinking.most = max(self.most, self.submitted - self.ended)

    def updates(self) -> Sequence[tuple[StackId, Update]]:
        updates = super().updates()
        Shrinking.ended += sum(isinstance(update, Ended) for _, update in updates)
        return updates


@pytest.mark.slow
def test_no_stack_is_submitted_beyond_places_that_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optrial.executors.start.Processes", Shrinking)
    run(tmp_path, "processes", 2, study={"engine": "reference"}).close()
    assert Shrinking.submitted == Shrinking.ended == 8
    assert Shrinking.most == 2


class Bad(torch.optim.SGD):
    """Fails in its thirteenth step if its learning rate is 0.5, in a way that momentum chooses."""

    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.calls += 1
        group = self.param_groups[0]
        if self.calls == 13 and group["lr"] == 0.5:
            match group["momentum"]:
                case 0.1:
                    raise LookupError("no luck")
                case 0.2:
                    os._exit(3)
                case 0.3:
                    os.kill(os.getpid(), signal.SIGSEGV)
                case 0.4:
                    time.sleep(60)
                case 0.6:
                    raise MemoryError("no room")


@pytest.mark.slow
def test_bad_runs_have_their_reasons_and_the_others_are_recorded(tmp_path: Path) -> None:
    optimizer = {"torch": "tests.executors.test_executors:Bad", "lr": [0.1, 0.5]}
    kinds = [0.1, 0.2, 0.3, 0.4, 0.6]
    study = {"optimizers": [{**optimizer, "momentum": kinds}], "seeds": 1, "timeout": 15}
    with run(tmp_path, "processes", 2, study=study) as results:
        records = {
            (r.spec.hyperparameters["lr"], r.spec.hyperparameters["momentum"]): r
            for r in results.records
        }
    assert {records[0.1, kind].status for kind in kinds} == {Status.DONE}
    assert {records[0.5, kind].status for kind in kinds} == {Status.ERROR}
    reasons = [records[0.5, kind].reason for kind in kinds]
    assert reasons[0] == "LookupError: no luck"
    assert reasons[1].startswith("2 processes died while they trained this run (exit status 3)")
    assert "(killed by SIGSEGV)" in reasons[2]
    assert reasons[3].startswith("a step took longer than timeout 15 s, after step ")
    assert "MemoryError: no room" in reasons[4]


@pytest.mark.slow
def test_ctrl_c_stops_workers_with_a_checkpoint(tmp_path: Path) -> None:
    class Interrupt(Callback):
        is_done = False

        def on_step(self, count: int) -> None:
            if not self.is_done:
                self.is_done = True
                os.kill(os.getpid(), signal.SIGINT)

    study = LONG | {"save": None}
    with run(tmp_path / "parts", "processes", 2, study=study, callbacks=[Interrupt()]) as results:
        states = {(record.status, 0 < record.step < 3000) for record in results.records}
    assert (Status.INTERRUPTED, True) in states
    assert workers_of(os.getpid()) == []
    run(tmp_path / "parts", study=study, checkpoint_seconds=1).close()
    run(tmp_path / "whole", study=study, checkpoint_seconds=1).close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


PROGRAM = """
import sys

import torch
import optrial

WIDTH = 6


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, WIDTH), torch.nn.Linear(WIDTH, 10)
        )

    def forward(self, inputs):
        return self.layers(inputs)


folder, executor, steps = sys.argv[1:]
results = optrial.compare(
    model=Net, optimizers=["sgd", torch.optim.SGD], seeds=1, steps=int(steps), out=folder,
    metrics=[lambda outputs, targets: (outputs.argmax(1) == targets).float()],
    executor=executor, n_jobs=1,
)
print(*(record.status for record in results.records))
"""


@pytest.mark.slow
def test_code_of_the_main_script_is_trained_by_workers(tmp_path: Path) -> None:
    """Without the usual guard: workers do not import the script."""
    (tmp_path / "script.py").write_text(PROGRAM)
    for executor in ("local", "processes"):
        answer = subprocess.run(
            [sys.executable, "script.py", executor, executor, "30"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.split() == ["done", "done"]
    assert contents(tmp_path / "local") == contents(tmp_path / "processes")


@pytest.mark.slow
def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM)
    command = [sys.executable, "script.py", "out", "processes", "10000000"]
    driver = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"TMPDIR": str(tmp_path)})
    workers: list[int] = []
    deadline = time.monotonic() + 200
    while not workers and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        workers = workers_of(driver.pid)
    driver.kill()
    driver.wait()
    while any(map(command_of, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers
    assert not any(map(command_of, workers))
    assert not list(tmp_path.glob("optrial-*"))


def test_code_that_was_edited_is_refused_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import torch\n\nclass Mine(torch.optim.SGD):\n    number = 1\n"
    Path("edited.py").write_text(code)

    class Edit(Callback):
        def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
            Path("edited.py").write_text(code.replace("1", "2"))

    study = {"optimizers": [{"torch": "edited:Mine", "lr": 0.1}]}
    with pytest.raises(EngineError, match="edited:Mine: a worker imports code that differs"):
        run(tmp_path / "out", "processes", 1, study=study, callbacks=[Edit()])
    monkeypatch.delitem(sys.modules, "edited")


def test_workers_that_cannot_start_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_PROGRAM", "raise SystemExit(7)")
    with pytest.raises(EngineError, match=r"end before they can train \(exit status 7\)"):
        run(tmp_path, "processes", 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"executor": "dask"}, "executor: 'dask' is not one of the choices"),
        ({"n_jobs": 0}, "n_jobs: 0: must be a whole number from 1 to 100,000, or auto"),
        ({"n_jobs": "many"}, "n_jobs: 'many': must be a whole number"),
        ({"executor": "local", "n_jobs": 2}, "n_jobs: 2: executor: local trains one stack"),
        ({"executor": "processes", "address": "auto"}, "address: applies to executor: ray"),
        ({"executor": "ray", "address": "ray://head:10001"}, "address: 'ray://head:10001': must"),
        ({"executor": "ray", "address": "head"}, "address: 'head': must be HOST:PORT"),
        ({"executor": "ray", "address": ""}, "address: '': must be HOST:PORT"),
        ({"executor": "ray", "address": 6379}, "address: 6379: must be"),
        ({"n_jobs": -1}, "n_jobs: -1: must be a whole number from 1 to 100,000, or auto"),
        ({"n_jobs": True}, "n_jobs: True: must be a whole number"),
        ({"n_jobs": 2.0}, "n_jobs: 2.0: must be a whole number"),
        ({"resources": 2}, "resources: 2: must be"),
        ({"resources": {"num_cpus": 0}}, "resources.num_cpus: 0: must be"),
        ({"heartbeat_interval": "10"}, "heartbeat_interval: '10': must be"),
        ({"grace_period": math.inf}, "grace_period: inf: must be"),
        ({"resources": {"num_cpu": 1}}, "resources.num_cpu: unknown key. Did you mean 'num_cpus'"),
        ({"resources": {"num_gpus": -1}}, "resources.num_gpus: -1: must be"),
        ({"retries": -1}, "retries: -1: must be"),
        ({"workers": 2}, "workers: unknown key"),
        ({"grace_period": 1.0}, "grace_period: 1: must be more than heartbeat_interval"),
    ],
)
def test_bad_keys_are_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        Study(**small_keys()).run(tmp_path, parallel=keys)
    assert message in str(error.value)


def test_each_wave_asks_whether_workers_are_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuning may be one stack, and its report several that workers train at once."""
    asked: list[int] = []

    def are_worth(_parallel: Any, _plan: Any, stacks: dict[Any, Any], _engines: Any) -> bool:
        asked.append(sum(map(len, stacks.values())))
        return len(asked) > 1

    def in_place_of_workers(*_: Any) -> Local:
        raise EngineError("workers train the second wave")

    monkeypatch.setattr(start, "_are_worth_workers", are_worth)
    monkeypatch.setattr(start, "Processes", in_place_of_workers)
    with pytest.raises(EngineError, match="workers train the second wave"):
        run(tmp_path / "store", "auto", study={"tune": {"seeds": 1, "extend": False}})
    assert asked == [4, 4]  # two settings of two optimizers, then two seeds of each one's best
