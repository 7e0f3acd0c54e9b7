"""User code that fails while speeds are measured ends neither `plan` nor `run`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optrial.engine import Engines
from optrial.engine.select import choice as choice_module
from optrial.spec import Status
from optrial.study import Study
from tests.engine.test_choice import Notes
from tests.small import small_keys, small_plan

MODULE = "measured_models"
CODE = '''
import torch
from torch import nn


class Sound(nn.Module):
    """Counts its training steps; `at` is the one at which something happens."""

    def __init__(self, at=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        self.at, self.calls = at, 0

    def forward(self, x):
        self.calls += self.training
        return self.happen(self.layers(x)) if self.calls >= self.at else self.layers(x)

    def happen(self, y):
        return y


class Diverges(Sound):
    def happen(self, y):
        return y * float("inf")


class Raises(Sound):
    def happen(self, y):
        raise LookupError("at that step")


class Exits(Sound):
    def happen(self, y):
        raise SystemExit(3)


class Reshapes(Sound):
    def happen(self, y):
        return y[:, :1]


class Eats(Sound):
    def happen(self, y):
        return y + torch.empty(2**50)
'''


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choice_module, "_WORTH_MEASURING", 0.0)
    yield
    sys.modules.pop(MODULE, None)


def keys(factory: str, at: int, **changes: Any) -> dict[str, Any]:
    model = {"factory": f"{MODULE}:{factory}", "args": {"at": at}}
    problem = small_keys()["problem"] | {"model": model}
    return small_keys(problem=problem, compile="never", seeds=2, budget={"steps": 12}, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "stacked"])
@pytest.mark.parametrize("at", [3, 5])
@pytest.mark.parametrize(
    ("factory", "status"),
    [
        ("Diverges", Status.DIVERGED),
        ("Raises", Status.ERROR),
        ("Exits", Status.ERROR),
        ("Reshapes", Status.ERROR),
        ("Eats", Status.ERROR),
    ],
)
def test_model_that_fails_in_an_early_step(
    factory: str, status: Status, at: int, engine: str
) -> None:
    notes = Notes()
    study = Study(**keys(factory, at, engine=engine))
    with study.run("out", callbacks=[notes]) as results:
        assert {record.status for record in results.records} == {status}
        assert all(record.reason for record in results.records)
    (choice,) = Engines(*small_data(study)).choose(study.plan().runs)
    assert choice.width >= 1


def small_data(study: Study) -> tuple[Any, str, str]:
    return study.load_data(), "float32", "cpu"


@pytest.mark.parametrize("engine", ["auto", "stacked"])
def test_rates_that_diverge_at_once_leave_the_others_alone(engine: str) -> None:
    rates = [{"rule": "sgd", "lr": [0.1, 1e30]}]
    study = Study(**keys("Sound", 10**9, engine=engine) | {"optimizers": rates})
    with study.run("out") as results:
        statuses = [(r.hyperparameters["lr"], r.status) for r in results.records]
    assert set(statuses) == {(0.1, Status.DONE), (1e30, Status.DIVERGED)}


def test_catalogued_models_are_measured_though_they_diverge() -> None:
    plan, dataset = small_plan(seeds=2, compile="never", optimizers=[{"rule": "sgd", "lr": 1e30}])
    (choice,) = Engines(dataset, "float32", "cpu").choose(plan.runs)
    assert choice.note == ""
