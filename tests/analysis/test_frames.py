"""One table of runs and one of curves, whatever prints, writes or returns them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from optrial.analysis import curves_frame, run_rows, runs_frame
from optrial.analysis.frames import CURVE_COLUMNS, RUN_COLUMNS
from optrial.analysis.wide import write_parquet
from optrial.errors import StoreError
from optrial.records import Record, Store, write_csv, write_json
from optrial.spec import Status
from tests.records.samples import curve, planned, segment
from tests.specs import STACK


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path, create=True)


@pytest.fixture
def records(store: Store) -> list[Record]:
    sgd = planned("b", optimizer="plain, sgd", rule="sgd", hyperparameters={"lr": 0.1 + 0.2})
    adam = planned("a", hyperparameters={"lr": 1e-3, "betas": [0.9, 0.999], "decay": {"by": 0.5}})
    store.save_plan("one", {}, [sgd, adam])
    part = {"train_loss": curve(1, [2.0, 1 / 3]), "test_accuracy": curve(2, [0.9])}
    done = segment("b", 2, Status.DONE, curves=part)
    failed = segment("a", 2, Status.DIVERGED, curves=part, reason="loss is NaN")
    store.commit([done, failed], STACK, None)
    return store.runs()


COLUMNS = [*RUN_COLUMNS, "lr", "betas", "decay.by", "train_loss", "test_accuracy"]


def test_json_holds_one_object_per_run(records: list[Record]) -> None:
    stream = io.StringIO()
    write_json(run_rows(records), stream)
    first, second = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert first == {
        "run_id": "b",
        "problem": "moons",
        "optimizer": "plain, sgd",
        "setting": "lr=0.1",
        "phase": "report",
        "rule": "sgd",
        "seed": 0,
        "status": "done",
        "step": 2,
        "reason": "",
        "lr": 0.1 + 0.2,
        "betas": None,
        "decay.by": None,
        "train_loss": 1 / 3,
        "test_accuracy": 0.9,
    }
    assert list(first) == list(second) == COLUMNS
    assert (second["status"], second["reason"]) == ("diverged", "loss is NaN")
    assert (second["betas"], second["train_loss"]) == ([0.9, 0.999], None)


def test_csv_holds_one_line_per_run(records: list[Record]) -> None:
    stream = io.StringIO()
    write_csv(run_rows(records), stream)
    first, second = csv.DictReader(io.StringIO(stream.getvalue()))
    assert list(first) == COLUMNS
    assert (first["optimizer"], first["status"]) == ("plain, sgd", "done")
    assert (float(first["lr"]), float(first["train_loss"])) == (0.1 + 0.2, 1 / 3)
    assert json.loads(second["betas"]) == [0.9, 0.999]
    assert (first["betas"], second["train_loss"]) == ("", "")


def test_frames_and_parquet_hold_one_row_per_run(records: list[Record], tmp_path: Path) -> None:
    frame = runs_frame(records)
    assert list(frame) == COLUMNS
    assert frame["lr"].tolist() == [0.1 + 0.2, 1e-3]
    assert frame["betas"].tolist() == [None, [0.9, 0.999]]
    write_parquet(frame, tmp_path / "runs.parquet")
    back = pd.read_parquet(tmp_path / "runs.parquet")
    assert list(back) == COLUMNS
    assert json.loads(back["betas"][1]) == [0.9, 0.999]


def test_hyperparameters_may_be_called_like_other_columns(store: Store, tmp_path: Path) -> None:
    names = {"seed": 7, "hyperparameter_seed": 8, "train_loss": "l2", "step": 0.5}
    others = {"seed": "many"}  # of another type
    store.save_plan(
        "one", {}, [planned("a", hyperparameters=names), planned("b", hyperparameters=others)]
    )
    store.commit(
        [segment("a", 1, Status.DONE, curves={"train_loss": curve(1, [2.0])})], STACK, None
    )
    frame = runs_frame(store.runs())
    assert frame.columns.is_unique
    row = run_rows(store.runs())[0]
    assert (row["seed"], row["step"], row["train_loss"]) == (0, 1, 2.0)
    assert (row["hyperparameter_seed"], row["hyperparameter_hyperparameter_seed"]) == (7, 8)
    assert (row["hyperparameter_train_loss"], row["hyperparameter_step"]) == ("l2", 0.5)
    write_parquet(frame, tmp_path / "runs.parquet")
    back = pd.read_parquet(tmp_path / "runs.parquet")
    assert back["hyperparameter_seed"].tolist() == ["7", '"many"']


def test_no_runs_have_the_first_columns() -> None:
    assert run_rows([]) == []
    assert list(runs_frame([])) == list(RUN_COLUMNS)


def test_curves_have_one_row_per_value(store: Store, records: list[Record]) -> None:
    frame = curves_frame(store, ["train_loss"])
    assert tuple(frame) == CURVE_COLUMNS
    assert frame["run_id"].tolist() == ["b", "b", "a", "a"]
    assert frame.iloc[1].to_dict() == {
        "metric": "train_loss",
        "run_id": "b",
        "problem": "moons",
        "optimizer": "plain, sgd",
        "setting": "lr=0.1",
        "phase": "report",
        "seed": 0,
        "step": 2,
        "epoch": 2 / 10,
        "value": 1 / 3,
    }
    message = r"no curve of 'train_los' is stored\. Did you mean 'train_loss'"
    with pytest.raises(StoreError, match=message):
        curves_frame(store, ["train_los"])


def test_curves_of_earlier_plans_are_left_out(store: Store, records: list[Record]) -> None:
    store.save_plan("two", {}, [planned("a")])
    assert set(curves_frame(store, ["train_loss"])["run_id"]) == {"a"}
