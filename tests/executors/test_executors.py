"""The numbers of a study do not depend on where, how many at once, or how often it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optrial.callbacks import Callback
from optrial.records import Store
from optrial.results import Results
from optrial.study import Study
from tests.small import small_keys

KEYS = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 500},
        "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    },
    "budget": {"steps": 60},
    "evaluate": {"every": {"steps": 7}},
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}, {"rule": "sgd", "lr": [0.1, 1e30]}],
}
TIMES = ("seconds", "warm_up_seconds", "replicate_difference")


def contents(folder: Path) -> dict[Any, Any]:
    """Everything that a store holds about runs, except times and the order of commits."""
    entries: dict[Any, Any] = {}
    with Store.open(folder) as store:
        for record in store.runs(everything=True):
            facts = record.facts.with_values(dict.fromkeys((*TIMES, "evaluation")))
            if check := record.facts.evaluation:  # the state of generators is that of a process
                entries[record.run_id, "evaluation"] = (
                    check.changes_buffers,
                    check.uses_generators,
                )
            entries[record.run_id] = (record.stack, record.status, record.step, record.reason)
            entries[record.run_id, "values"] = (dict(record.metrics), facts)
        for key, curve in store.curves().items():
            entries[key] = (curve.steps.tobytes(), curve.values.tobytes())
    return entries


class Notes(Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.steps = 0

    def on_message(self, text: str) -> None:
        self.texts.append(text)

    def on_step(self, count: int) -> None:
        self.steps += count


def run(folder: Path, executor: str = "local", n_jobs: Any = "auto", **options: Any) -> Results:
    study = KEYS | options.pop("study", {})
    parallel = {"executor": executor, "n_jobs": n_jobs, **options.pop("parallel", {})}
    options.setdefault("checkpoint_seconds", 0)
    return Study(**small_keys(**study)).run(folder, parallel=parallel, **options)


@pytest.fixture(scope="module", autouse=True)
def _one_stack() -> Iterator[None]:
    """Train as many runs at once however busy the machine is: stacks are part of the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optrial.engine.select.choice._WIDTHS", (256,))
        yield


@pytest.fixture(scope="module", params=["reference", "stacked"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study by each engine, trained in this process."""
    folder = tmp_path_factory.mktemp(request.param)
    run(folder, study={"engine": request.param}).close()
    return folder


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_processes_store_what_one_process_stores(whole: Path, workers: int, tmp_path: Path) -> None:
    engine = whole.name.rstrip("0123456789")
    run(tmp_path, "processes", workers, study={"engine": engine}).close()
    assert contents(tmp_path) == contents(whole)
