"""Makes the stores of older versions in this folder, by the code that wrote them.

    git archive COMMIT src | tar x -C FOLDER
    PYTHONPATH=FOLDER/src python tests/records/stores/make.py version-N.db

Version 2 is that of commit 0e379c5, which is optrial 0.1.0, version 3 that of 36c9d8a.

A store holds two plans, runs that are done and that diverged, runs that are not started, and a
stack that was interrupted. The file `version-N.json` beside it has its numbers, as the old code
reads them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from optrial import Study
from optrial.records import Store

KEYS = {
    "name": "old",
    "problem": {
        "dataset": {"name": "moons", "n_samples": 100},
        "model": {"kind": "mlp", "hidden": [4]},
    },
    "batch_size": 20,
    "budget": {"steps": 30},
    "evaluate": {"every": {"steps": 10}},
    "optimizers": [{"rule": "sgd", "lr": [0.1, 1e30]}, {"rule": "adam", "lr": 0.01}],
    "claims": ["adam > sgd on test_accuracy"],
    "engine": "stacked",
    "compile": "never",
}


class Interrupting:
    """Watcher of version 2 and callback of version 3: interrupts after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step(self, count: int) -> None:
        self.left -= count
        if self.left <= 0 < self.left + count:
            os.kill(os.getpid(), signal.SIGINT)

    stepped = on_step

    def on_message(self, text: str) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def main() -> None:
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        Study(**KEYS, seeds=2).run(folder).store.close()
        watcher = Interrupting(steps=40)
        more = Study(**{**KEYS, "seeds": 3})
        try:
            more.run(folder, callbacks=[watcher], checkpoint_seconds=0).store.close()
        except TypeError:
            more.run(folder, watcher=watcher, checkpoint_seconds=0).store.close()
        with Store.open(folder) as store:
            numbers = {
                "study": store.study(),
                "runs": {
                    run.run_id: [str(run.status), run.step, run.reason, dict(run.metrics)]
                    for run in store.runs()
                },
                "curves": {
                    f"{run_id} {metric}": [curve.steps.tolist(), curve.values.tolist()]
                    for (run_id, metric), curve in store.curves().items()
                },
            }
        import sqlite3

        with suppress(FileNotFoundError):
            target.unlink()
        connection = sqlite3.connect(Path(folder, "study.db"))
        connection.execute(f"VACUUM INTO '{target}'")
        connection.close()
    target.with_suffix(".json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
