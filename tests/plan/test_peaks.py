"""The estimate of memory lies near measured peaks, and studies keep within real limits."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

WIDE = {"name": "blobs", "n_samples": 2000, "n_features": 200, "centers": 10}
LARGE: dict[str, Any] = {
    "problem": {"dataset": WIDE, "model": {"kind": "mlp", "hidden": [1000, 1000]}},
    "batch_size": 64,
    "budget": {"steps": 4},
    "evaluate": {"every": {"steps": 2}},
    "seeds": 2,
    "engine": "stacked",
    "compile": "never",
}
RATES = {"log": [1e-4, 1e-2], "points": 4}


def on(model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"problem": {"dataset": WIDE | changes, "model": model}}


WORKLOADS: dict[str, dict[str, Any]] = {
    "no state": {"optimizers": [{"rule": "sgd", "lr": RATES}]},
    "one state": {"optimizers": [{"rule": "momentum", "lr": RATES}]},
    "two states": {"optimizers": [{"rule": "adam", "lr": RATES}]},
    "three states": {"optimizers": [{"rule": "adan", "lr": RATES}]},
}


def measured(keys: dict[str, Any]) -> dict[str, Any]:
    """Train a study in a process of its own; return what `tests.plan.peaks` prints."""
    command = [sys.executable, "-m", "tests.plan.peaks", json.dumps(LARGE | keys)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])
