"""Several processes train a study on a server, and nothing is lost, whatever ends one of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from optrial.callbacks import Callback
from optrial.errors import StoreBusyError
from optrial.records import Store, upgrade
from optrial.spec import FINAL
from optrial.study import Study
from tests.conftest import Command
from tests.faults.server import Server, started
from tests.records.connections import transaction
from tests.records.proxy import Proxy
from tests.small import small_keys

STUDY = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 400},
        "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    },
    "budget": {"steps": 60},
    "evaluate": {"every": {"steps": 7}},
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
    "engine": "reference",
}
LONG = STUDY | {
    "budget": {"steps": 300},
    "seeds": 1,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": 0.1}],
}
SHORT = {"heartbeat_interval": 0.3, "grace_period": 2.0}
PATIENT = {"heartbeat_interval": 0.5, "grace_period": 20.0}  # on a busy machine too

# A worker that says what it has claimed, and waits for a line before it goes on after some steps.
WORKER = """
import json, os, sys
from functools import partial
from optrial.callbacks import Callback
from optrial.records import Store
from optrial.study import Study

say = partial(print, file=os.fdopen(os.dup(1), "w"), flush=True)  # past what collects output

location, parallel, pause_after = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
claim = Store.claim

def claimed(self, stacks, statuses):
    answer = claim(self, stacks, statuses)
    if answer is not None:
        say("claimed", answer.stack)
    return answer

Store.claim = claimed

class Telling(Callback):
    steps = 0
    def on_step(self, count):
        self.steps += count
        if 0 < pause_after <= self.steps:
            self.steps = -10**9
            say("paused")
            sys.stdin.readline()
    def on_message(self, text):
        say("message", text)

