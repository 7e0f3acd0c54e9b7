"""User metrics with and without a declared direction."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from optrial import Results, Study, StudyError
from optrial.config import override, read_study
from tests.cases.conftest import Case

SOUND = {"sgd": "lr=0.05", "adam": "lr=0.01"}
"""The better of the two learning rates of each optimizer: the other one trains nothing."""


def study(folder: Path, metric: object, select: str) -> Study:
    keys = override(read_study(folder / "r.yaml"), ["seeds=2", "budget.epochs=2"])
    keys["problem"]["metrics"] = [metric]
    return Study(**keys, tune={"seeds": 1, "extend": False, "select": select})


@pytest.mark.parametrize("name", ["rmse", "rmsle"])
def test_a_metric_that_selects_needs_a_direction_whatever_its_name(case: Case, name: str) -> None:
    folder = case("rmse")
    with pytest.raises(StudyError) as caught:
        study(folder, f"m:{name}", f"validation_{name}")
    (problem,) = caught.value.problems
    assert problem.path == "tune.select"
    assert f"write metrics: [{{name: m:{name}, better: lower}}]" in problem.message


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_declared_direction_selects_the_rate(case: Case, better: str) -> None:
    folder = case("rmse")
    entry = {"name": "m:rmsle", "better": better}
    with study(folder, entry, "validation_rmsle").run(folder / "out") as results:
        extreme = {"lower": min, "higher": max}[better]
        for optimizer, sound in SOUND.items():
            (chosen,) = {r.setting for r in results.reported if r.optimizer == optimizer}
            means = trial_means(results, optimizer, "validation_rmsle")
            assert chosen == extreme(means, key=means.__getitem__)
            assert (chosen == sound) == (better == "lower")


def trial_means(results: Results, optimizer: str, metric: str) -> dict[str, float]:
    """The last recorded values of the trials, averaged over seeds by setting."""
    last: dict[str, list[float]] = {}
    curves = results.store.curves(metric)
    for record in results.records:
        if record.phase == "tune" and record.optimizer == optimizer:
            values = curves[record.run_id, metric].values
            last.setdefault(record.setting, []).append(float(values[-1]))
    return {setting: fmean(values) for setting, values in last.items()}
