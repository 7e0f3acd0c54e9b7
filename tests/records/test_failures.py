"""Every failure is one line with a cause and a way out, and costs nothing already stored."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql

from optrial.errors import StoreError
from optrial.records import Store
from optrial.records.schema import VERSION
from optrial.records.weights import WeightFiles
from tests.records.connections import edit, transaction
from tests.records.samples import curve, planned, segment
from tests.specs import STACK

RANDOM = np.random.default_rng(0)


def complaint(location: str | Path, **options) -> str:
    """What opening a store says, which must be one line."""
    with pytest.raises(StoreError) as caught:
        Store.open(location, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return message


def commit_until_it_fails(store: Store) -> tuple[int, str]:
    """Commit noise, which does not compress; return the steps stored, and what went wrong."""
    for step in range(1, 1000):
        part = {"loss": curve(step * 1000, RANDOM.normal(size=1000))}
        try:
            store.commit([segment("a", step, curves=part)], STACK, {"step": np.array(step)})
        except StoreError as error:
            return step - 1, str(error)
    pytest.fail("the disk never filled up")


def check(store: Store, steps: int) -> None:
    assert store.runs()[0].step == steps
    assert len(store.curve("a", "loss")) == steps * 1000
    assert store.checkpoint(STACK)["step"] == steps


def test_a_missing_store(tmp_path: Path) -> None:
    message = complaint(tmp_path / "nothing")
    assert "no study is stored in" in message
    assert "optrial run STUDY --out" in message
    assert not (tmp_path / "nothing").exists()
    assert "no study is stored in" in complaint(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_store_on_a_server(postgresql: str) -> None:
    assert "no study is stored in postgresql://" in complaint(postgresql)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: study")
    for create in (False, True):
        assert f"'{file}' is a file" in complaint(file, create=create)
    assert "cannot be a study folder: Not a directory" in complaint(file / "sub", create=True)
    assert "no study is stored in" in complaint(file / "sub")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.write_bytes(b"garbage " * 1000)
    for create in (False, True):
        assert "study.db is not a database" in complaint(tmp_path, create=create)
    assert file.read_bytes() == b"garbage " * 1000


def test_a_damaged_database(tmp_path: Path) -> None:
    with Store.open(tmp_path, create=True) as store:
        store.save_plan("one", {}, [planned("a")])
        part = {"loss": curve(1, RANDOM.normal(size=5000))}
        store.commit([segment("a", 5000, curves=part)], STACK, {"w": RANDOM.normal(size=9999)})
    file = tmp_path / "study.db"
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    file.write_bytes(data)
    with Store.open(tmp_path) as store, pytest.raises(StoreError, match="is damaged") as caught:
        store.checkpoint(STACK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["values_blob", "steps_blob"])
def test_a_damaged_curve(store: Store, location: str, column: str) -> None:
    store.save_plan("one", {}, [planned("a")])
    store.commit([segment("a", 1, curves={"loss": curve(1, [1.0])})], STACK, None)
    edit(location, "curves", **{column: b"garbage"})
    with pytest.raises(StoreError, match="run a: its loss from step 1 is damaged") as caught:
        store.curves()
    assert f"optrial verify '{store.shown}'" in str(caught.value)


def test_a_checkpoint_is_never_unpickled(store: Store, location: str) -> None:
    store.commit([], STACK, {"step": np.array(1)})
    edit(location, "checkpoints", seal=True, data=b"\x80\x05N.")
    with pytest.raises(StoreError, match=f"stack {STACK}: its checkpoint cannot be decoded"):
        store.checkpoint(STACK)


def test_the_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("create table runs (x)")
    connection.close()
    assert "no study is stored in" in complaint(tmp_path)
    assert "table runs already exists" in complaint(tmp_path, create=True)


def test_a_store_of_a_newer_version(store: Store, location: str) -> None:
    with transaction(location, writing=True) as connection:
        connection.execute(sql.text("update meta set value = '99' where key = 'version'"))
    for create in (False, True):
        message = complaint(location, create=create)
        assert f"version 99; this optrial reads version {VERSION}. Upgrade optrial: pip" in message


def test_a_store_of_an_older_version(store: Store, location: str) -> None:
    with transaction(location, writing=True) as connection:
        connection.execute(sql.text("update meta set value = '1' where key = 'version'"))
    for create in (False, True):
        message = complaint(location, create=create)
        assert f"version 1; this optrial reads version {VERSION}. Train into another" in message


def test_a_full_disk(small_disk: Path) -> None:
    with Store.open(small_disk, create=True) as store, store.lock():
        store.save_plan("one", {}, [planned("a")])
        steps, message = commit_until_it_fails(store)
        assert steps > 5
        assert re.search("the disk is full.*Nothing stored so far is lost", message)
        assert "\n" not in message
        check(store, steps)
        with Store.open(small_disk) as reader:
            check(reader, steps)
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        part = {"loss": curve(steps * 1000 + 1000, np.zeros(1000))}
        store.commit([segment("a", steps + 1, curves=part)], STACK, {"step": np.array(steps + 1)})
        check(store, steps + 1)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    script = """
import resource, sys
from optrial.records import Store
from tests.records.samples import planned
from tests.records.test_failures import commit_until_it_fails

