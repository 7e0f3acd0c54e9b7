"""A run beside one that changes the process gives the bits that it gives alone."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optrial.results import Results
from optrial.spec import Status
from optrial.study import Study
from tests.small import small_keys

WITHIN: dict[str, Any] = {}
"""How the process was before, and what the misbehaving optimizer does in its fifth step."""


class Misbehaving(torch.optim.SGD):
    """Changes the process in its fifth step."""

    calls = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        self.calls += 1
        if self.calls == 5:
            WITHIN["act"]()


def close_streams() -> None:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


ACTS = {
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(OMP_NUM_THREADS="7", MISBEHAVING="1"),
    "path": sys.path.clear,
    "streams": close_streams,
    "filters": lambda: warnings.simplefilter("error"),
    "recursion": lambda: sys.setrecursionlimit(300),
    "floats": lambda: np.seterr(all="raise"),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "threads": lambda: torch.set_num_threads(2),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "gradients": lambda: torch.set_grad_enabled(False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "seeds": lambda: (torch.manual_seed(7), np.random.seed(7)),
}


def state() -> list[object]:
    return [
        *(Path.cwd(), dict(os.environ), list(sys.path), sys.stdout, sys.stderr),
        *(sys.getrecursionlimit(), np.geterr(), torch.get_default_dtype(), list(warnings.filters)),
        *(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()),
        *(torch.is_grad_enabled(), torch.is_anomaly_enabled()),
    ]


def outcome(results: Results) -> tuple[object, ...]:
    """The outcome of the last run, and its weights."""
    with results:
        record = results.records[-1]
        weights = results.store.curve(record.run_id, "train_loss").values.tobytes()
        return record.status, record.metrics, record.facts.parameters_sha256, weights


@pytest.mark.parametrize("act", ACTS)
def test_a_run_is_the_same_beside_one_that_changes_the_process(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(WITHIN, "act", ACTS[act])
    quiet = {"rule": "adam", "lr": 0.01}
    loud = {"torch": "tests.test_misbehaving_code:Misbehaving", "lr": 0.1}
    alone = Study(**small_keys(optimizers=[quiet], save="final"))
    beside = Study(**small_keys(optimizers=[loud, quiet], save="final"))
    expected = outcome(alone.run("alone"))
    assert expected[0] is Status.DONE
    before = state()
    assert outcome(beside.run("beside")) == expected
    assert state() == before
    assert len(list((tmp_path / "beside" / "weights").iterdir())) >= 1
