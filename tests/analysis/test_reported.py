from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats

from optrial.analysis import Spread
from optrial.analysis.reported import (
    ReportedValue,
    agreement,
    reported_problems,
    reported_values,
)
from optrial.analysis.summary import SettingSummary, summarize
from optrial.errors import StudyError
from optrial.records import Curve, Record
from optrial.spec import StackId, Status, metric_title
from optrial.study import Study
from tests.small import small_keys
from tests.tolerance import STATISTIC_FLOAT64

VALUES = [0.86, 0.87, 0.88, 0.865]


def measured(optimizer: str, setting: str, values: list[float]) -> SettingSummary:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    spread = Spread(float(np.mean(values)), deviation, len(values))
    done = {Status.DONE: len(values)}
    return SettingSummary(optimizer, setting, done, {"test_accuracy": spread}, best=False)


def values_of(names: dict[str, float], *settings: SettingSummary) -> list[ReportedValue]:
    return reported_values({"test_accuracy": names}, settings)


def test_a_name_tells_its_setting() -> None:
    small, large = (
        measured("adam", f"lr=0.001 batch_size={size}", [size / 100] * 2) for size in (16, 64)
    )
    sgd = measured("sgd", "lr=0.1", [0.5])
    adam, other, wholly, exponent = values_of(
        {
            "adam batch_size=64": 0.7,
            "sgd": 0.5,
            "adam lr=0.001 batch_size=16": 0.1,
            "adam batch_size=16 lr=1e-3": 0.1,
        },
        small,
        large,
        sgd,
    )
    assert adam.measured == large.metrics["test_accuracy"]
    assert other.measured == sgd.metrics["test_accuracy"]
    assert wholly.measured == exponent.measured == small.metrics["test_accuracy"]


def test_a_name_of_several_settings_or_none_tells_nothing() -> None:
    settings = [measured("adam", f"lr={rate}", VALUES) for rate in (0.1, 0.01)]
    for found in values_of({"adam": 0.5, "adam lr=1": 0.5, "adamw lr=0.1": 0.5}, *settings):
        assert found.measured is None
        assert math.isnan(found.difference)
        assert found.agrees is None


def test_one_more_run_of_the_same_kind_agrees_in_nineteen_of_twenty_cases() -> None:
    (found,) = values_of({"adam": 0.87}, measured("adam", "lr=0.1", VALUES))
    scale = np.std(VALUES, ddof=1) * np.sqrt(1 + 1 / len(VALUES))
    low, high = stats.t.interval(0.95, len(VALUES) - 1, np.mean(VALUES), scale)
    assert found.margin == pytest.approx((high - low) / 2, rel=STATISTIC_FLOAT64)
    for share, agrees in ((-0.01, False), (0.01, True), (0.99, True), (1.01, False)):
        value = float(low + share * (high - low))
        (found,) = values_of({"adam": value}, measured("adam", "lr=0.1", VALUES))
        assert found.agrees is agrees


def test_final_values_of_several_runs_are_compared_one_by_one() -> None:
    first, second = reported_values(
        {"test_accuracy": {"adam": [0.87, 0.7]}}, [measured("adam", "lr=0.1", VALUES)]
    )
    assert (first.reported, second.reported) == (0.87, 0.7)
    assert (first.agrees, second.agrees) == (True, False)


def test_one_run_has_no_spread_to_agree_within() -> None:
    same, other = values_of(
        {"sgd": 0.512, "adam": 0.51}, *(measured(name, "", [0.5124]) for name in ("sgd", "adam"))
    )
    assert same.agrees is True  # to the last printed digit, three of which the other one shows too
    assert other.agrees is None
    text, departure = agreement([same, other])
    assert text == "1 of 2 published values agree, 1 cannot be judged from one run"
    assert departure.endswith("(one run, so its spread is unknown)")


def test_a_study_may_say_what_was_reported() -> None:
    study = Study(**small_keys(reported={"test_accuracy": {"sgd": 0.9, "sgd lr=0.1": 0.9}}))
    assert study.config.reported == {"test_accuracy": {"sgd": 0.9, "sgd lr=0.1": 0.9}}


