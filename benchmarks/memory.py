"""Compare the memory of training a stack with the planner's estimate.

Each workload trains uncompiled in a fresh process, all runs in one stack, up to `WIDEST`. A small
stack is trained first to load all code; the growth of peak resident memory beyond it counts: data,
weights, gradients, the rule's state, activations, temporary arrays.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any

from workloads import WORKLOADS

from optrial.engine import StackedEngine, tensor_splits
from optrial.plan import estimate, pack

WIDEST = 32
STEPS = 5


def compare(name: str) -> dict[str, Any]:
    """Measure a workload in a fresh process; return bytes, expected bytes and their ratio."""
    command = [sys.executable, __file__, name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, Any] = json.loads(answer.splitlines()[-1])
    ratio = measured["peak_bytes"] / measured["expected_bytes"]
    return {"workload": name, "about": WORKLOADS[name].about, **measured, "ratio": ratio}


def show(row: dict[str, Any]) -> None:
    """Print the result of one workload."""
    peak, expected = (row[key] / 2**20 for key in ("peak_bytes", "expected_bytes"))
    print(
        f"{row['workload']} {row['about']}, {row['width']} runs: peak {peak:.0f} MiB, "
        f"expected {expected:.0f} MiB, ratio {row['ratio']:.2f}",
        flush=True,
    )


def peak_memory() -> int:
    """Return the peak resident memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def train(name: str) -> dict[str, int]:
    """Train a stack for a few steps, in this process."""
    _stack("W1", 2)
    before = peak_memory()
    width, expected = _stack(name, WIDEST)
    peak = peak_memory() - before
    return {"width": width, "peak_bytes": peak, "expected_bytes": expected}


def _stack(name: str, widest: int) -> tuple[int, int]:
    """Train a stack of a workload; return its number of runs and the expected bytes."""
    dataset = WORKLOADS[name].data()
    runs = pack(WORKLOADS[name].specs(dataset), widest)[0]
    engine = StackedEngine(runs, dataset, tensor_splits(dataset, "float32", "cpu"))
    engine.start(1)
    engine.advance(STEPS)
    return len(runs), estimate(runs, dataset, len(runs)).peak_bytes


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1])))
