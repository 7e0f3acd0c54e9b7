"""`optrial timing`: which settings are timed, and what the command does with the result."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from optrial.engine import Engines, Learner
from optrial.errors import EngineError
from optrial.spec import RunSpec
from optrial.timing import StudyTiming, measure, read_timing
from optrial.timing.figure import timing_figure
from optrial.timing.measure import time_study
from optrial.timing.table import timing_notes, timing_rows
from tests.conftest import Command
from tests.small import small_keys, small_plan

NAP = 0.005


class Sleepy(torch.optim.SGD):
    """An optimizer that takes its time."""

    def step(self, closure: Any = None) -> None:
        time.sleep(NAP)
        super().step(closure)


class Broken(torch.optim.SGD):
    """An optimizer that cannot take a third step, which is after those that a plan tries."""

    taken = 0

    def step(self, closure: Any = None) -> None:
        self.taken += 1
        if self.taken > 2:
            raise RuntimeError("out of order")
        super().step(closure)


def quick(**changes: Any) -> StudyTiming:
    """Time a small study with short turns."""
    plan, dataset = small_plan(**changes)
    return time_study(plan, dataset, rounds=3, turn_seconds=0.0, memory=False)


def test_what_cannot_change_the_time_of_a_step_is_timed_once() -> None:
    timing = quick(
        seeds=3,
        batch_size=[16, 32],
        optimizers=[
            {"rule": "sgd", "lr": [0.01, 0.1]},
            {"rule": "momentum", "momentum": [0.5, 0.9]},
            {"name": "torch sgd", "torch": "torch.optim:SGD", "lr": 0.1, "nesterov": [True, False]}
            | {"momentum": 0.9},
        ],
    )
    names = ["sgd", "momentum", "torch sgd", "torch sgd"]
    assert [setting.optimizer for setting in timing.settings] == names * 2
    assert [setting.conditions["batch_size"] for setting in timing.settings] == [16] * 4 + [32] * 4
    varying = ["", "", "nesterov=True", "nesterov=False"]
    assert [setting.setting for setting in timing.settings] == varying * 2


def test_what_can_change_it_is_timed_apart() -> None:
    model = {"kind": "mlp", "hidden": [8], "dropout": [0.0, 0.5]}
    problem = small_keys()["problem"] | {"model": model}
    timing = quick(
        problem=problem,
        optimizers=[{"rule": "sgd", "weight_decay": [0.0, 0.01], "lr": 0.1}],
    )
    assert [timing.shown_conditions(setting) for setting in timing.settings] == [
        {"dropout": 0.0},
        {"dropout": 0.0},
        {"dropout": 0.5},
        {"dropout": 0.5},
    ]
    assert [setting.setting for setting in timing.settings] == [
        "weight_decay=0",
        "weight_decay=0.01",
    ] * 2


def test_a_slower_optimizer_comes_out_slower() -> None:
    timing = quick(
        optimizers=[
            {"name": "awake", "torch": "torch.optim:SGD", "lr": 0.1},
            {"name": "sleepy", "torch": "tests.timing.test_measure:Sleepy", "lr": 0.1},
        ]
    )
    awake, sleepy = timing.settings
    assert min(sleepy.step_seconds) > NAP
    assert sleepy.step.median > awake.step.median
    ratio = timing.to_first(sleepy)
    assert ratio is not None
    assert ratio.median > 1
    assert timing.to_fastest(sleepy).median > 1
    assert sleepy.implementation.startswith("tests.timing.test_measure:Sleepy")


def test_steps_extrapolate_to_the_budget_of_each_batch_size() -> None:
    timing = quick(batch_size=[16, 64], budget={"epochs": 4}, drop_last=True)
    by_size = {setting.conditions["batch_size"]: setting for setting in timing.settings}
    assert by_size[16].steps >= 3 * by_size[64].steps
    for setting in timing.settings:
        assert setting.run.median == setting.steps * setting.step.median


def test_what_optrial_adds_to_a_step_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes, and seeding the draws of a class of the user's, which a rule does not pay for."""
    built: list[RunSpec] = []
    build = Engines.build

    def recorded(engines: Engines, engine: str, specs: Sequence[RunSpec]) -> Learner:
        built.extend(specs)
        return build(engines, engine, specs)

    monkeypatch.setattr(Engines, "build", recorded)
    timing = quick(
        optimizers=[{"name": "mine", "torch": "tests.timing.test_measure:Sleepy", "lr": 0.1}],
        probes=["gradient_norm"],
    )
    assert timing.settings
    assert built
    assert all(not spec.code and spec.probes is None for spec in built)


