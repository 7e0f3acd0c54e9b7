"""Studies that tune, trained for real: what is stored, resumed, shown."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sql

from optrial.errors import StoreError
from optrial.records import Record, Store
from optrial.results import Results, load
from optrial.spec import FINAL, Status
from optrial.study import Study
from tests.conftest import Command
from tests.records.connections import transaction
from tests.small import small_keys
from tests.test_sweep import Hook, contents, killed_again_and_again

TUNED = {
    "problem": {"dataset": {"name": "moons", "n_samples": 500}, "model": "mlp"},
    "budget": {"steps": 30},
    "evaluate": {"every": {"steps": 10}},
    "seeds": 2,
    "engine": "stacked",
    "optimizers": [{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": [0.01, 1e30]}],
    "tune": {"select": "validation_loss", "seeds": 2},
}


def run(folder: Path, study: dict[str, Any] = TUNED, **options: Any) -> Results:
    return Study(**small_keys(**study)).run(folder, checkpoint_seconds=0, **options)


def phase(results: Results, name: str) -> list[Record]:
    return [record for record in results.records if record.phase == name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that tuned and reported, to look at."""
    where = tmp_path_factory.mktemp("tuned")
    run(where).store.close()
    return where


RANGES = [{"rule": rule, "lr": {"log": [0.01, 1]}} for rule in ("sgd", "adam")]
SAMPLERS = {
    "grid": {},
    "random": {"optimizers": RANGES, "tune": {"sampler": "random", "trials": 2, "seeds": 2}},
    "sobol": {"optimizers": RANGES, "tune": {"sampler": "sobol", "trials": 2, "seeds": 2}},
    "tpe": {"optimizers": RANGES, "tune": {"sampler": "tpe", "trials": 4, "seeds": 1}},
}
COMMANDS = ("report", "show", "audit", "runs", "figures", "compare", "curves")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_command_reads_a_study_whose_tuning_was_interrupted(
    sampler: str, tmp_path: Path, optrial: Command
) -> None:
    """After each wave and within it; running it again completes it to the same bits."""
    study = TUNED | {"engine": "reference", **SAMPLERS[sampler]}
    run(tmp_path / "whole", study).close()
    whole = contents(tmp_path / "whole")
    for steps in range(15, 330, 105):
        folder = tmp_path / str(steps)
        interrupt = Hook(steps, lambda: os.kill(os.getpid(), signal.SIGINT))
        run(folder, study, callbacks=[interrupt]).close()
        for command in COMMANDS:
            names = ["sgd", "adam"] if command == "compare" else []
            assert "Traceback" not in optrial(command, folder, *names).err
        page = (folder / "report.html").read_text()
        with load(folder) as results:
            reported = bool(results.reported)
            ended = all(record.status in FINAL for record in results.records)
        assert ("Tuning has not ended" in page) == (not reported)
        assert ("provisional" in page) == (not reported or not ended)
        run(folder, study).close()
        assert contents(folder) == whole


def test_trials_are_equal_and_their_seeds_apart(folder: Path) -> None:
    with load(folder) as results:
        trials, reported = phase(results, "tune"), phase(results, "report")
    counts = {
        name: len({r.setting for r in trials if r.optimizer == name}) for name in ("sgd", "adam")
    }
    assert counts["sgd"] == counts["adam"] > 2  # the grids have grown
    assert len(trials) == 2 * 2 * counts["sgd"]
    assert [(r.optimizer, r.seed) for r in reported] == [
        (name, seed) for name in ("sgd", "adam") for seed in (0, 1)
    ]
    assert not {r.seed for r in trials} & {r.seed for r in reported}


def test_the_report_has_the_setting_that_is_best_on_validation(folder: Path) -> None:
    with load(folder) as results:
        trials, reported = phase(results, "tune"), phase(results, "report")
    for name in ("sgd", "adam"):
        losses: dict[str, list[float]] = {}
        for record in trials:
            if record.optimizer == name:
                loss = record.metrics["validation_loss"]
                losses.setdefault(record.setting, []).append(np.inf if loss is None else loss)
        best = min(losses, key=lambda setting: np.mean(losses[setting]))
        assert {r.setting for r in reported if r.optimizer == name} == {best}
    assert Status.DIVERGED in {record.status for record in trials}


def test_the_test_split_chooses_nothing(tmp_path: Path) -> None:
    """With labels of the test split turned round, the best there is the worst: nothing changes."""
    chance = np.random.default_rng(0)
    chosen, accuracies = [], []
    inputs = chance.normal(size=(400, 2))
    labels = (inputs.sum(axis=1) > 0).astype(int)
    for number, turned in enumerate((labels, 1 - labels)):
        file = tmp_path / f"{number}.npz"
        np.savez(
            file,
            train_inputs=inputs[:200],
            train_targets=labels[:200],
            validation_inputs=inputs[200:300],
            validation_targets=labels[200:300],
            test_inputs=inputs[300:],
            test_targets=turned[300:],
        )
        problem = {"dataset": str(file), "model": {"kind": "mlp", "hidden": []}}
        study = TUNED | {
            "problem": problem,
            "optimizers": [{"rule": "sgd", "lr": [1e-6, 0.01, 1.0]}],
            "tune": {"select": "validation_loss", "extend": False, "seeds": 1},
        }
        with run(tmp_path / str(number), study) as results:
            trials = results.curves().query("phase == 'tune'")
            assert not trials["metric"].str.startswith("test").any()
            chosen.append(phase(results, "report")[0].setting)
            accuracies.append(results.summary()["test_accuracy_mean"].item())
    assert chosen[0] == chosen[1]
    assert accuracies[0] > 0.9 > 0.1 > accuracies[1]


