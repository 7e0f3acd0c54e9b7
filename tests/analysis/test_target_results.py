"""Times to the targets of a study, from its records to tables, figures and refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import optrial
from optrial.analysis.audit import audit
from optrial.analysis.target_results import profiles, target_results
from optrial.analysis.targets import Target, target_problems
from optrial.analysis.view import StudyView
from optrial.config import parse_study
from optrial.errors import StoreError, StudyError
from optrial.records import Curve, PlannedRun, Record, Segment, Store
from optrial.report.figures import study_figures
from optrial.spec import Directions, Status
from tests.conftest import Command
from tests.report.pages import parse_page
from tests.report.studies import made_up_records
from tests.small import small_keys

SPEED = {"sgd": 40.0, "momentum": 20.0, "adam": 10.0}
EVERY = 10
TARGET = Target("validation_accuracy", 0.8, percent=True)


def raced(
    speeds: Mapping[str, float] = SPEED, *, alone: bool = True, **options: Any
) -> tuple[list[Record], dict[str, Curve]]:
    """Records and curves of runs of 200 steps that approach an accuracy of 1 exponentially."""
    records = made_up_records(tuple(speeds), (0.1,), 8, **options)
    records = [
        replace(record, facts=replace(record.facts, stack_width=1 if alone else 4))
        for record in records
    ]
    curves = {}
    for record in records:
        steps = np.arange(EVERY, record.step + 1, EVERY)
        scale = speeds[record.optimizer] * (1 + 0.1 * record.seed)
        curves[record.run_id] = Curve(steps, 1 - np.exp(-steps / scale))
    return records, curves


def view_of(records: Sequence[Record], curves: Mapping[str, Curve], **study: object) -> StudyView:
    keys = {"name": "raced", "targets": {TARGET.metric: TARGET.value}, **study}
    read = {TARGET.metric: curves}
    return StudyView(keys, tuple(records), lambda metric: read.get(metric, {}), TARGET.metric)


def expected_step(speed: float, seed: int) -> float:
    """The first evaluation at which 1 - exp(-t / scale) is at least 0.8."""
    return math.ceil(-math.log(0.2) * speed * (1 + 0.1 * seed) / EVERY) * EVERY


def store(folder: Path, records: Sequence[Record], curves: Mapping[str, Curve], **study: object):
    planned = [
        PlannedRun(**{name: getattr(record, name) for name in PlannedRun.__dataclass_fields__})
        for record in records
    ]
    segments = [
        Segment(
            run_id=record.run_id,
            step=record.step,
            status=record.status,
            reason=record.reason,
            facts=record.facts,
            curves={TARGET.metric: curves[record.run_id]},
        )
        for record in records
    ]
    with Store.open(folder, create=True) as opened:
        opened.save_plan("plan", {"name": "raced", "seeds": list(range(8)), **study}, planned)
        opened.commit(segments, "stack", None)


def test_steps_and_seconds_are_those_of_the_curves() -> None:
    records, curves = raced()
    view = view_of(records, curves)
    (result,) = target_results(view, view.problems[0])
    for steps, seconds in zip(result.steps, result.seconds, strict=True):
        name = steps.contender.optimizer
        expected = {seed: expected_step(SPEED[name], seed) for seed in range(8)}
        assert {s: a.time for s, a in steps.arrivals.items()} == expected
        taken = records[[r.optimizer for r in records].index(name)].facts.seconds
        training = taken.training if taken else 0.0
        assert seconds.arrivals[3].time == pytest.approx(training * expected[3] / 200)
        assert steps.median.estimate == sorted(expected.values())[3]
    assert not result.why_no_seconds


def test_runs_that_do_not_arrive_are_censored_and_those_that_diverge_never_arrive() -> None:
    records, curves = raced({"sgd": 100.0}, diverged=(0,))
    view = view_of(records, curves)
    (result,) = target_results(view, view.problems[0])
    (times,) = result.steps
    arrived = sum(expected_step(100.0, seed) <= 200 for seed in range(1, 8))
    assert (times.runs, times.reached, times.diverged) == (8, arrived, 1)
    assert times.censored == 7 - arrived
    assert times.arrivals[0].time == math.inf
    assert times.arrivals[7].time == 200
    assert times.median.estimate == math.inf


def test_claims_name_targets_too() -> None:
    records, curves = raced()
    claim = "adam reaches validation_accuracy 50% sooner than sgd"
    view = view_of(records, curves, targets={}, claims=[claim])
    (result,) = target_results(view, view.problems[0])
    assert result.target == Target("validation_accuracy", 0.5, percent=True)


def test_seconds_of_stacks_are_refused(tmp_path: Path) -> None:
    claim = "adam reaches validation_accuracy 0.8 in less time than sgd"
    records, curves = raced(alone=False)
    view = view_of(records, curves)
    (result,) = target_results(view, view.problems[0])
    assert not result.seconds
    assert "24 of 24 runs were trained in stacks of up to 4" in result.why_no_seconds
    study = {"name": "raced", "claims": [claim]}
    report = audit(view_of(records, curves, targets=None, **study))
    (decided,) = report.claims
    assert str(decided.verdict) == "undecided"
    assert "trained in stacks of up to 4" in decided.sentence
    assert {"F03", "G04"} <= {finding.rule for finding in report.findings}
    store(tmp_path / "study", records, curves)
    with optrial.load(tmp_path / "study") as results:
        assert len(results.steps_to("validation_accuracy", 0.8)) == 24
        with pytest.raises(StoreError, match=r"stacks of up to 4.*engine: reference"):
            results.seconds_to("validation_accuracy", 0.8)


def test_claims_about_targets_are_decided_on_curves() -> None:
    records, curves = raced()
    claims = [
        "adam reaches validation_accuracy 0.8 in fewer steps than sgd",
        "sgd reaches validation_accuracy 80% in less time than adam",
    ]
    study = {"name": "raced", "claims": claims}
    report = audit(view_of(records, curves, targets=None, **study))
    assert [str(result.verdict) for result in report.claims] == ["supported", "refuted"]
    assert "F03" not in {finding.rule for finding in report.findings}


def test_tables_of_targets(tmp_path: Path) -> None:
    records, curves = raced()
    store(tmp_path / "study", records, curves, targets={"validation_accuracy": 0.8})
    with optrial.load(tmp_path / "study") as results:
        table = results.targets().set_index("optimizer")
        assert table["reached"].tolist() == [8, 8, 8]
        assert (
            table.loc["adam", "median_steps"]
            == sorted(expected_step(10.0, seed) for seed in range(8))[3]
        )
        runs = results.steps_to("validation_accuracy", 0.8)
        assert list(runs) == [
            "problem",
            "optimizer",
            "setting",
            "seed",
            "run_id",
            "reached",
            "steps",
        ]
        assert runs["reached"].all()
        pair = results.compare_to_target("adam", "sgd", "validation_accuracy", 0.8)
        assert str(pair.verdict) == "better"
        axes = results.plot_targets()
        assert len(axes.lines) == 3
        assert results.plot_targets("validation_accuracy", 0.5, Figure().subplots()).lines
        with pytest.raises(StoreError, match="no target for test_loss"):
            results.plot_targets("test_loss")
        with pytest.raises(StoreError, match="Did you mean 'validation_accuracy'"):
            results.steps_to("validation_acuracy", 0.8)
        with pytest.raises(StoreError, match="'sdg' is not among those compared"):
            results.compare_to_target("adam", "sdg", "validation_accuracy", 0.8)
        with pytest.raises(StoreError, match="this study has 1 problem"):
            results.plot_profiles()


def test_commands_and_page_show_targets(optrial: Command, tmp_path: Path) -> None:
    records, curves = raced({"sgd": 100.0, "adam": 10.0})
    store(tmp_path / "study", records, curves, targets={"validation_accuracy": 0.8})
    shown = optrial("show", tmp_path / "study")
    assert "time to 80 % validation accuracy" in shown.out
    assert "over 200" in shown.out
    assert "8 of 8" in shown.out
    by_name = optrial("compare", tmp_path / "study", "adam", "sgd", "--target", TARGET.metric)
    for unit in ("steps", "seconds"):
        arguments = ("--target", "validation_accuracy 80%", "--in", unit)
        answer = optrial("compare", tmp_path / "study", "adam", "sgd", *arguments)
        first, *_ = answer.out.splitlines()
        amount = "fewer steps" if unit == "steps" else "less time"
        assert first.startswith(f"adam reaches 80 % validation accuracy in {amount} than sgd (")
        assert unit == "seconds" or first in by_name.out
    for text, message in (
        ("0.8", "the study has no target for 0.8; name its metric and value"),
        ("validation_accuracy high", "column 21: 'high', expected a value, such as 0.95 or 95%"),
        ("validation_accuracy 0.8 soon", "column 25: 'soon', expected the end"),
    ):
        refused = optrial("compare", tmp_path / "study", "adam", "sgd", "--target", text)
        assert (refused.status, message in refused.err) == (2, True)
    assert optrial("report", tmp_path / "study").status == 0
    page = parse_page((tmp_path / "study" / "report.html").read_text("utf-8"))
    (section,) = page.all("section", id="targets")
    cells = [[cell.text for cell in row.all("td")][1:3] for row in section.all("tr")[1:]]
    assert cells[1] == ["8 of 8", str(int(sorted(expected_step(10.0, s) for s in range(8))[3]))]
    assert cells[0][1] == "over 200"


def test_figures_of_targets_and_profiles() -> None:
    records, curves = raced()
    slow, slow_curves = raced({name: 3 * speed for name, speed in SPEED.items()}, dataset="slow")
    view = view_of([*records, *slow], {**curves, **slow_curves})
    figures = {drawn.name: drawn.figure for drawn in study_figures(view)}
    names = [name for name in figures if name.startswith(("target", "profile"))]
    assert names == [
        "target-validation_accuracy-0.8-made-up",
        "target-validation_accuracy-0.8-slow",
        "profile-80-validation-accuracy",
    ]
    (axes,) = figures[names[-1]].axes
    assert axes.get_xscale() == "log"
    (profile,) = profiles(view)
    assert profile.names == ("sgd", "momentum", "adam")
    assert profile.shares[:, 0].tolist() == [0, 0, 1]
    assert profile.problems == 2


def test_values_of_a_target_by_problem() -> None:
    records, curves = raced()
    slow, slow_curves = raced(dataset="slow")
    problems = {"slow": {"dataset": "slow", "targets": {"validation_accuracy": 0.5}}, "made-up": {}}
    view = view_of([*records, *slow], {**curves, **slow_curves}, problem=problems)
    values = [target_results(view, problem)[0].target.value for problem in view.problems]
    assert values == [0.8, 0.5]
    (profile,) = profiles(view)
    assert profile.label == "validation accuracy"


def test_targets_of_a_study_are_checked() -> None:
    metrics = ["validation_accuracy", "test_my_score"]
    directions = Directions({"my_score": None})
    targets = {"validation_acuracy": 0.9, "test_my_score": 1.0, "training_seconds": 3.0}
    first, second, third = target_problems(targets, metrics, directions)
    assert first.path == "targets.validation_acuracy"
    assert "Did you mean 'validation_accuracy'" in first.message
    assert "does not declare" in second.message
    assert "has no curve" in third.message
    for value in ("high", None, True, [0.9]):
        _, (problem,) = parse_study(small_keys(targets={"validation_accuracy": value}))
        assert problem.path == "targets.validation_accuracy"
        assert "must be a finite number" in problem.message
    with pytest.raises(StudyError, match=r"targets\.test_acuracy"):
        optrial.Study(**small_keys(targets={"test_acuracy": 0.9}))


def test_best_of_trials_as_a_table(tmp_path: Path) -> None:
    records = made_up_records(("sgd", "adam"), (0.001, 0.01, 0.1), 2)
    curve = Curve([200], [0.5])
    curves = {
        r.run_id: replace(curve, values=np.array([r.metrics["validation_accuracy"]]))
        for r in records
    }
    store(tmp_path / "study", records, curves)
    with optrial.load(tmp_path / "study") as results:
        table = results.best_of_trials()
        assert table["trials"].tolist() == [1, 2, 3] * 2
        for name, rows in table.groupby("optimizer"):
            values = [curves[r.run_id].values[0] for r in records if r.optimizer == name]
            assert rows["expected"].iloc[0] == pytest.approx(np.mean(values))
            assert rows["expected"].is_monotonic_increasing
        assert len(results.plot_trials().lines) == 2


def test_a_study_without_several_settings_has_no_trials(tmp_path: Path) -> None:
    records, curves = raced({"adam": 10.0})
    store(tmp_path / "study", records, curves)
    with optrial.load(tmp_path / "study") as results:
        assert results.best_of_trials().empty
        assert results.targets().empty
        with pytest.raises(StoreError, match="two settings"):
            results.plot_trials()
        assert Status.DONE in {record.status for record in results.records}