def test_with_script_the_classes_of_pytorch_are_timed() -> None:
    ours, theirs = (
        quick(optimizers=[{"rule": "adam"}]),
        quick(optimizers=[{"rule": "adam"}], rng="script"),
    )
    assert ours.settings[0].implementation == "optrial.rules.adam"
    assert theirs.settings[0].implementation.startswith("torch.optim.Adam(")
    assert any("rng=script" in line for line in timing_notes(ours))
    assert not any("rng=script" in line for line in timing_notes(theirs))


def test_a_diverging_run_is_timed_and_named() -> None:
    timing = quick(
        optimizers=[{"rule": "sgd", "lr": 1e30}, {"rule": "adam"}], budget={"steps": 1000}
    )
    assert len(timing.settings) == 2
    assert any("sgd diverged" in note for note in timing.notes)


def test_published_times_are_kept_with_what_each_setting_stands_for() -> None:
    seconds = {"sgd batch_size=16": 40.0, "adam lr=0.1 batch_size=32": 25.0}
    timing = quick(
        batch_size=[16, 32],
        optimizers=[{"rule": "sgd"}, {"rule": "adam", "lr": [0.1, 0.01]}],
        reported={"seconds": seconds, "test_accuracy": {"sgd batch_size=16": 0.9}},
    )
    assert timing.reported_seconds == seconds
    assert timing.settings[3].stands_for == ("lr=0.1 batch_size=32", "lr=0.01 batch_size=32")
    assert [timing.named(name) for name in seconds] == [timing.settings[0], timing.settings[3]]


def test_too_few_rounds_are_refused() -> None:
    plan, dataset = small_plan()
    with pytest.raises(EngineError, match="rounds: 2: must be 3 or more"):
        time_study(plan, dataset, rounds=2)


def test_other_engines_are_timed_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTRIAL_CACHE", str(tmp_path))
    assert {setting.engine for setting in quick(engine="numpy").settings} == {"numpy"}
    stacked = quick(engine="stacked", compile="never")
    assert (stacked.engine, stacked.settings[0].engine) == ("stacked", "stacked")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(small_keys(optimizers=[{"rule": "sgd"}, {"rule": "adam"}])))
    return file


BRIEF = ("--rounds", 3, "--no-memory")


def test_the_command_prints_a_table_and_how_to_read_it(optrial: Command, study: Path) -> None:
    answer = optrial("timing", study, *BRIEF, "--device", "cpu")
    assert answer.status == 0
    for words in ("sgd", "adam", "step (ms)", "× sgd", "run (s)"):
        assert words in answer.out
    assert "memory" not in answer.out
    assert "reference engine, cpu, float32" in answer.err
    assert not Path("studies").exists()
    assert optrial("timing", study, *BRIEF, "--quiet").err == ""


def test_the_command_writes_json_and_a_figure_and_the_folder_of_the_study(
    optrial: Command, study: Path
) -> None:
    Path("studies/small").mkdir(parents=True)
    files = ("--out", "t.json", "--figure", "t.svg")
    answer = optrial("timing", study, *BRIEF, *files, "--format", "json")
    assert answer.status == 0, answer.err
    printed = StudyTiming.from_dict(json.loads(answer.out))
    assert printed == read_timing(Path("t.json")) == read_timing(Path("studies/small/timing.json"))
    assert [setting.optimizer for setting in printed.settings] == ["sgd", "adam"]
    assert printed.machine["processors"] >= 1
    assert Path("t.svg").read_text("utf-8").startswith("<?xml")
    for file in ("t.json", "t.svg", "studies/small/timing.json"):
        assert f"wrote {file}" in answer.err


def test_the_command_prints_csv_and_markdown(optrial: Command, study: Path) -> None:
    rows = list(
        csv.DictReader(io.StringIO(optrial("timing", study, *BRIEF, "--format", "csv").out))
    )
    assert [row["optimizer"] for row in rows] == ["sgd", "adam"]
    assert float(rows[0]["step_seconds_median"]) > 0
    assert optrial("timing", study, *BRIEF, "--format", "markdown").out.startswith("**small**\n\n|")


def test_report_and_command_show_the_same_published_times(optrial: Command, study: Path) -> None:
    keys = small_keys(optimizers=[{"rule": "sgd"}, {"rule": "adam"}])
    study.write_text(json.dumps(keys | {"reported": {"seconds": {"sgd": 485, "adam": 549}}}))
    assert optrial("run", study, "--quiet").status == 0
    answer = optrial("timing", study, *BRIEF)
    assert "Published times often include evaluation" in answer.err
    rows = answer.out.partition("measured / published\n")[2].splitlines()
    (measured,) = (row.split("\t")[2] for row in rows if "1.13" in row)
    assert optrial("report", "studies/small", "--out", "page.html").status == 0
    assert measured in Path("page.html").read_text("utf-8")


