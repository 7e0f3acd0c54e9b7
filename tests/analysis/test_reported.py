from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from optrial.analysis import Spread
from optrial.analysis.reported import ReportedValue, reported_problems, reported_values
from optrial.analysis.summary import SettingSummary
from optrial.errors import StudyError
from optrial.spec import Status
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


def test_one_run_has_no_spread_to_agree_within() -> None:
    same, other = values_of(
        {"sgd": 0.512, "adam": 0.51}, *(measured(name, "", [0.5124]) for name in ("sgd", "adam"))
    )
    assert same.agrees is True  # to the last printed digit, three of which the other one shows too
    assert other.agrees is None


def test_a_study_may_say_what_was_reported() -> None:
    study = Study(**small_keys(reported={"test_accuracy": {"sgd": 0.9, "sgd lr=0.1": 0.9}}))
    assert study.config.reported == {"test_accuracy": {"sgd": 0.9, "sgd lr=0.1": 0.9}}


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


def test_problems_name_what_is_allowed() -> None:
    (problem,) = reported_problems({"test_loss": {"adam": 1.0}}, ["sgd"], ["test_loss"])
    assert "sgd" in str(problem)
