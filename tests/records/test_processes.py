"""What other processes see of a store, and what a killed one leaves behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sql

from optrial.errors import StoreBusyError
from optrial.records import Store
from tests.records.connections import transaction
from tests.records.samples import curve, planned, segment
from tests.specs import STACK

# Commits without end: the value of step s is s, and so is the checkpoint.
WRITER = """
import sys
import numpy as np
from optrial.records import Store
from tests.records.connections import transaction
from tests.records.samples import curve, planned, segment
from tests.specs import STACK

with Store.open(sys.argv[1], create=True) as store, store.lock():
    store.save_plan("one", {}, [planned("a"), planned("b")])
    step = store.runs()[0].step
    while True:
        step += 1
        part = {"loss": curve(step, [step])}
        state = {"step": np.array(step), "weight": np.full(20_000, float(step))}
        store.commit([segment(name, step, curves=part) for name in "ab"], STACK, state)
        print("committed", flush=True)
"""

HOLDER = """
import sys
from optrial.records import Store

with Store.open(sys.argv[1], create=True) as store, store.lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(script: str, location: str) -> Iterator[subprocess.Popen]:
    """Run `script` until the end of the block, at the latest; it has printed one line by then."""
    with subprocess.Popen(
        [sys.executable, "-c", script, location],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as child:
        try:
            assert child.stdout.readline()
            yield child
        finally:
            child.kill()


@contextmanager
def lock_soon(store: Store) -> Iterator[None]:
    """Take the lock; a PostgreSQL server needs a moment to notice that a client was killed."""
    for _ in range(100):
        try:
            with store.lock():
                yield
                return
        except StoreBusyError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its process")


def test_a_killed_writer_leaves_a_consistent_store(location: str) -> None:
    step = 0
    for milliseconds in (0, 30, 77):
        with process(WRITER, location) as writer:
            time.sleep(milliseconds / 1000)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        with Store.open(location) as store, lock_soon(store):
            before, step = step, store.runs()[0].step
            assert step > before
            assert [record.step for record in store.runs()] == [step, step]
            for curve in store.curves("loss").values():
                assert curve.steps.tolist() == list(range(1, step + 1))
                assert curve.values.tolist() == curve.steps.tolist()
            state = store.checkpoint(STACK)
            assert state["step"] == step
            np.testing.assert_array_equal(state["weight"], np.full(20_000, float(step)))
    if "://" not in location:
        with sqlite3.connect(Path(location, "study.db")) as connection:
            assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_second_writer_learns_who_the_first_is(location: str) -> None:
    with process(HOLDER, location) as holder, Store.open(location) as store:
        name = f"process {holder.pid} on {os.uname().nodename} is training into it"
        with pytest.raises(StoreBusyError, match=name), store.lock():
            pytest.fail("two writers")
        holder.stdin.close()
        assert holder.wait() == 0
        with store.lock():
            pass


def test_a_killed_process_leaves_no_lock(location: str) -> None:
    with process(HOLDER, location) as holder, Store.open(location) as store:
        holder.kill()
        holder.wait()
        with lock_soon(store):
            pass


def test_the_lock_is_released_when_the_block_fails(store: Store, location: str) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with Store.open(location) as other, other.lock(), pytest.raises(StoreBusyError), store.lock():
        pytest.fail("two writers in one process")


def test_others_read_while_one_writes(location: str) -> None:
    with process(WRITER, location), Store.open(location) as store:
        seen = []
        for _ in range(20):
            curve = store.curve("a", "loss")
            assert curve.steps.tolist() == list(range(1, len(curve) + 1))
            seen.append(store.runs()[0].step)
            assert seen[-1] >= len(curve)
            time.sleep(0.01)
        assert seen == sorted(seen)
        assert seen[-1] > seen[0]


def test_a_reader_delays_no_writer(store: Store, location: str) -> None:
    store.save_plan("one", {}, [planned("a")])
    with transaction(location) as connection:
        assert connection.scalar(sql.text("select count(*) from runs")) == 1
        with store.lock():
            store.commit([segment("a", 1, curves={"loss": curve(1, [1.0])})], STACK, {})
    assert store.runs()[0].step == 1


def test_a_lost_connection_is_made_again(postgresql: str) -> None:
    with Store.open(postgresql, create=True) as store, Store.open(postgresql) as other:
        with store.lock():
            store.save_plan("one", {}, [planned("a")])
            name = sql.make_url(postgresql).query["application_name"]
            end = sql.text(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = :name and pid <> pg_backend_pid()"
            )
            with transaction(postgresql) as connection:
                assert len(connection.execute(end, {"name": name}).all()) >= 1
            store.commit([segment("a", 1)], STACK, None)
        assert other.runs()[0].step == 1


def test_runs_that_ended_survive_the_loss_of_the_write_ahead_log(tmp_path: Path) -> None:
    script = """
import os, sys
from optrial.records import Store
from optrial.spec import Status
from tests.records.samples import curve, planned, segment
from tests.specs import STACK

store = Store.open(sys.argv[1], create=True)
store.save_plan("one", {}, [planned("a"), planned("b")])
store.commit([segment("a", 1, Status.DONE, curves={"loss": curve(1, [0.5])})], STACK, None)
os._exit(0)
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=root)
    for ending in ("-wal", "-shm"):
        (tmp_path / f"study.db{ending}").unlink()
    with Store.open(tmp_path) as store:
        assert [record.status for record in store.runs()] == ["done", "planned"]
        assert store.curve("a", "loss").values.tolist() == [0.5]
