"""A store that is deleted, moved, replaced or linked: one error, nothing claimed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optrial.callbacks import Callback
from optrial.errors import StoreBusyError, StoreError
from optrial.records import Store
from optrial.records.verify import verify
from optrial.results import load
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def delete_database(folder: Path) -> None:
    for file in folder.glob("study.db*"):
        file.unlink()


def move(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def replace(folder: Path) -> None:
    copy = folder / "copy"
    shutil.copy(folder / "study.db", copy)
    copy.replace(folder / "study.db")


@pytest.mark.parametrize("act", [delete, delete_database, move, replace])
def test_a_store_that_is_gone_is_one_error(
    act: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"

    class Acts(Callback):
        done = False

        def on_step(self, *_: Any, **__: Any) -> None:
            if not self.done:
                self.done = True
                act(folder)

    study = Study(**small_keys(seeds=[0, 1], engine="reference"))
    with pytest.raises(StoreError, match=r"out: study.db was deleted, moved or replaced"):
        study.run("out", callbacks=[Acts()])
    if act is move:
        folder.with_name("moved").rename(folder)
    if act is not replace:
        with study.run("out") as results:
            assert {record.status for record in results.records} == {Status.DONE}


def test_a_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Study(**small_keys()).run(tmp_path / "link"):
        pass
    with Store.open(tmp_path / "real") as store:
        assert [record.status for record in store.runs()] == [Status.DONE]


def test_a_file_with_another_name_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with Study(**small_keys()).run(folder):
        pass
    os.link(folder / "study.db", tmp_path / "backup.db")
    before = (tmp_path / "backup.db").read_bytes()
    with pytest.raises(StoreError, match="another name") as refused:
        Study(**small_keys(seeds=[0, 1])).run(folder)
    with pytest.raises(StoreError, match="another name"):
        verify(folder, repair=True)
    assert (tmp_path / "backup.db").read_bytes() == before
    with load(folder) as results:
        assert len(results.records) == 1
    _, _, remedy = str(refused.value).partition("by a copy: ")
    subprocess.run(remedy, shell=True, check=True)
    with Study(**small_keys(seeds=[0, 1])).run(folder) as results:
        assert {record.status for record in results.records} == {Status.DONE}
    assert (tmp_path / "backup.db").read_bytes() == before


def test_folders_with_one_file_have_one_writer(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "second/study.db").symlink_to(tmp_path / "first/study.db")
    study = Study(**small_keys())
    with (
        Store.open(tmp_path / "first", create=True) as store,
        store.lock(),
        pytest.raises(StoreBusyError, match="is training into it"),
    ):
        study.run(tmp_path / "second")
    with study.run(tmp_path / "second") as results:
        assert [record.status for record in results.records] == [Status.DONE]
