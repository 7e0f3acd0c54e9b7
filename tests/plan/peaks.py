"""The memory that a stack takes at its peak, beside the estimate; run it in a process of its own.

    python -m tests.plan.peaks '{"problem": ...}'

trains all runs of a study as one stack, and prints JSON: the measured peak and the estimate in
bytes, and the statuses.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from optrial.callbacks import Callback
from optrial.engine import release_memory
from optrial.interruption import Stop
from optrial.plan import estimate
from optrial.records import Store, WeightFiles
from optrial.spec import StackId
from optrial.study import Study
from optrial.sweep import planned_runs, sweep
from tests.small import small_keys


class Own(nn.Module):
    """A model as users write it."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(input_shape[0], width)
        self.middle = nn.Linear(width, width)
        self.last = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.last(self.middle(self.first(x).relu()).relu())


def resident(name: str) -> int:
    """Return a size of this process in bytes: `VmRSS` now, `VmHWM` at its peak."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    match = re.search(rf"{name}:\s+(\d+) kB", text)
    assert match
    return 1024 * int(match[1])


class StartOfPeak(Callback):
    """Makes `VmHWM` begin again, because loading the data takes more than training."""

    def on_plan(self, **_: int) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def train(keys: dict[str, Any]) -> tuple[int, int, list[str]]:
    """Train a study; return its peak beside this process, the estimate, and the statuses."""
    release_memory()
    before = resident("VmRSS")
    study = Study(**keys)
    datasets = study.load_datasets()
    plan = study.plan(datasets)
    (dataset,) = datasets.values()
    with tempfile.TemporaryDirectory() as folder, Store.open(folder, create=True) as store:
        # One stack, so that nothing is tried to choose its width.
        stack = StackId.of(plan.runs[0].engine, plan.runs, 1)
        planned = planned_runs(plan, dict.fromkeys((run.run_id for run in plan.runs), stack))
        store.save_plan(plan.hash, plan.studies.as_dict(), planned)
        weights = WeightFiles(Path(folder)) if study.config.save else None
        start = StartOfPeak()
        sweep(plan, datasets, store, Stop(), checkpoint_seconds=0, callback=start, weights=weights)
        peak = resident("VmHWM") - before
        statuses = [str(record.status) for record in store.runs()]
    return peak, estimate(plan.runs, dataset, len(plan.runs)).peak_bytes, statuses


def main() -> None:
    """Measure the study of the command line."""
    keys = json.loads(sys.argv[1])
    small = small_keys(optimizers=keys["optimizers"][:1], engine=keys["engine"], compile="never")
    train(small)  # loads all libraries
    peak, expected, statuses = train(keys)
    sys.stdout.write(json.dumps({"peak": peak, "estimate": expected, "statuses": statuses}) + "\n")


if __name__ == "__main__":
    main()
