"""A study whose data, code or keys have changed says so, and what it costs."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optrial
from optrial.changes import changes_at

MODEL = """
import torch


class Net(torch.nn.Linear):
    def __init__(self, input_shape, classes):
        super().__init__(2, classes, bias={bias})
"""


class Messages(optrial.Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_message(self, text: str) -> None:
        self.texts.append(text)


def changed(study: optrial.Study) -> list[str]:
    """Train a study, and return what it says about earlier runs; `plan` says the same before."""
    planned = changes_at(study.plan(), "results")
    messages = Messages()
    study.run("results", callbacks=[messages]).close()
    said = [text for text in messages.texts if text.startswith("changed")]
    assert said == planned
    return said


def study(module: str, **keys: Any) -> optrial.Study:
    problem = {"dataset": "data.npz", "model": {"factory": f"{module}:Net"}}
    optimizers = [{"rule": "sgd", "lr": [0.1, 0.01]}, {"rule": "adam", "lr": 0.1}]
    settings = {"budget": {"steps": 2}, "batch_size": 8, "seeds": 2, "engine": "reference"}
    return optrial.Study(problem=problem, optimizers=optimizers, **settings | keys)


def write_data(seed: int) -> None:
    inputs = np.random.default_rng(seed).normal(size=(40, 2))
    np.savez("data.npz", x=inputs, y=(inputs[:, 0] > 0).astype(int))


def test_what_changed_is_named_with_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"net_{os.urandom(6).hex()}"
    file = tmp_path / f"{module}.py"
    file.write_text(MODEL.format(bias=True), encoding="utf-8")
    write_data(0)
    cost = "6 finished runs will not be used, 6 runs train from the start; nothing is deleted"

    assert changed(study(module)) == []
    assert changed(study(module)) == []
    assert changed(study(module, seeds=3)) == []  # which needs the earlier runs, too
    assert changed(study(module)) == []
    write_data(1)
    assert changed(study(module)) == [f"changed since the last run: data of data.npz; {cost}"]
    file.write_text(MODEL.format(bias=False), encoding="utf-8")
    importlib.invalidate_caches()
    importlib.reload(sys.modules[module])
    assert changed(study(module)) == [f"changed since the last run: code of {module}:Net; {cost}"]
    keys = {"budget": {"steps": 3}}
    assert changed(study(module, **keys)) == [f"changed since the last run: steps; {cost}"]
    assert changed(study(module)) == []  # the earlier runs are used again
