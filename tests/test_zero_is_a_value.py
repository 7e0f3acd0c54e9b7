"""Zero, an empty text and an empty list are values: they are used or refused, never left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

import optrial
from optrial.errors import StoreError, StudyError
from optrial.study import Study
from tests.conftest import Command
from tests.small import MOONS, small_keys

Keys = dict[str, Any]


def entry(**keys: Any) -> Keys:
    return {"optimizers": [{"rule": "adam", "lr": 0.1} | keys]}


def problem(**keys: Any) -> Keys:
    return {"problem": {"dataset": MOONS, "model": "mlp"} | keys}


REFUSED: list[tuple[Keys, str, str]] = [
    ({"seeds": 0}, "seeds", "0"),
    ({"seeds": []}, "seeds", "empty"),
    ({"batch_size": 0}, "batch_size", "0"),
    ({"batch_size": []}, "batch_size", "[]"),
    ({"budget": {"steps": 0}}, "budget.steps", "0"),
    ({"budget": {"epochs": 0}}, "budget.epochs", "0"),
    ({"budget": {"steps": 5, "epochs": 0}}, "budget.epochs", "0"),
    ({"budget": {}}, "budget", "{}"),
    ({"evaluate": {"every": {"steps": 0}}}, "evaluate.every.steps", "0"),
    ({"evaluate": {"every": 0}}, "evaluate.every", "0"),
    ({"evaluate": {"on": []}}, "evaluate.on", "empty"),
    ({"tune": {"trials": 0}}, "tune.trials", "0"),
    ({"tune": {"seeds": 0}}, "tune.seeds", "0"),
    ({"tune": {"select": ""}}, "tune.select", "''"),
    ({"loss_limit": 0}, "loss_limit", "0"),
    ({"save": ""}, "save", "''"),
    ({"probes": []}, "probes", "empty"),
    ({"trackers": ""}, "trackers[0]", "''"),
    ({"engine": ""}, "engine", "''"),
    ({"name": ""}, "name", "empty"),
    ({"optimizers": []}, "optimizers", "empty"),
    (entry(lr=0), "optimizers[0].lr", "0"),
    (entry(lr=[]), "optimizers[0].lr", "[]"),
    (entry(clip=0), "optimizers[0].clip.norm", "0"),
    (entry(clip={"value": 0}), "optimizers[0].clip.value", "0"),
    (entry(clip={}), "optimizers[0].clip", "{}"),
    (entry(schedule=[]), "optimizers[0].schedule", "[]"),
    (entry(schedule=""), "optimizers[0].schedule", "''"),
    (entry(decay=""), "optimizers[0].decay", "''"),
    (entry(name=""), "optimizers[0].name", "empty"),
    (problem(loss=""), "problem.loss", "''"),
    (problem(model=""), "problem.model", "''"),
    (problem(model={"factory": "torch.nn:Linear", "args": []}), "problem.model", "args"),
    (problem(model={"factory": "torch.nn:Linear", "args": 0}), "problem.model", "args"),
    (problem(dataset=MOONS | {"test_fraction": 0}), "test_fraction", "0"),
    (problem(dataset=MOONS | {"validation_fraction": 0}), "validation_fraction", "0"),
]


@pytest.mark.parametrize(("changes", "key", "value"), REFUSED)
def test_a_value_that_makes_no_sense_is_named(changes: Keys, key: str, value: str) -> None:
    with pytest.raises(StudyError) as error:
        Study(**small_keys(**changes)).plan()
    first = str(error.value.problems[0])
    assert key in first
    assert value in first


def test_zeros_that_make_sense_are_kept() -> None:
    changes = {
        "optimizers": [{"rule": "adamw", "lr": 0.1, "weight_decay": 0, "beta1": 0, "eps": 0}],
        **problem(
            metrics=[],
            dataset=MOONS | {"random_state": 0, "noise": 0},
            model={"kind": "mlp", "hidden": []},
        ),
    }
    (run,) = Study(**small_keys(**changes)).plan().runs
    assert run.weight_decay == 0
    assert (run.hyperparameters["beta1"], run.hyperparameters["eps"]) == (0, 0)
    assert (run.metrics, tuple(run.model_arguments["hidden"])) == ((), ())


def compared(**arguments: Any) -> Any:
    common: Keys = {"data": dict(MOONS), "batch_size": 32, "seeds": 1, "optimizers": ["sgd"]}
    return optrial.compare(**common | arguments)


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ({"steps": 3, "epochs": 50}, "budget", "{'steps': 3, 'epochs': 50}: give one of"),
        ({"steps": 0, "epochs": 0}, "budget.epochs", "0"),
        ({"epochs": 0}, "budget.epochs", "0"),
        ({"steps": 0}, "budget.steps", "0"),
        ({"budget": {"steps": 3}}, "budget", "steps or epochs"),
        ({"problem": {}}, "problem", "model, data, loss and metrics"),
        ({"optimizers": []}, "optimizers", "empty"),
        ({"optimizers": "sgd"}, "optimizers", "'sgd'"),
        ({"optimizers": {"rule": "sgd"}}, "optimizers", "must be a list"),
        ({"metrics": "accuracy", "steps": 3}, "problem.metrics", "'accuracy'"),
        ({"loss": "", "steps": 3}, "problem.loss", "''"),
        ({"seeds": 0, "steps": 3}, "seeds", "0"),
    ],
)
def test_compare_refuses_what_it_would_have_to_ignore(
    arguments: Keys, key: str, value: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as error:
        compared(**arguments, out=tmp_path / "none")
    assert str(error.value.problems[0]).startswith(key)
    assert value in str(error.value.problems[0])
    assert not (tmp_path / "none").exists()


def test_compare_trains_as_long_as_it_says(tmp_path: Path) -> None:
    for arguments, steps in (({"steps": 3}, 3), ({"epochs": 2}, 10), ({}, 25)):
        with compared(**arguments, out=tmp_path / str(steps), metrics=[]) as results:
            (record,) = results.records
            assert record.step == steps
            assert not any("accuracy" in name for name in record.metrics)


def test_no_metrics_are_no_curves(tmp_path: Path) -> None:
    with compared(steps=3, out=tmp_path) as results:
        assert len(results.curves([])) == 0
        assert len(results.curves()) > 0


def test_an_empty_place_is_no_place(optrial: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("problem: {dataset: digits}\nbudget: {steps: 1}\noptimizers: [{rule: sgd}]\n")
    answer = optrial("run", study, "--out", "")
    assert answer.status == 2
    assert "''" in answer.err
    with pytest.raises(StoreError, match="''"):
        Study.from_file(study).run("")
    assert optrial("run", study, "--seeds", "0").status == 2
    assert optrial("landscape", "--optimizers", "").status == 2
    assert not Path("studies").exists()


@pytest.mark.parametrize("optimizers", [None, 3, "sgd", {"rule": "sgd"}, {"sgd"}, dict])
def test_compare_takes_a_list_of_optimizers(optimizers: Any) -> None:
    with pytest.raises(StudyError, match=r"optimizers: .*: must be a list of optimizers"):
        optrial.compare(data="moons", optimizers=optimizers, steps=1)


@pytest.mark.parametrize("entry", [None, 3, 0.1, ["sgd"], SGD([torch.ones(1)], lr=0.1)])
def test_compare_says_what_an_optimizer_may_be(entry: Any) -> None:
    with pytest.raises(StudyError, match=r"optimizers\[1\]: .*: must be the name of a rule"):
        optrial.compare(data="moons", optimizers=["sgd", entry], steps=1)
