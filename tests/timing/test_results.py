"""Quartiles and ratios of step times, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median, quantiles

import pytest

from optrial.errors import StoreError
from optrial.timing import Quartiles, StudyTiming, read_timing
from tests.timing.timings import made_up_timing
from tests.tolerance import STATISTIC_FLOAT64


def test_quartiles_are_those_of_the_standard_library() -> None:
    values = [0.3, 0.1, 0.25, 0.9, 0.4, 0.33]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    quartiles = Quartiles.of(values)
    assert (quartiles.low, quartiles.median, quartiles.high) == pytest.approx(
        (low, middle, high), rel=STATISTIC_FLOAT64
    )


def test_a_run_takes_its_steps_times_the_step() -> None:
    for setting in made_up_timing().settings:
        assert setting.run.median == setting.steps * median(setting.step_seconds)


def test_ratios_are_taken_within_rounds_batch_size_and_model() -> None:
    timing = made_up_timing()
    sgd, adam, sgd_128, adam_128 = timing.settings
    pairs = zip(adam.step_seconds, sgd.step_seconds, strict=True)
    wanted = median(a / b for a, b in pairs)
    ratio = timing.to_first(adam)
    assert ratio is not None
    assert ratio.median == pytest.approx(wanted, rel=STATISTIC_FLOAT64)
    assert timing.to_first(sgd_128) == Quartiles(1.0, 1.0, 1.0)
    # At batch size 128 adam is made up to be the fastest, at 32 sgd.
    assert timing.to_fastest(sgd) == timing.to_fastest(adam_128) == Quartiles(1.0, 1.0, 1.0)
    assert timing.to_fastest(sgd_128).median > 1
    assert timing.shown_conditions(adam) == {"batch_size": 32}


def test_a_slow_machine_in_some_rounds_does_not_change_a_ratio() -> None:
    timing = made_up_timing(busy=(1.0, 9.0, 1.0, 4.0, 6.0))
    ratio = timing.to_first(timing.settings[1])
    assert ratio is not None
    quiet = made_up_timing().to_first(made_up_timing().settings[1])
    assert quiet is not None
    assert ratio.high == pytest.approx(quiet.high, rel=STATISTIC_FLOAT64)
    assert timing.settings[1].step.high > 2 * made_up_timing().settings[1].step.high


def test_json_gives_the_same_timing_back(tmp_path: Path) -> None:
    timing = made_up_timing()
    assert StudyTiming.from_dict(json.loads(timing.as_json())) == timing
    file = tmp_path / "timing.json"
    file.write_text(timing.as_json(), encoding="utf-8")
    assert read_timing(file) == timing
    row = json.loads(timing.as_json())["settings"][1]
    assert row["step"]["median"] == timing.settings[1].step.median
    assert row["run"]["low"] == timing.settings[1].run.low
    assert row["to_first"]["median"] > 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "timing.json"
    with pytest.raises(StoreError, match="optrial timing STUDY"):
        read_timing(file)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match="holds no timing"):
        read_timing(file)
