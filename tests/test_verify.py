"""`optrial verify`: what is damaged is trained again, to the same bits, and nothing else."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from optrial.errors import StoreError
from optrial.results import Results, load
from optrial.study import Study
from tests.conftest import Command
from tests.small import small_keys
from tests.test_sweep import contents

KEYS: dict[str, Any] = {
    "seeds": 2,
    "save": "final",
    "compile": "never",
    "optimizers": [{"rule": "adam", "lr": [0.01, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
}


def run(folder: Path, engine: str = "stacked") -> Results:
    return Study(**small_keys(**KEYS, engine=engine)).run(folder)


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "study.db")) as database:
        database.execute(statement, values)
        database.commit()


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "weights").iterdir()}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_a_repaired_study_is_trained_to_the_same_bits(tmp_path: Path, engine: str) -> None:
    with run(tmp_path, engine) as results:
        records = results.records
        done = [record.run_id for record in records if record.status == "done"]
        diverged = next(r.run_id for r in records if r.status == "diverged")
    whole, saved = contents(tmp_path), weights(tmp_path)
    execute(tmp_path, "UPDATE outcomes SET step = 39 WHERE run_id = ?", done[0])
    execute(tmp_path, "UPDATE curves SET dtype = '<f2' WHERE run_id = ?", done[1])
    execute(tmp_path, "UPDATE runs SET spec = 'x' WHERE run_id = ?", done[2])
    execute(tmp_path, "DELETE FROM curves WHERE run_id = ?", diverged)
    cut = tmp_path / "weights" / f"{done[3]}.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1])
    (tmp_path / "weights" / f"{done[4]}.safetensors").unlink()
    with load(tmp_path) as results:
        (result,) = results.verify(repair=True)
    assert result.retrained == tuple(sorted([*done[:5], diverged]))
    assert (Path(result.backup) / "weights" / cut.name).exists()
    with run(tmp_path, engine) as results:
        assert results.verify()[0].findings == ()
    assert contents(tmp_path) == whole
    assert weights(tmp_path) == saved


def test_the_command_lists_repairs_and_exits(tmp_path: Path, optrial: Command) -> None:
    with run(tmp_path, "reference") as results:
        run_id = results.records[0].run_id
    intact = optrial("verify", tmp_path)
    assert (intact.status, intact.out) == (0, "")
    assert "nothing is damaged in 8 runs" in intact.err
    execute(tmp_path, "UPDATE outcomes SET reason = 'x' WHERE run_id = ?", run_id)
    shown = optrial("show", tmp_path)
    assert shown.status == 2
    assert f"run {run_id}: its outcome is damaged" in shown.err
    found = optrial("verify", tmp_path, "--json")
    assert found.status == 1
    answer = json.loads(found.out)
    assert answer["findings"] == [f"run {run_id}: its outcome is damaged"]
    assert (answer["intact"], answer["counts"]["weights"]) == (False, 5)
    repaired = optrial("verify", tmp_path, "--repair")
    assert (repaired.status, repaired.out) == (0, f"run {run_id}: its outcome is damaged\n")
    assert "1 run to train again" in repaired.err
    assert optrial("verify", tmp_path).status == 0


def test_weights_that_are_missing_or_cut_are_noticed_when_used(tmp_path: Path) -> None:
    with run(tmp_path, "reference") as results:
        run_id = next(r.run_id for r in results.records if r.status == "done")
        path = tmp_path / "weights" / f"{run_id}.safetensors"
        whole = path.read_bytes()
        for data in (whole[:-4], whole[:-4] + b"abcd", b""):
            path.write_bytes(data)
            with pytest.raises(StoreError, match=f"weights of run {run_id} are not those"):
                results.model(run_id)
        path.unlink()
        with pytest.raises(StoreError, match=f"weights of run {run_id} are missing"):
            results.model(run_id)
        with pytest.raises(StoreError, match=f"weights of run {run_id} are missing"):
            results.evaluate("test")


def test_weights_have_the_permissions_of_other_files(tmp_path: Path) -> None:
    run(tmp_path, "reference").close()
    (tmp_path / "other").touch()
    expected = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "weights").iterdir()}
    assert modes == {expected}
