"""Sweeps end with the same records, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from optrial.callbacks import Callback
from optrial.errors import StoreBusyError, StoreError
from optrial.records import Store
from optrial.report.progress import ProgressBar
from optrial.results import Results, load
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys

pytestmark = pytest.mark.usefixtures("one_stack")

STEPS = 28
DROPOUT = {"kind": "mlp", "hidden": [8], "dropout": 0.2}
MIXED = {
    "problem": {"dataset": {"name": "moons", "n_samples": 500}, "model": DROPOUT},
    "budget": {"steps": STEPS},
    "evaluate": {"every": {"steps": 7}},
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
}


class Hook(Callback):
    """Calls `act` after a number of steps."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self.left = after
        self.act = act

    def on_step(self, count: int) -> None:
        self.left -= count
        if self.left <= 0 < self.left + count:
            self.act()


def run(folder: Path, **options: Any) -> Results:
    changes = options.pop("study", MIXED)
    return Study(**small_keys(**changes)).run(folder, checkpoint_seconds=0, **options)


def contents(folder: Path) -> dict[str, Any]:
    """Everything about every run that must not depend on when it was interrupted."""
    hashes = ("initial_parameters_sha256", "parameters_sha256", "first_batches_sha256")
    with Store.open(folder) as store:
        runs = {
            record.run_id: (
                record.status,
                record.step,
                record.reason,
                dict(record.metrics),
                *(getattr(record.facts, name) for name in hashes),
            )
            for record in store.runs()
        }
        curves = {
            key: (curve.steps.tobytes(), curve.values.tobytes())
            for key, curve in store.curves().items()
        }
    return runs | curves


def test_every_run_is_recorded(tmp_path: Path) -> None:
    with run(tmp_path) as results:
        statuses = [record.status for record in results.records]
    assert statuses == [Status.DONE] * 6 + [Status.DIVERGED] * 2


def test_stacks_of_a_folder_follow_each_other_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(_: float) -> None:
        pytest.fail("waits for other processes, which a folder has not")

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr("optrial.sweep.driver.time", clock)
    with run(tmp_path, study=MIXED | {"engine": "reference"}) as results:
        assert len({record.stack for record in results.records}) > 1


def test_a_diverged_run_has_a_step_and_no_metrics(tmp_path: Path) -> None:
    with run(tmp_path) as results:
        diverged = [record for record in results.records if record.status is Status.DIVERGED]
    for record in diverged:
        assert 0 < record.step < STEPS
        assert f"step {record.step}" in record.reason
        assert set(record.metrics.values()) == {None}


def test_what_is_recorded_is_not_trained_again(tmp_path: Path) -> None:
    run(tmp_path).store.close()
    before = contents(tmp_path)
    with run(tmp_path, callbacks=[Hook(1, lambda: pytest.fail("a step was taken"))]):
        assert contents(tmp_path) == before


def test_more_seeds_keep_what_is_there(tmp_path: Path) -> None:
    run(tmp_path).store.close()
    before = contents(tmp_path)
    run(tmp_path, study=MIXED | {"seeds": 3}).store.close()
    after = contents(tmp_path)
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_a_stack_is_interrupted_and_continued_as_one(tmp_path: Path) -> None:
    study = MIXED | {"engine": "stacked"}
    run(tmp_path / "whole", study=study).store.close()
    interrupt = Hook(100, lambda: os.kill(os.getpid(), signal.SIGINT))
    with run(tmp_path / "parts", study=study, callbacks=[interrupt]) as results:
        states = {(str(record.status), record.step < STEPS) for record in results.records}
    assert states == {("interrupted", True), ("diverged", True)}
    run(tmp_path / "parts", study=study).store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


HOOKS = ("on_prepare", "on_start", "on_plan", "on_step", "on_run_end", "on_end")


def failing(hook: str) -> Callback:
    """Return a callback with a hook that raises an error."""

    def fail(*_: object, **__: object) -> None:
        raise LookupError(hook)

    return type("Failing", (Callback,), {hook: fail})()