def test_what_cannot_be_written_is_refused_before_anything_is_timed(
    optrial: Command, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "time_study", None)
    Path("there.json").write_text("kept", encoding="utf-8")
    answer = optrial("timing", study, "--out", "there.json", "--figure", "nowhere/t.gif")
    assert answer.status == 2
    for words in ("there.json", "not replaced", "'.gif'", "png", "not a folder"):
        assert words in answer.err
    assert Path("there.json").read_text("utf-8") == "kept"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rounds", 1), "--rounds"),
        (("--engine", "tensorflow"), "tensorflow"),
        (("--engine", "stacked", "--set", "rng=script"), "needs engine: reference"),
        (("--device", "cuda"), "cuda"),
    ],
)
def test_bad_input_is_refused(
    arguments: tuple[object, ...], words: str, optrial: Command, study: Path
) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    answer = optrial("timing", study, *arguments)
    assert answer.status == 2
    assert words in answer.err


def test_an_optimizer_that_fails_is_named_and_the_others_are_timed(
    optrial: Command, tmp_path: Path
) -> None:
    broken = {"name": "broken", "torch": "tests.timing.test_measure:Broken", "lr": 0.1}
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(small_keys(optimizers=[broken, {"rule": "adam"}])))
    answer = optrial("timing", file, *BRIEF)
    assert answer.status == 1
    assert "adam" in answer.out
    assert "broken could not be timed: RuntimeError: out of order" in answer.err
    file.write_text(json.dumps(small_keys(optimizers=[broken])))
    answer = optrial("timing", file, *BRIEF)
    assert answer.status == 2
    assert "nothing could be timed" in answer.err


def test_engines_are_timed_beside_each_other() -> None:
    plan, dataset = small_plan(batch_size=[16, 32])
    timing = time_study(
        plan, dataset, engines=["numpy", "reference"], rounds=3, turn_seconds=0.0, memory=False
    )
    assert timing.engine == "numpy and reference"
    settings = [(entry.engine, entry.conditions["batch_size"]) for entry in timing.settings]
    assert settings == [("numpy", 16), ("numpy", 32), ("reference", 16), ("reference", 32)]
    ratios = [timing.to_first_engine(entry) for entry in timing.settings]
    assert [ratio and ratio.median for ratio in ratios[:2]] == [1, 1]
    slow, fast = timing.settings[2].step_seconds, timing.settings[0].step_seconds
    expected = sorted(a / b for a, b in zip(slow, fast, strict=True))[1]
    assert ratios[2] is not None
    assert ratios[2].median == expected
    columns, rows = timing_rows(timing)
    assert {"× engine numpy", "epoch (s)"} <= set(columns)
    assert len(rows) == 4
    assert StudyTiming.from_dict(json.loads(timing.as_json())) == timing


def test_a_time_names_the_engine_that_trained() -> None:
    """Classes of PyTorch are trained by the reference engine alone."""
    optimizers = [{"rule": "sgd", "lr": 0.1}, {"name": "theirs", "torch": "torch.optim:SGD"}]
    plan, dataset = small_plan(optimizers=optimizers)
    options: Any = {"rounds": 3, "turn_seconds": 0.0, "memory": False}
    timing = time_study(plan, dataset, engines=["stacked", "reference"], **options)
    rows = [
        (entry.optimizer, entry.engine, entry.conditions["engine"]) for entry in timing.settings
    ]
    stacked = rows[0][1]
    assert stacked.startswith(("stacked", "compiled"))
    assert rows == [
        ("sgd", stacked, "stacked"),
        ("theirs", "reference", "reference"),
        ("sgd", "reference", "reference"),
    ]
    one = time_study(plan, dataset, engines=["stacked"], **options)
    label = timing_figure(one).axes[-1].get_xlabel()
    assert "stacked engine" in label
    assert "and reference engine, cpu" in label


def test_seconds_per_epoch_are_steps_of_an_epoch() -> None:
    timing = quick(batch_size=[16, 32])
    steps = [entry.steps_per_epoch for entry in timing.settings]
    assert steps[0] in (2 * steps[1], 2 * steps[1] - 1)
    for entry in timing.settings:
        assert entry.epoch is not None
        assert entry.epoch.median == entry.steps_per_epoch * entry.step.median
    assert timing.to_first_engine(timing.settings[0]) is None
