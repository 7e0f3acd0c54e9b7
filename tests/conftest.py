from __future__ import annotations

import gc
import math
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sql
import typer

from optrial import cli


class Answer(NamedTuple):
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Answer]

COMMAND = typer.main.get_command(cli.app)
"""The command line, read from the signatures of its functions once."""


def pytest_collection() -> None:
    """Collect no garbage while tests are collected, for almost nothing is."""
    gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark cases as slow, but for one in n, of tests that are marked `one_in(n)`."""
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("one_in"):
            name = item.nodeid.partition("[")[0]
            if seen[name] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            seen[name] += 1


def pytest_collection_finish() -> None:
    """Take modules and tests out of the collection of garbage, which training and timing start.

    From here on no compiled module is kept: tests edit modules so fast that it would pass for new.
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # hypothesis looks up the referrers of what it registers


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Spare the five collections with which pytest ends."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep measured speeds of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTRIAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def spared_collections() -> None:
    """Keep what earlier modules imported out of the collections of garbage of this one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_stack() -> Iterator[None]:
    """Train as many runs at once however busy the machine is: stacks are part of the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optrial.engine.select.choice._WIDTHS", (256,))
        patch.setattr("optrial.executors.division.WORTH_SECONDS", math.inf)
        yield


@pytest.fixture
def optrial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "app", COMMAND)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["optrial", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return Answer(status, *capsys.readouterr())

    return call


@pytest.fixture
def postgresql() -> Iterator[str]:
    """URL of an empty schema of its own; it is also the name of every connection made with it."""
    server = os.environ.get("OPTRIAL_TEST_POSTGRESQL")
    if server is None:
        pytest.skip("OPTRIAL_TEST_POSTGRESQL is not set: see scripts/postgresql")
    name = f"optrial_{uuid.uuid4().hex}"
    engine = sql.create_engine(sql.make_url(server).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sql.text(f"create schema {name}"))
    yield f"{server}?options=-csearch_path%3D{name}&application_name={name}"
    with engine.begin() as connection:
        connection.execute(sql.text(f"drop schema {name} cascade"))
    engine.dispose()
