"""`--restart` starts a study over and keeps everything that was in its folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from optrial.errors import StoreBusyError, StoreError
from optrial.records import Store, set_aside
from optrial.results import load
from optrial.study import Study
from tests.conftest import Command
from tests.small import small_keys
from tests.test_sweep import contents

DAMAGES: dict[str, Any] = {
    "text": lambda file: file.write_text("no database"),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "empty": lambda file: file.write_bytes(b""),
}


def run(folder: Path, *, restart: bool = False, **changes: Any) -> None:
    Study(**small_keys(**changes)).run(folder, restart=restart).store.close()


def backups(folder: Path) -> list[Path]:
    return sorted(folder.glob("backup-*"))


def test_everything_of_the_study_is_moved(tmp_path: Path) -> None:
    run(tmp_path, save="final", evaluate={"on": ["validation", "test"]})
    with load(tmp_path) as results:
        results.report(tmp_path / "report.html")
    (tmp_path / "timing.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("of the user")
    before = contents(tmp_path)
    weights = {p.name: p.read_bytes() for p in (tmp_path / "weights").iterdir()}
    run(tmp_path, restart=True)
    (backup,) = backups(tmp_path)
    assert contents(backup) == before
    assert {p.name: p.read_bytes() for p in (backup / "weights").iterdir()} == weights
    assert {"report.html", "timing.json"} <= {path.name for path in backup.iterdir()}
    left = {path.name for path in tmp_path.iterdir()} - {backup.name}
    assert left <= {"study.db", "study.lock", "mine.yaml"}
    assert "mine.yaml" in left


class Killed(BaseException):
    """The end of the process."""


def is_whole(folder: Path, before: object, weights: dict[str, bytes]) -> bool:
    if not (folder / "study.db").exists() or contents(folder) != before:
        return False
    return weights == {p.name: p.read_bytes() for p in (folder / "weights").iterdir()}


def interrupt(patch: pytest.MonkeyPatch, at: int, error: type[BaseException]) -> list[str]:
    """Raise an error at an operation on files; return the list of all operations."""
    operations: list[str] = []

    def replaced(name: str) -> None:
        function = getattr(os, name)

        def called(*arguments: Any, **named: Any) -> Any:
            operations.append(name)
            if len(operations) == at:
                raise error
            if name == "link" and error is PermissionError:  # on a file system without links
                raise error
            return function(*arguments, **named)

        patch.setattr(os, name, called)

    for name in ("link", "rename", "unlink", "rmdir", "mkdir"):
        replaced(name)
    return operations


@pytest.mark.parametrize("error", [Killed, OSError, PermissionError])
def test_the_study_is_whole_in_one_place_wherever_a_restart_ends(
    tmp_path: Path, error: type[BaseException]
) -> None:
    run(tmp_path / "study", save="final", evaluate={"on": ["validation", "test"]})
    before = contents(tmp_path / "study")
    weights = {p.name: p.read_bytes() for p in (tmp_path / "study" / "weights").iterdir()}
    for moment in range(1, 100):
        folder = tmp_path / str(moment)
        shutil.copytree(tmp_path / "study", folder)
        with pytest.MonkeyPatch.context() as patch:
            operations = interrupt(patch, moment, error)
            with suppress(error, StoreError):
                set_aside(folder)
        assert any(is_whole(place, before, weights) for place in (folder, *backups(folder)))
        if len(operations) < moment:
            return
    raise AssertionError("operations do not end")


def test_restarts_within_a_second_keep_every_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    kept = []
    for steps in (10, 20, 30):
        run(tmp_path, restart=True, budget={"steps": steps})
        kept.append(contents(tmp_path))
    assert [contents(backup) for backup in backups(tmp_path)] == kept[:2]


def test_a_missing_folder_has_nothing_to_keep(tmp_path: Path) -> None:
    run(tmp_path / "new", restart=True)
    assert not backups(tmp_path / "new")
    assert set_aside(tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_restarted_over(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    DAMAGES[damage](tmp_path / "study.db")
    damaged = (tmp_path / "study.db").read_bytes()
    run(tmp_path, restart=True)
    (backup,) = backups(tmp_path)
    assert (backup / "study.db").read_bytes() == damaged
    assert contents(tmp_path)


@pytest.mark.parametrize("version", ["1", "99"])
def test_a_store_of_another_version_is_restarted_over(tmp_path: Path, version: str) -> None:
    run(tmp_path)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", [version])
    connection.close()
    with pytest.raises(StoreError, match="version"):
        run(tmp_path)
    run(tmp_path, restart=True)
    assert len(backups(tmp_path)) == 1


def test_nothing_is_moved_while_another_process_trains(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)
    with (
        Store.open(tmp_path) as store,
        store.lock(),
        pytest.raises(StoreBusyError, match="another"),
    ):
        run(tmp_path, restart=True)
    assert not backups(tmp_path)
    assert contents(tmp_path) == before


def test_what_a_crash_left_in_the_log_is_kept(tmp_path: Path) -> None:
    """A process that dies leaves commits in ``study.db-wal``."""
    run(tmp_path)
    before = contents(tmp_path)
    die = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('CREATE TABLE late (x)'); c.execute('INSERT INTO late VALUES (7)');"
        "c.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", die, str(tmp_path / "study.db")], check=True)
    assert (tmp_path / "study.db-wal").exists()
    backup = set_aside(tmp_path)
    assert backup is not None
    with sqlite3.connect(backup / "study.db") as connection:
        assert connection.execute("SELECT x FROM late").fetchall() == [(7,)]
    connection.close()
    assert contents(backup) == before


def test_bad_input_moves_nothing(tmp_path: Path, optrial: Command) -> None:
    run(tmp_path / "there")
    bad = tmp_path / "bad.yaml"
    bad.write_text("problem: {dataset: moons}\nbudget: {steps: 5}\nbatch_size: 10000000\n")
    bad.write_text(bad.read_text() + "optimizers: [{rule: sgd, lr: 0.1}]\n")
    answer = optrial("run", bad, "--out", tmp_path / "there", "--restart")
    assert answer.status == 2
    assert not backups(tmp_path / "there")


def test_the_command_says_where_the_former_study_is(tmp_path: Path, optrial: Command) -> None:
    study = tmp_path / "small.yaml"
    study.write_text(
        "name: small\nproblem: {dataset: moons}\nbudget: {steps: 5}\nbatch_size: 16\n"
        "optimizers: [{rule: sgd, lr: 0.1}]\n"
    )
    optrial("run", study)
    answer = optrial("run", study, "--restart")
    (backup,) = backups(Path("studies/small"))
    assert str(backup) in answer.err.replace("\n", "")
    assert optrial("show", backup).status == 0