with Store.open(sys.argv[1], create=True) as store, store.lock():
    store.save_plan("one", {}, [planned("a")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
    print(*commit_until_it_fails(store))
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    assert ran.stderr == ""
    steps, message = ran.stdout.split(" ", 1)
    assert re.search("the disk .*full.*optrial verify", message)
    with Store.open(tmp_path) as store:
        check(store, int(steps))


def test_a_read_only_folder_is_read_and_not_written(small_disk: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "study", create=True) as store:
        store.save_plan("one", {}, [planned("a")])
    shutil.copy(tmp_path / "study" / "study.db", small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Store.open(small_disk) as store:
        assert [record.run_id for record in store.runs()] == ["a"]
        with pytest.raises(StoreError, match="Read-only file system"), store.lock():
            pytest.fail("locked on a read-only disk")
        with pytest.raises(StoreError, match="there is no permission to write there"):
            store.save_plan("two", {}, [planned("b")])
    assert "cannot be a study folder: Read-only" in complaint(small_disk / "new", create=True)


def test_a_database_that_another_program_holds(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("optrial.records.database.BUSY_SECONDS", 0.05)
    with Store.open(tmp_path, create=True) as store:
        other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
        other.execute("begin immediate")
        with pytest.raises(StoreError, match="another program holds it"):
            store.save_plan("one", {}, [planned("a")])
        other.close()
        store.save_plan("one", {}, [planned("a")])


def test_no_server(postgresql: str) -> None:
    message = complaint("postgresql://me:secret@127.0.0.1:1/optrial?connect_timeout=3")
    assert "postgresql://127.0.0.1:1/optrial: no server answers there" in message
    missing = sql.make_url(postgresql).set(database="no_such", password="secret")
    message = complaint(missing.render_as_string(hide_password=False))
    assert "the server has no such database" in message
    assert 'database "no_such" does not exist' in message
    nobody = sql.make_url(postgresql).set(username="nobody_here")
    message = complaint(nobody.render_as_string(hide_password=False))
    assert "the server has no such user" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"port": 99999}, "Correct the port or the option in the URL"),
        ({"query": {"sslmode": "perhaps"}}, "Correct the port or the option in the URL"),
        ({"query": {"no_such": "1"}}, "Correct the port or the option in the URL"),
        ({"query": {"options": "-csearch_path=no_such"}}, "Create it with CREATE SCHEMA"),
    ],
)
def test_urls_that_a_server_or_its_driver_refuses(
    changes: dict[str, Any], says: str, postgresql: str
) -> None:
    url = sql.make_url(postgresql).set(**changes)
    assert says in complaint(url.render_as_string(hide_password=False), create=True)


def test_a_user_who_may_create_nothing(postgresql: str) -> None:
    engine = sql.create_engine(sql.make_url(postgresql).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sql.text("create role optrial_guest login"))
        connection.execute(sql.text("create schema optrial_closed"))
        connection.execute(sql.text("grant usage on schema optrial_closed to optrial_guest"))
    guest = sql.make_url(postgresql).set(
        username="optrial_guest", query={"options": "-csearch_path=optrial_closed"}
    )
    message = complaint(guest.render_as_string(hide_password=False), create=True)
    with engine.begin() as connection:
        connection.execute(sql.text("drop schema optrial_closed"))
        connection.execute(sql.text("drop role optrial_guest"))
    engine.dispose()
    assert "this user lacks the permission (permission denied for schema" in message


def test_a_server_without_connections(postgresql: str) -> None:
    with Store.open(postgresql, create=True):
        engine = sql.create_engine(sql.make_url(postgresql).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(sql.text("create role optrial_crowd login connection limit 0"))
        crowd = sql.make_url(postgresql).set(username="optrial_crowd")
        message = complaint(crowd.render_as_string(hide_password=False))
        with engine.begin() as connection:
            connection.execute(sql.text("drop role optrial_crowd"))
        engine.dispose()
    assert "the server has no connection left" in message
    assert "max_connections" in message


def test_no_socket() -> None:
    message = complaint("postgresql:///optrial?host=/no/such/folder")
    assert "no server answers on this machine" in message
    assert "postgresql://USER@HOST/DATABASE" in message


def test_no_host() -> None:
    message = complaint("postgresql://me@host.invalid/optrial?connect_timeout=3")
    assert "there is no such host" in message
    assert "Check the host in the URL." in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec@secret@host/optrial",
        "postgresql://me:secret@host:port/optrial",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    assert "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in complaint(url)


def test_a_url_of_another_database() -> None:
    message = complaint("mysql://me:secret@host/optrial")
    assert "a store cannot be at mysql://. Allowed: a folder, or postgresql://" in message


def test_a_missing_driver(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = complaint("postgresql://me:secret@host/optrial")
    assert "pip install 'optrial[postgresql]'" in message


def test_the_driver_repeats_no_password(postgresql: str) -> None:
    url = sql.make_url(postgresql).set(password="secret").update_query_dict({"sslmode": "secret"})
    with pytest.raises(StoreError, match=r"invalid sslmode value: .\*\*\*") as caught:
        Store.open(url.render_as_string(hide_password=False))
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_file_where_weights_belong_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("", encoding="utf-8")
    with pytest.raises(
        StoreError, match=f"move {tmp_path}/weights, which is not a folder, out of the way"
    ):
        WeightFiles(tmp_path).write("0123456789ab", {"bias": np.zeros(2)})
