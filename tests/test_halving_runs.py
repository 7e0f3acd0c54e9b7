"""Studies tuned by successive halving, trained for real: what is kept, stored, resumed, shown."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from optrial.analysis.searches import best_of_trials, rate_ranges
from optrial.records import Record
from optrial.results import Results, load
from optrial.spec import Status
from optrial.study import Study
from tests.conftest import Command
from tests.small import small_keys
from tests.test_sweep import Hook, contents

RUNGS = (6, 3, 2)
STEPS = (9, 18, 36)
HALVED: dict[str, Any] = {
    "problem": {"dataset": {"name": "moons", "n_samples": 500}, "model": "mlp"},
    "budget": {"steps": 36},
    "evaluate": {"every": {"steps": 9}},
    "seeds": 2,
    "engine": "reference",
    "optimizers": [
        {"rule": "sgd", "lr": {"log": [0.01, 1]}, "schedule": ["constant", "cosine"]},
        {"rule": "adam", "lr": [0.001, 0.01, 0.03, 0.1, 1e30, 3e30]},
    ],
    "tune": {
        "sampler": "halving",
        "trials": 6,
        "eta": 2,
        "seeds": 1,
        "select": "validation_loss",
    },
}


def run(folder: Path, study: dict[str, Any] = HALVED, **options: Any) -> Results:
    return Study(**small_keys(**study)).run(folder, checkpoint_seconds=0, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("halved")
    run(where).close()
    return where


def by_rung(records: Sequence[Record], optimizer: str) -> list[dict[str, list[Record]]]:
    """The runs of the tuning by number of steps and by setting, in the order of the store."""
    rungs: dict[int, dict[str, list[Record]]] = {}
    for record in records:
        if record.phase == "tune" and record.optimizer == optimizer:
            rungs.setdefault(record.steps, {}).setdefault(record.setting, []).append(record)
    return [rungs[steps] for steps in sorted(rungs)]


def loss(runs: Sequence[Record]) -> tuple[int, float]:
    """Failed runs, then the mean: the order in which halving prefers settings."""
    finals = [r.metrics.get("validation_loss") for r in runs if r.status is Status.DONE]
    known = [value for value in finals if value is not None]
    return len(runs) - len(known), fmean(known) if known else math.inf


def test_each_rung_keeps_the_best_of_the_one_before(folder: Path) -> None:
    with load(folder) as results:
        records = results.records
    for optimizer in ("sgd", "adam"):
        rungs = by_rung(records, optimizer)
        assert [len(rung) for rung in rungs] == list(RUNGS)
        assert [runs[0].steps for rung in rungs for runs in list(rung.values())[:1]] == list(STEPS)
        for before, after in pairwise(rungs):
            best = sorted(before, key=lambda setting: loss(before[setting]))
            assert set(after) == set(best[: len(after)])
        last = rungs[-1]
        chosen = {r.setting for r in records if r.phase == "report" and r.optimizer == optimizer}
        assert chosen == {min(last, key=lambda setting: loss(last[setting]))}
    diverged = [r for r in records if r.status is Status.DIVERGED]
    assert {r.rung for r in diverged} == {1}  # in the first rung, which leaves them out


def test_seeds_of_the_tuning_are_its_own_and_the_test_split_is_not_used(folder: Path) -> None:
    with load(folder) as results:
        tuning = [r for r in results.records if r.phase == "tune"]
        seeds = {r.seed for r in results.records if r.phase == "report"}
        curves = results.curves().query("phase == 'tune'")
    assert not {r.seed for r in tuning} & seeds
    assert not curves["metric"].str.startswith("test").any()


@pytest.mark.parametrize(
    "steps",
    [30, *(pytest.param(later, marks=pytest.mark.slow) for later in (140, 230, 290))],
)
def test_interrupted_in_any_rung(folder: Path, tmp_path: Path, steps: int) -> None:
    interrupt = Hook(steps, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path, callbacks=[interrupt]).close()
    assert contents(tmp_path) != contents(folder)
    with load(tmp_path) as results:
        view = results.view().problems[0]
        lengths = {r.steps for c in view.contenders for r in c.records}
        assert len(lengths) == 1  # only one rung is compared
        results.report(tmp_path / "report.html")
    run(tmp_path).close()
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("engine", [pytest.param("stacked", marks=pytest.mark.slow), "numpy"])
def test_every_engine_trains_the_same_rungs(folder: Path, tmp_path: Path, engine: str) -> None:
    with (
        run(tmp_path, HALVED | {"engine": engine, "compile": "never"}) as results,
        load(folder) as others,
    ):
        for optimizer in ("sgd", "adam"):
            ours, theirs = (by_rung(r.records, optimizer) for r in (results, others))
            assert [list(rung) for rung in ours] == [list(rung) for rung in theirs]


def test_the_audit_compares_runs_of_one_length(folder: Path) -> None:
    """Rungs shorter than the steps whose batches are hashed are paired as well."""
    with load(folder) as results:
        alike, seeds = results.view().paired_seeds
        assert "E07" not in {finding.rule for finding in results.audit().findings}
    assert alike == seeds == 3


def test_values_of_different_rungs_are_never_mixed(folder: Path) -> None:
    with load(folder) as results:
        (problem,) = results.view().problems
        curves = results.best_of_trials()
    metric = "validation_loss"
    assert best_of_trials(problem) == {}
    assert curves.empty
    for line in problem.sensitivity(metric):
        assert {r.steps for o in problem.optimizers for runs in o.finalists.values() for r in runs
                if o.name == line.optimizer} == {36}  # fmt: skip
        assert len(line.points) == 2
    assert set(rate_ranges(problem, metric)) == {"sgd", "adam"}
    titles = [search.title for search in problem.searches]
    assert titles[:3] == [
        "sgd, rung 1 of 3: 9 steps",
        "sgd, rung 2 of 3: 18 steps",
        "sgd, rung 3 of 3: 36 steps",
    ]
    assert [len(search.trials) for search in problem.searches] == [*RUNGS, *RUNGS]
    for search in problem.searches:
        assert all(summary.runs == 1 for summary in search.trials)
    assert [len(o.tried) for o in problem.optimizers] == [6, 6]


@pytest.mark.slow
def test_tables_pages_and_papers_show_the_rungs(
    folder: Path, optrial: Command, tmp_path: Path
) -> None:
    with load(folder) as results:
        runs, funnel = results.runs(), results.funnel()
        page = results.report(tmp_path / "report.html").read_text()
    assert runs["rung"].dropna().value_counts().to_dict() == {1: 12, 2: 6}
    assert funnel["settings"].tolist() == [6, 1, 6, 1]
    assert funnel["planned"].tolist() == [11, 2, 11, 2]
    assert "rung 1 of 3: 9 steps" in page
    shown = optrial("runs", folder).out
    assert "rung" in shown.splitlines()[0]
    assert optrial("export", folder, "--out", tmp_path / "paper").status == 0
    text = (tmp_path / "paper" / "study.md").read_text()
    assert "6 for 9 steps, 3 for 18 steps and 2 for 36 steps" in text
    assert optrial("figures", folder, "--out", tmp_path / "figures").status == 0


def test_the_command_says_what_each_rung_trains(optrial: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(small_keys(**HALVED)), encoding="utf-8")
    planned = optrial("plan", study).out
    assert "6, 3 and 2 trials of each optimizer, with 1/4, 1/2 and all of the budget" in planned
    assert "22 runs" in planned
    said = optrial("run", study).err
    assert "rung 1 of 3, 6 trials of each optimizer with 1/4 of the budget" in said
    assert "rung 3 of 3, the best 2 of each optimizer with the whole budget" in said
