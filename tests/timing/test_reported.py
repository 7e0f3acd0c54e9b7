"""Published times beside measured ones, as ratios to those of the first named setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import median, quantiles

import pytest

from optrial.analysis.reported import names_setting
from optrial.recipes import RECIPES
from optrial.timing import SettingTiming, StudyTiming, reported_times
from tests.test_recipes import plan_of
from tests.timing.timings import made_up_timing
from tests.tolerance import STATISTIC_FLOAT64

RATES = ("lr=0.1", "lr=0.01")


def timed(busy: Sequence[float] = (1.0,) * 5) -> StudyTiming:
    """Two optimizers with two learning rates each at batch sizes 32 (3000 steps) and 128 (750)."""
    timing = made_up_timing(busy=busy)
    settings = [
        replace(setting, stands_for=tuple(f"{rate} {batch_size(setting)}" for rate in RATES))
        for setting in timing.settings
    ]
    return replace(timing, settings=tuple(settings))


def batch_size(timing: SettingTiming) -> str:
    return f"batch_size={timing.conditions['batch_size']}"


def test_whole_runs_are_compared_round_by_round() -> None:
    timing = timed()
    sgd, _, _, adam = timing.settings
    seconds = {"sgd batch_size=32": 20.0, "adam batch_size=128": 16.0}
    first, second = reported_times(seconds, timing)
    ratios = [
        (750 * of_adam) / (3000 * other)
        for of_adam, other in zip(adam.step_seconds, sgd.step_seconds, strict=True)
    ]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    assert first.reported == 1
    assert (first.measured.low, first.measured.median, first.measured.high) == (1, 1, 1)
    assert second.reported == 0.8
    quartiles = (second.measured.low, second.measured.median, second.measured.high)
    assert quartiles == pytest.approx((low, median(ratios), high), rel=STATISTIC_FLOAT64)
    assert second.quotient.median == pytest.approx(median(ratios) / 0.8, rel=STATISTIC_FLOAT64)


def test_a_machine_that_is_slow_at_times_does_not_change_the_ratios() -> None:
    seconds = {"adam batch_size=32": 3, "sgd batch_size=128": 2}
    quiet, busy = (
        reported_times(seconds, timed(busy))[1].measured
        for busy in ((1.0,) * 5, (1.0, 9.0, 1.0, 4.0, 6.0))
    )
    assert busy.high == pytest.approx(quiet.high, rel=STATISTIC_FLOAT64)


def test_published_ratios_do_not_depend_on_the_unit() -> None:
    minutes = {"sgd": 8.0, "adam": 10.0}
    for factor in (1, 60):
        times = reported_times({name: factor * value for name, value in minutes.items()}, None)
        assert [entry.reported for entry in times] == [1, 1.25]
        assert [entry.measured for entry in times] == [None, None]


def test_a_name_tells_what_was_timed_for_all_its_settings() -> None:
    timing = timed()
    assert timing.named("adam batch_size=128") is timing.settings[3]
    assert timing.named("adam lr=0.01 batch_size=128") is timing.settings[3]
    for several_or_none in ("adam", "adam lr=0.1", "adam batch_size=64", "adamw", "ada"):
        assert timing.named(several_or_none) is None


def test_without_the_first_nothing_is_compared() -> None:
    first, second = reported_times({"adam": 2, "adam batch_size=32": 3}, timed())
    assert (first.timing, first.measured) == (None, None)
    assert (second.reported, second.measured, second.quotient) == (1.5, None, None)


def test_the_file_keeps_what_the_comparison_needs() -> None:
    timing = replace(timed(), reported_seconds={"sgd batch_size=32": 4.0, "adam": 5.0})
    written = json.loads(timing.as_json())
    assert StudyTiming.from_dict(written) == timing
    assert written["reported_times"][1] == {
        "name": "adam",
        "reported": 1.25,
        "measured": None,
        "measured_to_reported": None,
    }
    assert written["reported_times"][0]["measured"]["median"] == 1


def test_a_file_that_knows_nothing_of_published_times_is_read() -> None:
    written = json.loads(timed().as_json())
    del written["reported_seconds"], written["reported_times"]
    for setting in written["settings"]:
        del setting["stands_for"]
    timing = StudyTiming.from_dict(written)
    assert timing == made_up_timing()
    assert reported_times({"sgd batch_size=32": 1}, timing)[0].measured is None


@pytest.mark.parametrize(
    "name",
    [
        *("adaptive-methods-cifar10", "adaptive-methods-cifar10-dropout"),
        *("fashion-mnist-sweep", "fashion-mnist-batch-size"),
    ],
)
def test_the_times_of_a_recipe_are_those_of_its_settings(name: str) -> None:
    plan = plan_of(name)
    small = plan_of(f"{name}-small").studies.shared.reported
    if "seconds" in small:  # of an epoch, in both
        assert small["seconds"] == plan.studies.shared.reported["seconds"]
    for named in plan.studies.shared.reported["seconds"]:
        runs = [
            run
            for run in plan.runs
            if names_setting(named, run.optimizer, plan.settings[run.run_id])
        ]
        assert len({(run.optimizer, run.batch_size) for run in runs}) == 1, named
    assert name in RECIPES
