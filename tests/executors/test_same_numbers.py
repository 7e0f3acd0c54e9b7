"""Recurrent cells, attention, dropout, texts, groups, searches: equal records everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from optrial.callbacks import Callback
from optrial.engine import Choice, Engines
from optrial.plan import pack
from optrial.records import Store
from optrial.spec import RunFacts
from optrial.study import Study
from tests.small import small_keys

NOT_COMPARED = {"seconds", "warm_up_seconds", "evaluation"}
"""Facts about time, and about the generators of a process."""

WORKERS = [
    *(pytest.param("processes", count, marks=pytest.mark.slow) for count in (1, 2, 4)),
    *(pytest.param("ray", count, marks=pytest.mark.slow) for count in (1, 2, 4)),
]


class Attending(nn.Module):
    """A transformer's layer over the coordinates of a point, with dropout within attention."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(1, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.2, batch_first=True)
        self.last = nn.Linear(32, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.first(inputs.unsqueeze(-1)))
        outputs: Tensor = self.last(hidden.mean(1))
        return outputs


def searched(**tune: Any) -> dict[str, Any]:
    return {
        "budget": {"steps": 18},
        "evaluate": {"every": {"steps": 6}, "on": ["validation", "test"]},
        "optimizers": [
            {"rule": "momentum", "lr": {"log": [0.01, 1]}, "momentum": {"lin": [0, 0.95]}},
            {"rule": "adam", "lr": {"log": [0.001, 0.1]}, "weight_decay": {"log": [1e-4, 0.1]}},
        ],
        "tune": tune,
    }


def on_moons(**model: Any) -> dict[str, Any]:
    return {
        "problem": {"dataset": {"name": "moons", "n_samples": 300}, "model": model},
        "batch_size": [32, 64, 96, 128],  # as many stacks
        "optimizers": [{"rule": "adam", "lr": [0.001, 0.01]}, {"rule": "sgd", "lr": 0.1}],
    }


STUDIES: dict[str, dict[str, Any]] = {
    "recurrent": on_moons(kind="rnn", cell="lstm", hidden=32, dropout=0.2),
    "attention": on_moons(factory="tests.executors.test_same_numbers:Attending"),
    "wide": on_moons(kind="mlp", hidden=[256, 256], dropout=0.2),
    "text": {
        "problem": {
            "dataset": {"name": "coriolanus", "context": 8, "test_fraction": 0.05},
            "model": {"kind": "transformer", "width": 16, "heads": 2, "depth": 1, "dropout": 0.1},
            "metrics": ["accuracy", "bits_per_byte"],
        },
        "batch_size": [2, 4],
        "optimizers": [
            {
                "rule": "muon",
                "lr": [0.01, 0.02],
                "groups": [
                    {"match": ["head", "vectors"], "rule": "adamw", "lr": 0.003},
                    {"match": "embedding", "rule": "sgd", "lr": {"times": [1, 10]}},
                ],
            },
            {"rule": "adamw", "lr": 0.003, "groups": [{"match": "head", "freeze": True}]},
        ],
    },
    "halved": searched(sampler="halving", trials=4, eta=2, seeds=2),
    "sampled": searched(sampler="sobol", trials=4, seeds=2),
}


class Planned(Callback):
    """Ends a study once it is planned."""

    def on_plan(self, *_: int, **__: int) -> None:
        raise InterruptedError


def records(folder: Path) -> dict[Any, Any]:
    """Everything that a store holds, except times and the state of generators."""
    names = [field.name for field in fields(RunFacts) if field.name not in NOT_COMPARED]
    entries: dict[Any, Any] = {}
    with Store.open(folder) as store:
        for record in store.runs():
            facts = {name: getattr(record.facts, name) for name in names}
            entries[record.run_id] = (record.stack, record.status, record.step, record.reason)
            entries[record.run_id, "values"] = (dict(record.metrics), facts)
        for key, curve in store.curves().items():
            entries[key] = (curve.steps.tobytes(), curve.values.tobytes())
    return entries


def study(name: str) -> Study:
    keys = small_keys(
        budget={"steps": 12},
        evaluate={"every": {"steps": 5}},
        seeds=2,
        engine="stacked",
        compile="never",
    )
    return Study(**(keys | STUDIES[name]))


@pytest.fixture(
    scope="module",
    params=[*((name, "") for name in STUDIES), ("wide", "+onednn")],
    ids="".join,
)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Study, Path, Path]:
    """A study, a store with its plan, and a store in which this process has trained it.

    The library of large products is the one that measures fastest, or oneDNN.
    """
    name, library = request.param
    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        if library:
            patch.setattr(
                Engines,
                "choose",
                lambda self, runs: [Choice(f"stacked{library}", pack(runs, len(runs)), 0.0)],
            )
        with pytest.raises(InterruptedError):
            study(name).run(folder / "planned", callbacks=[Planned()])
    shutil.copytree(folder / "planned", folder / "local")
    study(name).run(folder / "local", parallel={"executor": "local"}).close()
    return study(name), folder / "planned", folder / "local"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster on this machine, to which the program is connected."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("executor", "count"), WORKERS)
def test_records_do_not_depend_on_executor_and_workers(
    trained: tuple[Study, Path, Path],
    executor: str,
    count: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if executor == "ray":
        if find_spec("ray") is None:
            pytest.skip("Ray is not installed")
        request.getfixturevalue("cluster")
    same_study, planned, local = trained
    shutil.copytree(planned, tmp_path / "out")
    parallel = {"executor": executor, "n_jobs": count}
    same_study.run(tmp_path / "out", parallel=parallel).close()
    assert records(tmp_path / "out") == records(local)