@pytest.fixture(scope="module", params=["reference", "stacked"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_stack: None
) -> Path:
    """The study by each engine, trained without interruption."""
    folder = tmp_path_factory.mktemp(request.param)
    run(folder, study=MIXED | {"engine": request.param}).close()
    return folder


@pytest.mark.one_in(11)
@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_of_a_hook_stops_the_study_and_is_not_one_of_a_run(
    whole: Path, hook: str, tmp_path: Path
) -> None:
    with load(whole) as results:
        study = MIXED | {"engine": results.study["engine"]}
    with pytest.raises(LookupError, match=hook):
        run(tmp_path, study=study, callbacks=[failing(hook)])
    with Store.open(tmp_path, create=True) as store:
        records = store.runs()
    assert "error" not in {record.status for record in records}
    begun = [record for record in records if record.step]
    assert bool(begun) == (hook in ("on_step", "on_run_end", "on_end"))
    run(tmp_path, study=study).close()
    assert contents(tmp_path) == contents(whole)


def test_an_error_of_on_message_stops_the_study(tmp_path: Path) -> None:
    study = MIXED | {"optimizers": [{"torch": "tests.user_optimizers:Generated"}]}
    with pytest.raises(LookupError, match="on_message"):
        run(tmp_path, study=study, callbacks=[failing("on_message")])
    with Store.open(tmp_path) as store:
        assert {record.status for record in store.runs()} == {"planned"}


@pytest.mark.slow
def test_new_seeds_leave_the_stacks_of_old_ones_alone(tmp_path: Path) -> None:
    study = MIXED | {"engine": "stacked"}
    run(tmp_path, study=study).store.close()
    before = contents(tmp_path)
    with run(tmp_path, study=study | {"seeds": 3}) as results:
        stacks = {record.stack for record in results.records}
    assert len(stacks) == 2
    assert {key: value for key, value in contents(tmp_path).items() if key in before} == before


@pytest.mark.slow
def test_runs_that_left_the_plan_go_on_with_their_stack_unseen(tmp_path: Path) -> None:
    """A stack is trained as it began; of what the study no longer names, nothing is shown."""
    study = MIXED | {"engine": "stacked"}
    interrupt = Hook(60, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path / "parts", study=study, callbacks=[interrupt]).store.close()
    fewer = study | {"optimizers": [{"rule": "adam", "lr": 0.001}]}
    bar = ProgressBar(Console(quiet=True))
    with run(tmp_path / "parts", study=fewer, callbacks=[bar]) as results:
        assert [record.status for record in results.records] == [Status.DONE] * 2
    assert bar.unfinished == 0
    run(tmp_path / "whole", study=study).store.close()
    whole = contents(tmp_path / "whole")
    kept = contents(tmp_path / "parts")
    assert {key: whole[key] for key in kept} == kept


def test_one_signal_stops_cleanly_and_running_again_continues(tmp_path: Path) -> None:
    run(tmp_path / "whole").store.close()
    interrupt = Hook(STEPS + 20, lambda: os.kill(os.getpid(), signal.SIGINT))
    with run(tmp_path / "parts", callbacks=[interrupt]) as results:
        statuses = [record.status for record in results.records]
        steps = [record.step for record in results.records]
    assert statuses[:3] == [Status.DONE, Status.INTERRUPTED, Status.PLANNED]
    assert steps[:3] == [STEPS, 21, 0]  # it is asked every seven steps, at each evaluation
    run(tmp_path / "parts").store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_signal_interrupts_at_once_while_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optrial.engine import Engines

    def choose(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on choosing")

    monkeypatch.setattr(Engines, "choose", choose)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)


def test_a_failing_run_is_a_status_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optrial.engine.backends.reference import ReferenceEngine

    run(tmp_path / "whole").store.close()
    step = ReferenceEngine.step

    def fragile(self: ReferenceEngine, batch: Any, number: int) -> tuple[float, int]:
        if self.spec.rule == "adam" and number == 20:
            raise MemoryError("no room")
        return step(self, batch, number)

    monkeypatch.setattr(ReferenceEngine, "step", fragile)
    with run(tmp_path / "parts") as results:
        first, last = results.records[0], results.records[-1]
    assert first.status is Status.ERROR
    assert first.reason.endswith("(MemoryError: no room)")
    assert last.status is Status.DIVERGED
    monkeypatch.undo()
    run(tmp_path / "parts").store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_runs_that_do_not_fit_on_a_gpu_have_one_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's message tells the state of the GPU, too, which differs from run to run."""
    from optrial.engine.backends.reference import ReferenceEngine

    free = iter(range(1000))

    def full(self: ReferenceEngine, batch: Any, number: int) -> tuple[float, int]:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 70.00 MiB. GPU 0 has a total capacity of "
            f"79.18 GiB of which {next(free)} MiB is free. Process 497 has 712.00 MiB in use."
        )

    monkeypatch.setattr(ReferenceEngine, "step", full)
    with run(tmp_path) as results:
        reasons = {record.reason for record in results.records}
    ending = "(OutOfMemoryError: CUDA out of memory. Tried to allocate 70.00 MiB.)"
    assert all(reason.endswith(ending) for reason in reasons)


