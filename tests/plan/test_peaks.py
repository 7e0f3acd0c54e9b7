"""The estimate of memory lies near measured peaks, and studies keep within real limits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.tolerance import MEMORY_ABOVE, MEMORY_BELOW

BLOBS = {"name": "blobs", "n_samples": 2000, "n_features": 200, "centers": 10}
MLP = {"kind": "mlp", "hidden": [1000, 1000]}
RATES = {"log": [1e-4, 1e-2], "points": 4}
LARGE: dict[str, Any] = {
    "problem": {"dataset": BLOBS, "model": MLP},
    "batch_size": 64,
    "budget": {"steps": 4},
    "evaluate": {"every": {"steps": 2}},
    "seeds": 2,
    "engine": "stacked",
    "compile": "never",
}


def by(rule: str, **changes: Any) -> dict[str, Any]:
    """Eight runs of a rule."""
    return {"optimizers": [{"rule": rule, "lr": RATES}], **changes}


def on(model: dict[str, Any], **dataset: Any) -> dict[str, Any]:
    return {"dataset": BLOBS | dataset, "model": model}


OWN = {"factory": "tests.plan.peaks:Own", "args": {"width": 3000}}
ALONE = {"engine": "reference", "seeds": 1}
WORKLOADS: dict[str, dict[str, Any]] = {
    "no state": by("sgd"),
    "one average": by("momentum"),
    "three averages": by("amsgrad"),
    "batch norm and dropout": by("adam", problem=on(MLP | {"batch_norm": True, "dropout": 0.2})),
    "best weights": by("momentum", save="best"),
    "final weights": by("momentum", save="final"),
    "probes": by("momentum", probes=["gradient_norm", "update_to_weight_ratio"]),
    "evaluation": by("sgd", problem=on(MLP, n_samples=40_000)),
    "large batches": by("sgd", problem=on(MLP, n_samples=4000), batch_size=2000),
    "convolutions": by(
        "adam",
        problem={"dataset": "digits", "model": {"kind": "cnn", "widths": [32, 64]}},
        batch_size=256,
    ),
    "large data": by("sgd", problem=on({"kind": "logistic"}, n_samples=145_000)),
    "one large model": {
        **ALONE,
        "problem": on({"kind": "mlp", "hidden": [3000, 3000]}),
        "optimizers": [{"rule": "adam", "lr": 0.001}],
    },
    "model of the user": {
        **ALONE,
        "problem": {"dataset": BLOBS, "model": OWN},
        "optimizers": [{"torch": "torch.optim:Adam", "lr": 0.001}],
    },
}


def answer_of(module: str, *arguments: str) -> dict[str, Any]:
    """Return what a module prints as JSON in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_estimate_is_near_the_measured_peak(name: str) -> None:
    keys = WORKLOADS.get(name) or by("adam")
    answer = answer_of("tests.plan.peaks", json.dumps(LARGE | keys))
    assert set(answer["statuses"]) == {"done"}
    assert answer["estimate"] > MEMORY_BELOW * answer["peak"]
    assert answer["estimate"] < MEMORY_ABOVE * answer["peak"]


ALLOWED = 400_000_000
"""Bytes that hold four of the eight runs, not all."""


def check_limited(kind: str) -> None:
    answer = answer_of("tests.plan.limited", json.dumps(LARGE | by("adam")), kind, str(ALLOWED))
    assert answer["statuses"] == ["done"] * 8
    assert max(answer["widths"]) < 8
    assert any("runs at a time" in note for note in answer["notes"])


@pytest.mark.slow
def test_stacks_keep_within_the_limit_of_the_process() -> None:
    check_limited("data")


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of this machine with a limit, if it lets us create one."""
    for mount, name in (("memory", "memory.limit_in_bytes"), (".", "memory.max")):
        folder = Path("/sys/fs/cgroup", mount, "optrial-test")
        with suppress(OSError):
            folder.mkdir()
        if (folder / name).exists():
            (folder / name).write_text(str(ALLOWED), encoding="utf-8")
            yield folder
            folder.rmdir()
            return
        with suppress(OSError):
            folder.rmdir()
    pytest.skip("no control group for memory can be created here")


@pytest.mark.slow
def test_stacks_keep_within_the_limit_of_a_container(group: Path) -> None:
    check_limited(str(group))