study = Study.from_store(location)
results = study.run(location, checkpoint_seconds=0.05, callbacks=[Telling()], parallel=parallel)
say("ended", len(results.records))
results.close()
"""


class Worker:
    """A process that trains parts of a study."""

    def __init__(
        self, location: str, pause_after: int = 0, times: Mapping[str, float] = PATIENT
    ) -> None:
        arguments = [location, json.dumps(times), str(pause_after)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def wait_for(self, word: str) -> str:
        """Return the next line that begins with a word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith(word):
                return line.strip()
        assert self.process.stderr is not None
        raise AssertionError((word, self.lines, self.process.stderr.read()))

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for the end; return the exit status."""
        out, err = self.process.communicate(timeout=250)
        self.lines += out.splitlines()
        self.lines += [f"stderr {line}" for line in err.splitlines()]
        return self.process.returncode

    @property
    def stacks(self) -> list[str]:
        return [line.split()[1] for line in self.lines if line.startswith("claimed")]


@contextmanager
def workers(*made: Worker) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in made:
            worker.process.kill()
            worker.process.communicate()


@pytest.fixture(autouse=True)
def _one_stack_per_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def planned(location: str, study: dict[str, Any]) -> None:
    """Store the plan of a study without training it."""

    class Stopping(Callback):
        def on_plan(self, *_: int) -> None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Study(**small_keys(**study)).run(location, callbacks=[Stopping()])


def contents(location: str | Path) -> dict[str, Any]:
    """Everything about every run that must not depend on who trained it."""
    hashes = ("initial_parameters_sha256", "parameters_sha256", "first_batches_sha256")
    with Store.open(location) as store:
        runs = {
            r.run_id: (
                *(r.status, r.step, r.reason, dict(r.metrics), str(r.stack)),
                *(getattr(r.facts, name) for name in hashes),
            )
            for r in store.runs()
        }
        curves = {
            key: (curve.steps.tobytes(), curve.values.tobytes())
            for key, curve in store.curves().items()
        }
    return runs | curves


def undisturbed(study: dict[str, Any], folder: Path) -> dict[str, Any]:
    Study(**small_keys(**study)).run(folder).close()
    return contents(folder)


@pytest.mark.slow
def test_workers_share_a_study(postgresql: str, tmp_path: Path) -> None:
    planned(postgresql, STUDY)
    both = [Worker(postgresql), Worker(postgresql)]
    with workers(*both):
        assert [worker.end() for worker in both] == [0, 0], [w.lines for w in both]
    stacks = [stack for worker in both for stack in worker.stacks]
    assert len(stacks) == len(set(stacks)) == 8
    assert contents(postgresql) == undisturbed(STUDY, tmp_path)


@pytest.mark.timeout(300)
def test_a_planned_study_is_joined_while_another_process_plans(postgresql: str) -> None:
    planned(postgresql, STUDY)
    with Store.open(postgresql) as store, store.share(), store.planning():
        study = Study(**small_keys(**STUDY))
        with study.run(postgresql, parallel=PATIENT) as results:
            assert all(record.status in FINAL for record in results.records)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(postgresql: str, tmp_path: Path) -> None:
    planned(postgresql, LONG)
    victim = Worker(postgresql, pause_after=150, times=SHORT)
    with workers(victim):
        victim.wait_for("paused")
        victim.process.send_signal(signal.SIGKILL)
        other = Worker(postgresql, times=SHORT)
        with workers(other):
            assert other.end() == 0, other.lines
    assert Counter(other.stacks).most_common(1)[0][1] == 1
    assert victim.stacks[-1] in other.stacks
    assert contents(postgresql) == undisturbed(LONG, tmp_path)


@pytest.mark.slow
def test_a_paused_worker_cannot_write(postgresql: str, tmp_path: Path) -> None:
    """A worker is stopped beyond its lease while another one takes its stack over."""
    planned(postgresql, LONG)
    late = Worker(postgresql, pause_after=150, times=SHORT)
    with workers(late):
        late.wait_for("paused")
        late.process.send_signal(signal.SIGSTOP)
        time.sleep(SHORT["grace_period"] + 0.5)
        other = Worker(postgresql, times=SHORT)
        with workers(other):
            while late.stacks[-1] not in other.stacks:
                other.wait_for("claimed")
            late.process.send_signal(signal.SIGCONT)
            late.go_on()
            assert [late.end(), other.end()] == [0, 0], [late.lines, other.lines]
    lost = f"has taken over the stack {late.stacks[0]}"
    assert any(lost in line for line in late.lines if line.startswith("message")), late.lines
    assert contents(postgresql) == undisturbed(LONG, tmp_path)


@pytest.mark.slow
def test_interrupted_workers_return_their_stacks(postgresql: str) -> None:
    planned(postgresql, LONG)
    worker = Worker(postgresql, pause_after=150)
    with workers(worker):
        worker.wait_for("paused")
        worker.process.send_signal(signal.SIGINT)
        worker.go_on()
        assert worker.end() == 0, worker.lines
    with Store.open(postgresql) as store, store.share():
        stacks = list({run.stack for run in store.runs()})
        statuses = {str(run.status) for run in store.runs()}
        claims = [store.claim(stacks, ["planned", "interrupted"]) for _ in stacks]
    assert statuses >= {"interrupted", "planned"}
    assert sum(claim is not None for claim in claims) == len(stacks)
    assert {claim.deaths for claim in claims if claim} == {0}


@pytest.mark.slow
def test_the_network_is_cut(postgresql: str, tmp_path: Path) -> None:
    """Connections are ended again and again; for a moment, nothing passes at all."""
    planned(postgresql, LONG)
    with Proxy(postgresql) as proxy:
        both = [Worker(proxy.url), Worker(postgresql)]
        with workers(*both):
            both[0].wait_for("claimed")
            for _ in range(10):
                time.sleep(0.3)
                proxy.end_connections()
            proxy.cut()
            time.sleep(1)
            proxy.mend()
            assert [worker.end() for worker in both] == [0, 0], [w.lines for w in both]
    assert contents(postgresql) == undisturbed(LONG, tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="workers-"))  # which the user of the server can reach
    with started(folder) as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed")
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_one_is_killed_and_the_server_is_restarted(server: Server, tmp_path: Path) -> None:
    location = server.schema()
    planned(location, LONG)
    victim, other = Worker(location, pause_after=400), Worker(location)
    with workers(victim, other):
        victim.wait_for("paused")
        other.wait_for("claimed")
        server.restart()
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        time.sleep(0.5)
        server.restart()
        third = Worker(location)
        with workers(third):
            assert [other.end(), third.end()] == [0, 0], [other.lines, third.lines]
    claims = Counter(stack for w in (victim, other, third) for stack in w.stacks)
    assert sum(count - 1 for count in claims.values()) <= 1  # that of the victim
    assert contents(location) == undisturbed(LONG, tmp_path)


@pytest.mark.slow
def test_waves_of_a_tuning_are_planned_by_one_of_them(postgresql: str, tmp_path: Path) -> None:
    study = STUDY | {
        "tune": {"select": "validation_loss", "seeds": 2},
        "optimizers": [{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": [0.01, 1e30]}],
    }
    planned(postgresql, study)
    three = [Worker(postgresql) for _ in range(3)]
    with workers(*three):
        assert [worker.end() for worker in three] == [0] * 3, [w.lines for w in three]
    stacks = [stack for worker in three for stack in worker.stacks]
    assert len(stacks) == len(set(stacks))
    whole = undisturbed(study, tmp_path)
    assert contents(postgresql) == whole
    with Store.open(postgresql) as shared, Store.open(tmp_path) as alone:
        assert [len(s) for s, _ in shared.plans()] == [len(s) for s, _ in alone.plans()]


@pytest.mark.slow
def test_two_runs_of_one_study_cooperate(postgresql: str, tmp_path: Path) -> None:
    """What another process trains counts for the progress of this one."""
    ended: list[str] = []

    class Counting(Callback):
        def on_run_end(self, run_id: str, status: object, steps_left: int) -> None:
            ended.append(run_id)

    planned(postgresql, LONG)
    other = Worker(postgresql)
    with workers(other):
        other.wait_for("claimed")
        study = Study(**small_keys(**LONG))
        study.run(postgresql, callbacks=[Counting()], parallel=PATIENT).close()
        assert other.end() == 0, other.lines
    assert other.stacks
    assert len(ended) == len(set(ended))
    assert len(ended) in (2, 3)  # the other one may end a run before this one begins
    assert contents(postgresql) == undisturbed(LONG, tmp_path)


@pytest.mark.slow
def test_a_changed_study_waits_for_the_workers(postgresql: str) -> None:
    planned(postgresql, LONG)
    worker = Worker(postgresql, pause_after=100)
    with workers(worker):
        worker.wait_for("paused")
        with pytest.raises(StoreBusyError, match="other processes are training another study"):
            Study(**small_keys(**LONG, batch_size=16)).run(postgresql)
        with transaction(postgresql, writing=True) as connection:
            connection.execute(sql.text("update meta set value = '4' where key = 'version'"))
        with pytest.raises(StoreBusyError):
            upgrade(postgresql)


@pytest.mark.parametrize("change", ["code", "data"])
def test_a_machine_with_other_code_or_data_is_refused(
    postgresql: str, tmp_path: Path, optrial: Command, change: str
) -> None:
    Path("data.csv").write_text("x,y,label\n" + "1,2,0\n2,1,1\n3,2,0\n1,4,1\n" * 20)
    Path("mine.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(2, 2)\n")
    Path("study.yaml").write_text(
        "name: shared\nbudget: {steps: 5}\nbatch_size: 4\n"
        "problem: {dataset: {name: data.csv, target: label}, model: 'mine:net'}\n"
        "optimizers: [{rule: sgd, lr: 0.1}]\n"
    )
    assert optrial("run", "study.yaml", "--out", postgresql, "--quiet").status == 0
    assert optrial("worker", postgresql, "--quiet").status == 0
    if change == "data":
        Path("data.csv").write_text("x,y,label\n" + "1,2,0\n2,1,1\n3,2,0\n1,5,1\n" * 20)
    else:
        Path("mine.py").write_text(
            "import torch\ndef net():\n    return torch.nn.Linear(2, 2, 0)\n"
        )
        sys.modules.pop("mine", None)
    answer = optrial("worker", postgresql)
    assert answer.status == 2
    assert "this machine would train other runs than those planned there" in answer.err
    assert change in answer.err


def test_a_worker_needs_a_server_with_a_study(
    postgresql: str, tmp_path: Path, optrial: Command
) -> None:
    answer = optrial("worker", tmp_path)
    assert answer.status == 2
    assert "is a folder, into which one process trains" in answer.err
    answer = optrial("worker", postgresql)
    assert answer.status == 2
    assert "no study is stored" in answer.err
    with ExitStack() as stack:
        stack.enter_context(Store.open(postgresql, create=True))
        answer = optrial("worker", postgresql)
    assert answer.status == 2
    assert "no study is planned yet" in answer.err


def test_the_worker_command(postgresql: str, optrial: Command) -> None:
    planned(postgresql, STUDY)
    answer = optrial("worker", "--storage", postgresql)
    assert answer.status == 0, answer.err
    assert "8 runs (6 done, 2 diverged)" in answer.err
    assert os.environ.get("PGPASSWORD", "none") not in answer.err