def test_a_second_writer_is_told_so(tmp_path: Path) -> None:
    release, entered = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        release.wait(30)

    def train_and_close() -> None:
        run(tmp_path, callbacks=[Hook(5, wait)]).store.close()

    first = threading.Thread(target=train_and_close)
    first.start()
    try:
        assert entered.wait(30)
        with pytest.raises(StoreBusyError, match=str(os.getpid())):
            run(tmp_path)
        with load(tmp_path) as results:  # reading is allowed meanwhile
            assert len(results.records) == 8
    finally:
        release.set()
        first.join()


def test_restart_refuses_a_server() -> None:
    with pytest.raises(StoreError, match="another database"):
        Study(**small_keys()).run("postgresql://user@127.0.0.1:1/nowhere", restart=True)


def test_postgresql_gives_the_same_records(tmp_path: Path) -> None:
    server = os.environ.get("OPTRIAL_TEST_POSTGRESQL")
    if not server:
        pytest.skip("OPTRIAL_TEST_POSTGRESQL is not set: no PostgreSQL server to test with")
    import sqlalchemy as sql

    url = sql.make_url(server).set(drivername="postgresql+psycopg")
    schema = f"sweep_{os.getpid()}"
    engine = sql.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sql.schema.CreateSchema(schema))
    location = f"{server}?options=-csearch_path%3D{schema}"
    try:
        interrupt = Hook(STEPS + 20, lambda: os.kill(os.getpid(), signal.SIGINT))
        run(location, callbacks=[interrupt]).store.close()  # type: ignore[arg-type]
        run(location).store.close()  # type: ignore[arg-type]
        run(tmp_path).store.close()
        assert contents(location) == contents(tmp_path)  # type: ignore[arg-type]
    finally:
        with engine.begin() as connection:
            connection.execute(sql.schema.DropSchema(schema, cascade=True))
        engine.dispose()


KILLS = 5  # of each of three kinds

# Imports once and forks for each attempt, so that many attempts take seconds. The kernel ends an
# attempt, wherever it is, a time after it took a number of steps: on a busy machine too.
VICTIM = """
import json, os, signal, sys
from optrial.study import Study
from optrial.callbacks import Callback

class Doomed(Callback):
    def __init__(self, steps, seconds):
        self.left, self.seconds = steps, seconds
        self.on_step(0)

    def on_step(self, count):
        self.left -= count
        if self.left <= 0 and self.seconds:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
            self.seconds = 0

keys, folder = json.loads(sys.argv[1]), sys.argv[2]
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        steps, seconds = json.loads(line)
        Study(**keys).run(folder, checkpoint_seconds=0, callbacks=[Doomed(steps, seconds)])
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def killed_again_and_again(
    study: dict[str, Any], folder: Path, moments: Iterable[tuple[int, float]]
) -> int:
    """Run a study in processes that are killed, until one is not; return how many were.

    Args:
        study: changes of the small study.
        folder: where it is stored.
        moments: of each kill, the steps that the process takes before, and the seconds from then.
    """
    killed, arguments = 0, [json.dumps(small_keys(**study)), str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None
        for moment in moments:
            print(json.dumps(moment), file=victim.stdin)
            status = int(victim.stdout.readline())
            if status == 0:
                break
            assert status == signal.SIGALRM
            killed += 1
        victim.stdin.close()
    return killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "rng"), [("reference", "streams"), ("reference", "script"), ("stacked", "streams")]
)
def test_killed_at_random_moments(tmp_path: Path, engine: str, rng: str) -> None:
    """Killed again and again, then to the end: records equal those of an undisturbed study."""
    study = MIXED | {"engine": engine, "rng": rng, "budget": {"steps": 200}}
    run(tmp_path / "whole", study=study).store.close()
    chance = random.Random(engine + rng)
    before_training = [(0, chance.uniform(0.001, 0.2))]  # two might both hit the choice
    training = [(chance.randint(1, 80), chance.uniform(1e-6, 0.02)) for _ in range(KILLS - 1)]
    killed = killed_again_and_again(study, tmp_path / "parts", before_training + training)
    assert killed >= KILLS // 2, "the study ended too early to be killed: make it longer"
    run(tmp_path / "parts", study=study).store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_recorded_values_are_finite_numbers(tmp_path: Path) -> None:
    with run(tmp_path) as results:
        curves = results.curves()
        runs = results.runs()
    assert np.isfinite(curves["value"]).all()
    assert runs.loc[runs["status"] == "diverged", "test_accuracy"].isna().all()
    assert runs.loc[runs["status"] == "done", "test_accuracy"].notna().all()