def during(**reported: object) -> list[ReportedValue]:
    """Published values beside those of two runs whose loss at step n is n and n + 1."""
    keys = small_keys(seeds=[0, 1], budget={"epochs": 2}, batch_size=50)
    plan = Study(**keys).plan()
    records = [
        Record(
            run_id=run.run_id,
            problem="moons",
            spec=run,
            setting="lr=0.1",
            stack=StackId("reference", "0" * 12),
        )
        for run in plan.runs
    ]
    steps = np.arange(1, records[0].steps + 1)
    loss = {r.run_id: Curve(steps, steps.astype(float) + r.seed) for r in records}
    settings = summarize(records, None)
    return reported_values(reported, settings, records, {"train_loss": loss}.get)


def test_values_of_steps_and_epochs_are_read_off_the_curves() -> None:
    (step,) = during(train_loss={"sgd": {"steps": {"2": 2.5}}})
    (epoch,) = during(train_loss={"sgd": {"epochs": {"1": 9.0}}})
    assert step.measured == Spread(2.5, pytest.approx(np.std([2, 3], ddof=1)), 2)
    assert (step.at, step.step, step.agrees) == ("step 2", 2, True)
    assert epoch.at == "epoch 1"
    assert epoch.step
    assert epoch.measured.mean == epoch.step + 0.5


def test_a_running_mean_is_over_all_steps_so_far() -> None:
    (mean,) = during(train_loss_running_mean={"sgd": {"steps": {"3": 2.0}}})
    assert mean.measured.mean == np.mean([np.mean([1, 2, 3]), np.mean([2, 3, 4])])


def test_a_running_mean_has_a_name_for_people() -> None:
    assert metric_title("train_loss_running_mean") == "training loss (running mean)"
    assert metric_title("train_loss_epoch") == "training loss (epoch mean)"


def test_a_list_holds_several_published_runs() -> None:
    values = during(train_loss={"sgd": {"steps": {"1": [1.0, 99.0], "2": [2.0, 2.2]}}})
    assert [value.reported for value in values] == [1.0, 99.0, 2.0, 2.2]
    assert [value.agrees for value in values] == [True, False, True, True]


def test_a_step_that_no_run_reached_is_not_measured() -> None:
    values = during(train_loss={"sgd": {"steps": {"1": 1.5, "1000": 0.1}}})
    assert [value.measured is None for value in values] == [False, True]
    assert agreement(values) == ["1 of 2 published values agree, 1 not measured"]


def test_what_does_not_agree_is_named_with_its_distance_the_farthest_first() -> None:
    values = during(train_loss={"sgd": {"steps": {"1": 30.0, "2": 2.5, "3": 99.0}}})
    text, first, second = agreement(values)
    assert text == "1 of 3 published values agree"
    far = (99 - 3.5) / np.std([0, 1], ddof=1)
    assert first == (
        "training loss (per batch) of sgd, step 3: published 99, here 3.5 "
        f"({far:.1f} standard deviations off)"
    )
    assert "step 1" in second


def test_equal_runs_have_no_distance_in_standard_deviations() -> None:
    values = values_of({"sgd": 0.9}, measured("sgd", "", [1.0, 1.0, 1.0]))
    (_, sentence) = agreement(values)
    assert sentence.endswith("published 0.9, here 1 (3 equal runs)")


def test_float32_computations_that_differ_in_the_last_digit_agree() -> None:
    (value,) = values_of({"sgd": 0.3460221588611603}, measured("sgd", "", [0.3460220992565155]))
    assert value.agrees
    (value,) = values_of({"sgd": 0.3460221588611603}, measured("sgd", "", [0.3460231]))
    assert value.agrees is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"epoch": {1: 0.5}}, "must have one key, epochs or steps"),
        ({"epochs": {}}, "epochs: must map epochs to values"),
        ({"epochs": {-1: 0.5}}, "epochs: -1 must be a whole number, 0 for the initial weights"),
        ({"steps": {"x": 0.5}}, "steps: 'x' must be a whole number"),
        ({"steps": {1: "x"}}, "steps.1: must be a finite number"),
        ({"steps": {1: 1}, "epochs": {1: 1}}, "must have one key"),
        ([], "must be a finite number"),
        ([0.5, math.inf], "must be a finite number"),
    ],
)
def test_values_during_training_are_checked(value: object, reason: str) -> None:
    with pytest.raises(StudyError, match=re.escape(reason)):
        Study(**small_keys() | {"reported": {"test_accuracy": {"sgd": value}}})


