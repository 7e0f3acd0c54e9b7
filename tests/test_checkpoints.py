"""A crash loses seconds, and records do not depend on when they were stored."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from optrial.errors import StoreError
from optrial.records import Store
from optrial.spec import RunFacts
from optrial.study import Study
from tests.small import MOONS, small_keys
from tests.test_sweep import Hook

TIMED = {
    *("seconds", "warm_up_seconds"),
}
STUDY: dict[str, Any] = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 500},
        "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    },
    "budget": {"steps": 60},
    "evaluate": {"every": {"steps": 23}, "on": ["validation", "test"], "batch_metrics": True},
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
    "probes": {
        "measure": ["gradient_norm", "gradient_noise_scale", "gradient_cosine"],
        "every": {"steps": 7},
    },
    "save": "best",
    "compile": "never",
}
OWN: dict[str, Any] = {
    "model": {"factory": "tests.user_code:DropsTwice"},
    "metrics": ["tests.user_code:error_rate", "accuracy"],
}


def records(folder: Path) -> dict[str, Any]:
    """Everything that is recorded of every run, times aside."""
    with Store.open(folder) as store:
        runs = {
            run.run_id: (run.status, run.step, run.reason, run.metrics, untimed(run.facts))
            for run in store.runs()
        }
        curves = {
            key: (curve.steps.tobytes(), curve.values.tobytes())
            for key, curve in store.curves().items()
        }
    weights = {path.name: path.read_bytes() for path in folder.glob("weights/*")}
    return runs | curves | weights


def untimed(facts: RunFacts) -> dict[str, Any]:
    return {f.name: getattr(facts, f.name) for f in fields(facts) if f.name not in TIMED}


def pause_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.engine.training._STOP_SECONDS", 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"engine": "reference"},
        {"engine": "stacked"},
        {"engine": "numpy", "probes": None},
        {"engine": "reference", "problem": STUDY["problem"] | OWN},
        {"engine": "stacked", "problem": STUDY["problem"] | OWN},
        {"engine": "reference", "rng": "script"},
        {"engine": "stacked", "batch_size": 4, "loss_limit": 0.8},
    ],
)
def test_records_do_not_depend_on_when_they_are_stored(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pause_after_each_step(monkeypatch)
    study = Study(**small_keys(**STUDY | changes))
    for seconds in (math.inf, 0.01, 0):
        study.run(tmp_path / str(seconds), checkpoint_seconds=seconds).close()
    whole = records(tmp_path / "inf")
    assert records(tmp_path / "0.01") == whole
    assert records(tmp_path / "0") == whole


def test_a_progress_is_stored_between_evaluations(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A study that evaluates at its end alone is stored on the way."""
    pause_after_each_step(monkeypatch)
    stored = []
    commit = Store.commit

    def note(self: Store, segments: Any, *arguments: Any) -> None:
        stored.append(segments[0].step)
        commit(self, segments, *arguments)

    monkeypatch.setattr(Store, "commit", note)
    study = Study(**small_keys(evaluate={"every": {"steps": 40}}))
    study.run(tmp_path / "always", checkpoint_seconds=0).close()
    assert stored == list(range(1, 41))
    stored.clear()
    study.run(tmp_path / "never", checkpoint_seconds=math.inf).close()
    assert stored == [40]


SLOW = '''
import time
from torch import nn


class Slow(nn.Module):
    """Takes 10 ms per step."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        time.sleep(0.01 * self.training)
        return self.layer(x)
'''


@pytest.mark.slow
def test_a_killed_process_loses_seconds(tmp_path: Path) -> None:
    """Though the only evaluation is the last one."""
    (tmp_path / "slow.py").write_text(SLOW)
    study = small_keys(
        problem=small_keys()["problem"] | {"model": {"factory": "slow:Slow"}},
        budget={"steps": 100_000},
        evaluate={"every": {"steps": 100_000}},
        engine="reference",
    )
    code = f"from optrial.study import Study\nStudy(**{study}).run('out')"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.DEVNULL,
    )
    steps: list[int] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (steps and steps[-1] > 300):
        time.sleep(0.2)
        with suppress(StoreError), Store.open(tmp_path / "out") as store:
            steps += [record.step for record in store.runs()]
    process.kill()
    process.wait()
    assert max(steps) > 300
    gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert max(gaps) < 300  # three seconds, on a busy machine too


def confident(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A metric that is infinite once a model has learned something."""
    del targets
    margins = (outputs[:, 0] - outputs[:, 1]).abs()
    return torch.where(margins > 5, math.inf, margins)


def test_reasons_from_before_an_interruption_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last epoch ended before it, and none ends after it."""
    pause_after_each_step(monkeypatch)
    problem = {"dataset": dict(MOONS), "model": {"kind": "mlp", "hidden": [8]}}
    problem |= {"metrics": ["tests.test_checkpoints:confident"]}
    optimizers = [{"rule": "adam", "lr": 0.3}]
    keys = small_keys(problem=problem, engine="reference", budget={"steps": 39})
    study = Study(**keys | {"optimizers": optimizers})
    study.run(tmp_path / "whole").close()
    interrupt = Hook(37, lambda: os.kill(os.getpid(), signal.SIGINT))
    study.run(tmp_path / "parts", callbacks=[interrupt]).close()
    with Store.open(tmp_path / "parts") as store:
        (stopped,) = store.runs()
    assert (stopped.status, stopped.step) == ("interrupted", 37)
    assert 37 // stopped.spec.steps_per_epoch == 39 // stopped.spec.steps_per_epoch
    study.run(tmp_path / "parts").close()
    runs = []
    for folder in ("whole", "parts"):
        with Store.open(tmp_path / folder) as store:
            runs += store.runs()
    assert runs[0].not_finite["train_confident_epoch"] == "it is inf"
    assert runs[0].not_finite == runs[1].not_finite
    assert runs[0].reason == runs[1].reason
