"""A study under a real limit on memory; run it in a process of its own.

    python -m tests.plan.limited '{"problem": ...}' data 300000000
    python -m tests.plan.limited '{"problem": ...}' /sys/fs/cgroup/memory/GROUP 300000000

allows so many bytes beside the program itself, trains the study, and prints JSON: the statuses, the
widths of the stacks, the messages.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

from optrial.callbacks import Callback
from optrial.study import Study
from tests.plan.peaks import resident, train
from tests.small import small_keys


class Heard(Callback):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_message(self, text: str) -> None:
        """Keep a message."""
        self.notes.append(text)


def limit(kind: str, count: int) -> None:
    """Limit this process to so many bytes more than it has."""
    if kind == "data":
        most = resident("VmData") + count
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    else:  # a control group, which does not count what the process has already
        (Path(kind) / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")


def main() -> None:
    """Train the study of the command line under its limit."""
    keys, heard = json.loads(sys.argv[1]), Heard()
    train(small_keys(optimizers=keys["optimizers"][:1], engine=keys["engine"], compile="never"))
    limit(sys.argv[2], int(sys.argv[3]))
    with (
        tempfile.TemporaryDirectory() as folder,
        Study(**keys).run(folder, callbacks=[heard], checkpoint_seconds=0) as results,
    ):
        widths = Counter(record.stack for record in results.records)
        statuses = [str(record.status) for record in results.records]
    answer = {"statuses": statuses, "widths": list(widths.values()), "notes": heard.notes}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
