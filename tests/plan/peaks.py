"""The memory that a study takes at its peak, beside the estimate; run it in a process of its own.

    python -m tests.plan.peaks '{"problem": ...}'

prints JSON: the measured peak and the estimate in bytes, the width of the stacks, the statuses.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from optrial.callbacks import Callback
from optrial.engine import release_memory
from optrial.plan import estimate
from optrial.study import Study
from tests.small import small_keys


def resident(name: str) -> int:
    """Return a size of this process in bytes: `VmRSS` now, `VmHWM` at its peak."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    match = re.search(rf"{name}:\s+(\d+) kB", text)
    assert match
    return 1024 * int(match[1])


def forget_peak() -> None:
    """Let `VmHWM` begin again."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


class FromTraining(Callback):
    """Measures the training, not the choice of its engine, which tries several if memory allows."""

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Forget the peak of the choice."""
        forget_peak()


def train(keys: dict[str, Any]) -> tuple[Study, Counter[str], int]:
    """Train a study; return it, the number of runs of each status, and the width of its stacks."""
    study = Study(**keys)
    with (
        tempfile.TemporaryDirectory() as folder,
        study.run(folder, checkpoint_seconds=0, callbacks=[FromTraining()]) as results,
    ):
        widths = Counter(record.stack for record in results.records)
        statuses = Counter(str(record.status) for record in results.records)
    return study, statuses, max(widths.values())


def main() -> None:
    """Measure the study of the command line."""
    keys = json.loads(sys.argv[1])
    train(small_keys(**{**keys, **small_keys(), "engine": keys["engine"]}))  # loads all libraries
    release_memory()
    before = resident("VmRSS")
    study, statuses, width = train(keys)
    peak = resident("VmHWM") - before
    dataset = study.load_data()
    expected = estimate(study.plan(dataset).runs, dataset, width)
    answer = {"peak": peak, "estimate": expected.peak_bytes, "width": width, "statuses": statuses}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