def test_running_again_trains_nothing(folder: Path) -> None:
    before = contents(folder)
    with run(folder, callbacks=[Hook(1, lambda: pytest.fail("a step was taken"))]):
        assert contents(folder) == before


def plan_rows(folder: Path) -> list[tuple[str, int]]:
    """Hash and number of runs of every plan that was saved."""
    query = (
        "select hash, count(*) from plans join plan_runs on plan_id = plans.id group by plans.id"
    )
    with transaction(folder) as connection:
        return [tuple(row) for row in connection.execute(sql.text(query))]


def test_every_wave_is_a_plan_with_the_hash_of_the_first(folder: Path) -> None:
    hashes, sizes = zip(*plan_rows(folder), strict=True)
    assert len(set(hashes)) == 1
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) > 2
    assert hashes[0] == Study(**small_keys(**TUNED)).plan().hash


def test_more_seeds_keep_the_trials(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with run(tmp_path, TUNED | {"seeds": 3}) as results:
        assert len(phase(results, "report")) == 6
    before, after = contents(folder), contents(tmp_path)
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


class CrashError(Exception):
    """Stands for a process that ends where it is raised."""


class CrashAt(Hook):
    """Crashes when the sweep says something for the second time, or names the chosen settings."""

    def __init__(self, method: str, words: str) -> None:
        super().__init__(0, lambda: None)
        self.method, self.words, self.heard = method, words, 0

    def _hear(self, method: str, text: str) -> None:
        self.heard += method == self.method and self.words in text
        if self.heard == (1 if self.words == "chosen:" else 2):
            raise CrashError

    def on_prepare(self, task: str) -> None:
        self._hear("on_prepare", task)

    def on_message(self, text: str) -> None:
        self._hear("on_message", text)


MOMENTS = {
    "in the first wave": (50, None),
    "in a later wave": (215, None),
    "before a wave is planned": (0, ("on_prepare", "")),
    "when a wave is planned": (0, ("on_message", "tuning")),
    "when the report is planned": (0, ("on_message", "chosen:")),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_within_and_between_waves(folder: Path, tmp_path: Path, moment: str) -> None:
    steps, at = MOMENTS[moment]
    if at:
        with pytest.raises(CrashError):
            run(tmp_path, callbacks=[CrashAt(*at)])
    else:
        interrupt = Hook(steps, lambda: os.kill(os.getpid(), signal.SIGINT))
        run(tmp_path, callbacks=[interrupt]).store.close()
    assert statuses(tmp_path) != statuses(folder)
    run(tmp_path).store.close()
    assert contents(tmp_path) == contents(folder)
    assert plan_rows(tmp_path) == plan_rows(folder)


def statuses(folder: Path) -> list[Status]:
    with Store.open(folder) as store:  # which may have no plan yet
        return [record.status for record in store.runs()]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Killed again and again, then to the end: the same trials, choice and bits."""
    study = TUNED | {"engine": "reference", "budget": {"steps": 60}}
    run(tmp_path / "whole", study).store.close()
    chance = random.Random(0)
    moments = ((chance.randint(0, 400), chance.uniform(1e-6, 0.02)) for _ in itertools.count())
    assert killed_again_and_again(study, tmp_path / "parts", moments) >= 3
    run(tmp_path / "parts", study).store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert plan_rows(tmp_path / "parts") == plan_rows(tmp_path / "whole")


def test_a_trial_that_fails_is_tried_once_and_counts_as_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optrial.engine.backends.reference import ReferenceEngine

    step, failures = ReferenceEngine.step, []

    def fragile(self: ReferenceEngine, batch: Any, number: int) -> tuple[float, int]:
        if self.spec.hyperparameters["lr"] == 0.01 and number == 20:
            failures.append(self.spec.run_id)
            raise ArithmeticError("no number")
        return step(self, batch, number)

    monkeypatch.setattr(ReferenceEngine, "step", fragile)
    study = TUNED | {
        "engine": "reference",
        "optimizers": [{"rule": "sgd", "lr": [0.01, 0.1, 0.001]}],
    }
    with run(tmp_path, study) as results:
        (trials, report) = results.funnel().to_dict("records")
    assert len(failures) == len(set(failures)) == trials["error"] == 2
    assert trials["used"] == trials["planned"] - 2
    assert report["chosen"] != "lr=0.01"
    monkeypatch.undo()
    with run(tmp_path, study) as results:  # tries them again, and decides anew
        assert {record.status for record in results.records} == {Status.DONE}
    run(tmp_path / "whole", study).store.close()
    assert contents(tmp_path) == contents(tmp_path / "whole")


@pytest.mark.one_in(3)
@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe"])
def test_samplers_train_as_many_trials_of_each(tmp_path: Path, sampler: str) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    lr = {"log": [1e-3, 1.0]}
    optimizers = [{"rule": "sgd", "lr": lr}, {"rule": "adam", "lr": lr, "beta1": [0.5, 0.9]}]
    tune = {"sampler": sampler, "trials": 5, "seeds": 1}
    study = TUNED | {"optimizers": optimizers, "tune": tune, "engine": "auto"}
    with run(tmp_path / "whole", study) as results:
        flows = results.funnel().query("phase == 'tune'")
        assert flows["settings"].tolist() == flows["run"].tolist() == [5, 5]
    interrupt = Hook(150, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path / "parts", study, callbacks=[interrupt]).store.close()
    run(tmp_path / "parts", study).store.close()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_tables_and_frames_tell_trials_from_results(folder: Path) -> None:
    with load(folder) as results:
        runs, curves, summary = results.runs(), results.curves("train_loss"), results.summary()
        funnel = results.funnel()
    assert set(runs["phase"]) == set(curves["phase"]) == {"tune", "report"}
    assert summary["optimizer"].tolist() == ["sgd", "adam"]
    assert summary["runs"].tolist() == [2, 2]
    report = funnel.query("phase == 'report'")
    assert report["chosen"].tolist() == summary["setting"].tolist()
    assert report["planned"].tolist() == report["used"].tolist() == [2, 2]
    trials = funnel.query("phase == 'tune'").set_index("optimizer")
    assert trials.loc["adam", "run"] - trials.loc["adam", "used"] == trials.loc["adam", "diverged"]
    assert trials.loc["adam", "diverged"] > 0


def test_a_study_without_tuning_is_all_report(tmp_path: Path) -> None:
    with run(tmp_path, {"seeds": 2}) as results:
        assert set(results.runs()["phase"]) == {"report"}
        (flow,) = results.funnel().to_dict("records")
    assert (flow["planned"], flow["used"], flow["chosen"]) == (2, 2, "")


def test_command_line(optrial: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(json.dumps(small_keys(**TUNED)), encoding="utf-8")
    planned = optrial("plan", study).out
    assert "2 trials of each optimizer on validation loss: 8 runs" in planned
    assert "at most 6 more waves" in planned
    assert "4 runs of the chosen settings" in planned
    answer = optrial("run", study)
    assert answer.status == 0  # a trial that diverged is a finding
    assert "tuning: the grid of each optimizer, 2 trials" in answer.err
    assert "the best lr of sgd" in answer.err
    assert "chosen: sgd lr=" in answer.err
    assert "planned → run → used" in answer.out
    assert "2 → 2 → 2" in answer.out
    assert optrial("show", "small").out == answer.out
    assert "phase" in optrial("runs", "small", "--format", "csv").out.splitlines()[0]


def test_stopped_while_tuning(optrial: Command, tmp_path: Path) -> None:
    """The trials so far are shown, and it is said that they are no results."""
    interrupt = Hook(100, lambda: os.kill(os.getpid(), signal.SIGINT))
    run(tmp_path / "out", callbacks=[interrupt]).store.close()
    answer = optrial("show", tmp_path / "out")
    assert "lr=0.01" in answer.out
    assert "Tuning has not ended" in answer.err
    with load(tmp_path / "out") as results:
        assert results.reported == []


def compared(folder: Path, on: list[str]) -> Results:
    """Two rates of sgd and one of adam, evaluated on some splits."""
    optimizers = [{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam", "lr": 0.01}]
    evaluate = {"every": {"steps": 10}, "on": on}
    keys = small_keys(optimizers=optimizers, seeds=2, evaluate=evaluate, engine="numpy")
    return Study(**keys).run(folder)


def test_the_validation_split_chooses_what_is_compared(tmp_path: Path) -> None:
    with compared(tmp_path, ["validation", "test"]) as results:
        best = {s.optimizer: s.setting for s in results.settings() if s.best}
        values = results.runs().query("optimizer == 'sgd'").set_index("setting")["test_accuracy"]
        adam = results.runs().query("optimizer == 'adam'")["test_accuracy"]
        difference = values[best["sgd"]].mean() - adam.mean()
        assert results.compare("sgd", "adam").difference.estimate == pytest.approx(difference)


def test_the_test_split_never_chooses_what_is_compared(tmp_path: Path) -> None:
    """Without a validation split every setting contends by itself."""
    with compared(tmp_path, ["test"]) as results:
        with pytest.raises(
            StoreError, match=r"not among those compared.*sgd lr=0\.01, sgd lr=0\.1"
        ):
            results.compare("sgd", "adam")
        assert results.compare("sgd lr=0.1", "adam").pairs == 2
