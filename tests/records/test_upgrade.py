"""Stores of older versions are upgraded: nothing is lost, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from optrial.callbacks import Callback
from optrial.errors import StoreBusyError, StoreError
from optrial.records import Store, upgrade, verify
from optrial.records.database import find_database, folder_lock
from optrial.results import load
from optrial.spec import Status
from optrial.study import Study
from tests.conftest import Command
from tests.records.stores.make import KEYS

STORES = Path(__file__).parent / "stores"
VERSIONS = ["2", "3"]


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A study's folder with a store that an older optrial wrote."""
    return folder_of(request.param, tmp_path / "old")


def folder_of(version: str, folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(STORES / f"version-{version}.db", folder / "study.db")
    return folder


def expected(folder: Path) -> dict[str, Any]:
    """What the code that wrote the store read in it."""
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        query = "SELECT value FROM meta WHERE key = 'version'"
        (version,) = connection.execute(query).fetchone()
    return json.loads((STORES / f"version-{version}.json").read_text())


def contents(location: str | Path) -> dict[str, Any]:
    with Store.open(location) as store:
        return {
            "study": store.study(),
            "runs": {
                run.run_id: [str(run.status), run.step, run.reason, dict(run.metrics)]
                for run in store.runs()
            },
            "curves": {
                f"{run_id} {metric}": [curve.steps.tolist(), curve.values.tolist()]
                for (run_id, metric), curve in store.curves().items()
            },
        }


def same(one: Any, other: Any) -> bool:
    """Equal values; also those that are not finite."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_everything_is_there_after_an_upgrade(old: Path) -> None:
    before = expected(old)
    note = upgrade(old)
    assert "upgraded from store version" in note
    assert same(contents(old), before)
    with Store.open(old) as store:
        assert [ended for _, ended in store.plans()] == [0, 6]
        statuses = {run.status for run in store.runs(everything=True)}
        assert statuses >= {Status.DONE, Status.DIVERGED, Status.INTERRUPTED}
        assert {run.problem for run in store.runs()} == {"moons"}
        assert all(run.facts.versions for run in store.runs() if run.step)
        stack = next(run.stack for run in store.runs() if run.status is Status.INTERRUPTED)
        assert store.checkpoint(stack)
    assert verify(old).intact
    assert upgrade(old) == ""


def test_the_backup_holds_the_old_store(old: Path) -> None:
    before = (old / "study.db").read_bytes()
    upgrade(old)
    (backup,) = old.glob("backup-*")
    with closing(sqlite3.connect(backup / "study.db")) as copied:
        kept = list(copied.iterdump())
    (old / "copy").mkdir()
    (old / "copy" / "study.db").write_bytes(before)
    with closing(sqlite3.connect(old / "copy" / "study.db")) as original:
        assert kept == list(original.iterdump())


def test_reading_says_how_to_upgrade_and_changes_nothing(old: Path, optrial: Command) -> None:
    before = (old / "study.db").read_bytes()
    for command in ("show", "audit", "runs", "verify"):
        answer = optrial(command, old)
        assert answer.status == 2
        assert f"optrial upgrade '{old}'" in answer.err
        assert answer.err.count("\n") == 1
    assert (old / "study.db").read_bytes() == before
    assert not list(old.glob("backup-*"))


def test_the_command_upgrades(old: Path, optrial: Command) -> None:
    answer = optrial("upgrade", old)
    assert answer.status == 0
    (backup,) = old.glob("backup-*")
    assert str(backup) in answer.err.replace("\n", "")
    assert "up to date" in optrial("upgrade", old).err
    for command in (["show"], ["report"], ["runs"], ["verify"], ["compare"]):
        names = ["adam", "sgd lr=0.1"] * (command == ["compare"])
        assert optrial(*command, old, *names).status == 0, command
    assert optrial("audit", old).status in (0, 1, 2)


def test_a_run_upgrades_and_goes_on(old: Path) -> None:
    before = expected(old)["runs"]
    told: list[str] = []

    class Listening(Callback):
        def on_message(self, text: str) -> None:
            told.append(text)

    with Study(**KEYS, seeds=3).run(old, callbacks=[Listening()]) as results:
        assert {run.status for run in results.records} == {Status.DONE, Status.DIVERGED}
        stored = {run.run_id: run for run in results.store.runs(everything=True)}
    assert any("upgraded from store version" in text for text in told)
    for run_id, (status, step, reason, metrics) in before.items():
        if status in ("done", "diverged"):
            run = stored[run_id]
            assert [str(run.status), run.step, run.reason] == [status, step, reason]
            assert same(dict(run.metrics), metrics)


def test_a_study_that_trains_is_not_upgraded(old: Path) -> None:
    before = (old / "study.db").read_bytes()
    with folder_lock(old) as locked:
        assert locked
        with pytest.raises(StoreBusyError, match="another process"):
            upgrade(old)
    assert (old / "study.db").read_bytes() == before


def test_killed_at_random_moments(old: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(old, whole)
    before = expected(old)
    upgrade(whole)
    chance = random.Random(7)
    killed = 0
    for _ in range(12):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.1))
            with suppress(BaseException):
                upgrade(old)
            os._exit(0)
        chance.random()
        killed += os.waitpid(child, 0)[1] == signal.SIGALRM
    assert killed
    upgrade(old)
    assert same(contents(old), before)
    assert rows(old) == rows(whole)


def rows(folder: Path) -> list[list[Any]]:
    tables = ("plans", "runs", "plan_runs", "curves", "checkpoints", "meta")
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        return [sorted(connection.execute(f"SELECT * FROM {table}")) for table in tables]


def test_without_room_the_old_store_stays(small_disk: Path) -> None:
    folder = folder_of("3", small_disk / "old")
    before = expected(folder)
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 600_000)
    with pytest.raises(StoreError, match="disk is full"):
        upgrade(folder)
    filler.unlink()
    for backup in folder.glob("backup-*"):
        shutil.rmtree(backup)
    upgrade(folder)
    assert same(contents(folder), before)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_is_upgraded_too(
    postgresql: str, version: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = expected(folder_of(version, tmp_path / "old"))
    copy_to_server(tmp_path / "old", postgresql, version)
    with pytest.raises(StoreError, match="optrial upgrade"):
        Store.open(postgresql)
    assert "_backup_" in upgrade(postgresql)
    assert same(contents(postgresql), before)
    assert verify(postgresql).intact
    with Study(**KEYS, seeds=4).run(postgresql) as results:
        assert {run.status for run in results.records} == {Status.DONE, Status.DIVERGED}
    assert "failed" not in caplog.text


def copy_to_server(folder: Path, location: str, version: str) -> None:
    """Make the tables of an older version on a server, with the rows of a file."""
    numbers = {"id": "serial", "saved_at": "timestamp", "step": "bigint"}
    numbers |= {"steps_blob": "bytea", "values_blob": "bytea", "data": "bytea"}
    numbers |= dict.fromkeys(("position", "plan_id", "first_step", "count", "part"), "bigint")
    numbers |= dict.fromkeys(("seed", "steps", "steps_per_epoch"), "bigint")
    database = find_database(location, create=True)
    with (
        closing(sqlite3.connect(folder / "study.db")) as source,
        database.engine.begin() as target,
    ):
        tables = source.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            names = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(f"{name} {numbers.get(name, 'text')}" for name in names)
            target.execute(sql.text(f"CREATE TABLE {table} ({columns})"))
            places = ", ".join(f":{name}" for name in names)
            for row in source.execute(f"SELECT * FROM {table}").fetchall():
                insertion = sql.text(f"INSERT INTO {table} VALUES ({places})")
                target.execute(insertion, dict(zip(names, row, strict=True)))
        target.execute(sql.text("CREATE INDEX plans_by_run ON plan_runs (run_id, plan_id)"))
    database.engine.dispose()


def test_a_store_without_leases_is_upgraded(tmp_path: Path) -> None:
    with Study(**KEYS, seeds=1).run(tmp_path) as results:
        digest = results.store.digest()
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute("DROP TABLE leases")
        connection.execute("DROP INDEX ix_runs_stack")
        connection.execute("UPDATE meta SET value = '4' WHERE key = 'version'")
    with pytest.raises(StoreError, match="optrial upgrade"):
        load(tmp_path)
    upgrade(tmp_path)
    with load(tmp_path) as results:
        assert results.store.digest() == digest
    assert verify(tmp_path).intact