@pytest.mark.parametrize(
    ("reported", "reason"),
    [
        ({"test_loss_running_mean": {"sgd": {"epochs": {1: 1.0}}}}, "of a metric of each step"),
        ({"train_loss_running_mean": {"sgd": 1.0}}, "needs the epoch or step of each value"),
        ({"seconds": {"sgd": {"epochs": {1: 1.0}}}}, "must be one time in seconds"),
    ],
)
def test_running_means_and_times_are_checked(reported: dict[str, object], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        Study(**small_keys() | {"reported": reported})


@pytest.mark.parametrize(
    ("reported", "reason"),
    [
        ({"test_acuracy": {"sgd": 0.9}}, "Did you mean 'test_accuracy'?"),
        ({"test_accuracy": {"sdg": 0.9}}, "Did you mean 'sgd'?"),
        ({"test_accuracy": {"sgd": "0.9"}}, "reported.test_accuracy.sgd"),
        ({"test_accuracy": 0.9}, "reported.test_accuracy"),
        ({"test_accuracy": {"sgd": 10**400}}, "reported.test_accuracy.sgd"),
        ({"secnds": {"sgd": 485}}, "Did you mean 'seconds'?"),
        ({"seconds": {"sdg": 485}}, "reported.seconds: 'sdg' does not begin with an optimizer"),
        ({"seconds": {"sgd": 0}}, "reported.seconds.sgd: 0: must be above 0"),
        ({"seconds": {"sgd lr=0.1": -3.5}}, "reported.seconds.sgd lr=0.1: -3.5: must be above 0"),
        ({"seconds": {"sgd": "8:05"}}, "'8:05': must be a finite number; give times in seconds"),
        ({"seconds": {"sgd": math.nan}}, "reported.seconds.sgd: nan: must be a finite number"),
        ({"seconds": {"sgd": True}}, "reported.seconds.sgd: True: must be a finite number"),
        ({"seconds": 485}, "reported.seconds: 485: must be a mapping"),
    ],
)
def test_reported_values_have_names_and_are_numbers(
    reported: dict[str, object], reason: str
) -> None:
    with pytest.raises(StudyError) as caught:
        Study(**small_keys() | {"reported": reported})
    (problem,) = caught.value.problems
    assert reason in str(problem)


def test_seconds_are_no_metric() -> None:
    seconds = {"sgd": 485, "sgd lr=0.1": 490.5}
    study = Study(**small_keys(reported={"test_accuracy": {"sgd": 0.9}, "seconds": seconds}))
    assert study.config.reported["seconds"] == seconds
    (value,) = reported_values(study.config.reported, [measured("sgd", "lr=0.1", VALUES)])
    assert value.metric == "test_accuracy"


def test_an_optimizer_that_is_missing_is_named_once() -> None:
    """A recipe prints many values of each optimizer, and `--set optimizers=[...]` replaces some."""
    values = {"adam": 1.0, "sgd": 2.0}
    reported = {"test_loss": values, "test_accuracy": values, "seconds": values}
    (problem,) = reported_problems(reported, ["sgd"], ["test_loss", "test_accuracy"])
    assert "'adam'" in str(problem)
    assert "here and in test_accuracy, seconds" in str(problem)


def test_problems_name_what_is_allowed() -> None:
    (problem,) = reported_problems({"test_loss": {"adam": 1.0}}, ["sgd"], ["test_loss"])
    assert "sgd" in str(problem)
