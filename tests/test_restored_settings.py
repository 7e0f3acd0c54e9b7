"""Planning, loading, timing and evaluating leave the process as it was, whatever user code does."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from optrial.errors import OptrialError
from optrial.results import Results, load
from optrial.study import Study
from tests.small import small_keys
from tests.test_misbehaving_code import ACTS, state


def misbehave() -> None:
    """Change everything that user code can."""
    for change in ACTS.values():
        with suppress(Exception):
            change()
    os.environ["MISBEHAVING"] = "1"
    random.seed(7)


def act(place: str) -> None:
    """Do what the test wants at a place; the hash of the code does not cover attributes of `os`."""
    vars(os).get("act_of_test", lambda place: None)(place)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        act("building")
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        act("calling")
        return self.layer(x)


class Adam(torch.optim.Adam):
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        super().step()
        act("stepping")


def data() -> tuple[np.ndarray, np.ndarray]:
    act("loading")
    inputs = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    return inputs, (inputs[:, 0] > 0).astype(int)


def study() -> Study:
    problem = {
        "dataset": "tests.test_restored_settings:data",
        "model": {"factory": "tests.test_restored_settings:Net"},
    }
    optimizers = [{"torch": "tests.test_restored_settings:Adam", "lr": 0.01}]
    keys = {"budget": {"steps": 4}, "save": "final", "engine": "reference"}
    return Study(**small_keys(problem=problem, optimizers=optimizers, **keys))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    study().run(folder).close()
    return folder


def evaluated(results: Results) -> None:
    with results:
        results.evaluate()


def modelled(results: Results) -> None:
    with results:
        results.model(results.records[0].run_id)


WORKS: dict[str, Callable[[Path], object]] = {
    "load_data": lambda folder: study().load_data(),
    "plan": lambda folder: study().plan(),
    "timing": lambda folder: study().timing(rounds=3, memory=False),
    "evaluate": lambda folder: evaluated(load(folder)),
    "model": lambda folder: modelled(load(folder)),
    "run": lambda folder: study().run(folder / "other").close(),
}
PLACES = {
    "load_data": ["loading"],
    "plan": ["loading", "building", "calling", "stepping"],
    "timing": ["loading", "building", "calling", "stepping"],
    "evaluate": ["loading", "building", "calling"],
    "model": ["building"],
    "run": ["loading", "building"],
}


def generators() -> list[object]:
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
    ]


@pytest.mark.parametrize(
    ("work", "place"), [(work, place) for work, places in PLACES.items() for place in places]
)
def test_the_process_is_as_before(
    work: str, place: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted = []

    def act_of_test(reached: str) -> None:
        if reached == place:
            acted.append(place)
            misbehave()

    monkeypatch.setattr(os, "act_of_test", act_of_test, raising=False)
    before, drawn = state(), generators()
    with suppress(OptrialError):  # some changes are refused
        WORKS[work](trained)
    assert acted
    assert state() == before
    assert generators() == drawn
