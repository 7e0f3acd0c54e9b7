from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optrial.errors import StoreError
from optrial.records import Record, Store, curve_rows, flat_rows, run_rows, write_csv, write_json
from optrial.spec import Status
from tests.records.samples import curve, planned, segment
from tests.specs import STACK


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


def test_one_object_a_run(records: list[Record]) -> None:
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
        "hyperparameters": {"lr": 0.1 + 0.2},
        "seed": 0,
        "status": "done",
        "step": 2,
        "reason": "",
        "metrics": {"train_loss": 1 / 3, "test_accuracy": 0.9},
    }
    assert (second["status"], second["reason"]) == ("diverged", "loss is NaN")
    assert second["metrics"] == {"train_loss": None, "test_accuracy": None}


def test_one_line_a_run(records: list[Record]) -> None:
    stream = io.StringIO()
    write_csv(flat_rows(records), stream)
    first, second = csv.DictReader(io.StringIO(stream.getvalue()))
    assert list(first) == [
        "run_id",
        "problem",
        "optimizer",
        "setting",
        "phase",
        "rule",
        "hyperparameters.lr",
        "hyperparameters.betas",
        "hyperparameters.decay.by",
        "seed",
        "status",
        "step",
        "reason",
        "metrics.train_loss",
        "metrics.test_accuracy",
    ]
    assert (first["optimizer"], first["status"]) == ("plain, sgd", "done")
    assert float(first["hyperparameters.lr"]) == 0.1 + 0.2
    assert float(first["metrics.train_loss"]) == 1 / 3
    assert json.loads(second["hyperparameters.betas"]) == [0.9, 0.999]
    assert (first["hyperparameters.betas"], second["metrics.train_loss"]) == ("", "")


def test_curves_are_long_rows(store: Store, records: list[Record]) -> None:
    rows = list(curve_rows(store, "train_loss"))
    assert [row["run_id"] for row in rows] == ["b", "b", "a", "a"]
    assert rows[1] == {
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
        list(curve_rows(store, "train_los"))


def test_curves_of_earlier_plans_are_left_out(store: Store, records: list[Record]) -> None:
    store.save_plan("two", {}, [planned("a")])
    assert {row["run_id"] for row in curve_rows(store, "train_loss")} == {"a"}


@given(st.lists(st.floats(), min_size=1))
def test_csv_keeps_every_float(values: list[float]) -> None:
    stream = io.StringIO()
    write_csv(({"step": step, "value": value} for step, value in enumerate(values)), stream)
    back = [float(row["value"]) for row in csv.DictReader(io.StringIO(stream.getvalue()))]
    np.testing.assert_array_equal(back, values)


@given(st.lists(st.floats()))
def test_json_keeps_every_finite_float(values: list[float]) -> None:
    stream = io.StringIO()
    write_json([{"value": value} for value in values], stream)
    back = [row["value"] for row in json.loads(stream.getvalue(), parse_constant=pytest.fail)]
    assert back == [value if math.isfinite(value) else None for value in values]


def test_no_rows() -> None:
    stream = io.StringIO()
    write_csv(flat_rows([]), stream)
    assert stream.getvalue() == ""
    write_json(run_rows([]), stream)
    assert json.loads(stream.getvalue()) == []
