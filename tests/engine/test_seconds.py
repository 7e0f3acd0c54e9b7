"""A budget in seconds: of training alone, kept by a resumption, and refused where steps matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.config import Parallel
from optrial.engine import Training, training
from optrial.errors import EngineError, StudyError
from optrial.spec import Status
from optrial.study import Study
from tests.small import learner_for, small_keys, small_plan

SECONDS: dict[str, Any] = {"budget": {"seconds": 2.0}, "evaluate": {"every": {"steps": 8}}}


class Clock:
    """A clock on which a look takes a sixteenth of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1 / 16
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of trainings, on which steps and evaluations take a sixteenth of a second."""
    fake = Clock()
    monkeypatch.setattr(training, "time", fake)
    return fake


def trained(step: int = 10**9, **changes: Any) -> tuple[Training, list[Any]]:
    """A training that stops at a step, and what it has recorded."""
    plan, dataset = small_plan(**SECONDS | changes)
    learner = learner_for(plan.runs, dataset)
    learner.chunk = 1
    course = Training(plan.runs, learner)
    segments = []
    for _ in course.run(lambda at: at < step):
        segments += course.segments()
    return course, segments


def test_a_run_ends_when_its_seconds_are_spent_on_steps_alone(clock: Clock) -> None:
    course, segments = trained()
    assert course.step == 32, "32 steps of a sixteenth of a second"
    assert course.seconds == pytest.approx(2.0)
    assert clock.now > 2.0, "evaluations come on top"
    assert course.status == [Status.DONE]
    assert segments[-1].facts.load > 0
    assert segments[-1].curves["test_loss"].steps.tolist()[-1] == 32


def test_the_last_step_is_evaluated_whatever_the_interval(clock: Clock) -> None:
    _, segments = trained(evaluate={"every": {"steps": 1_000}})
    assert [s.curves["test_loss"].steps.tolist() for s in segments if "test_loss" in s.curves] == [
        [32]
    ]


def test_a_resumed_run_keeps_the_seconds_that_are_spent(clock: Clock) -> None:
    first, _ = trained(step=15)
    assert first.status == [Status.INTERRUPTED]
    plan, dataset = small_plan(**SECONDS)
    learner = learner_for(plan.runs, dataset)
    learner.chunk = 1
    second = Training(plan.runs, learner)
    second.resume(first.checkpoint())
    list(second.run())
    assert second.step == 32
    whole, _ = trained()
    for name, weights in whole.learner.weights(0).items():
        np.testing.assert_array_equal(second.learner.weights(0)[name], weights)


def test_seconds_are_part_of_the_id_and_runs_are_trained_one_by_one() -> None:
    (one,) = small_plan(**SECONDS)[0].runs
    (other,) = small_plan(**SECONDS | {"budget": {"seconds": 3.0}})[0].runs
    assert one.run_id != other.run_id
    assert (one.budget_seconds, one.engine) == (2.0, "reference")


@pytest.mark.parametrize("parallel", [{"executor": "processes"}, {"n_jobs": 2}])
def test_workers_that_would_share_the_machine_are_refused(
    parallel: dict[str, Any], tmp_path: Path
) -> None:
    study = Study(**small_keys(budget={"seconds": 0.05}))
    with pytest.raises(EngineError, match=r"not by .* use --executor local -j 1"):
        study.run(tmp_path / "out", parallel=Parallel(**parallel), progress=False)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two units": ({"budget": {"seconds": 2.0, "steps": 5}}, "give one of"),
    "none": ({"budget": {"seconds": 0}}, "seconds"),
    "stacked": ({"engine": "stacked"}, "share its time; use engine: reference"),
    "cosine": (
        {"optimizers": [{"rule": "sgd", "lr": 0.1, "schedule": "cosine"}]},
        r"optimizers\[0\].schedule: cosine: needs a number of steps",
    ),
    "a share": (
        {"optimizers": [{"rule": "sgd", "lr": 0.1, "schedule": {"kind": "step", "every": 0.3}}]},
        "times in steps or epochs",
    ),
    "tail": (
        {"optimizers": [{"rule": "sgd", "lr": 0.1, "average": {"tail": 0.5}}]},
        "use ema",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_a_number_of_steps_is_refused(case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        Study(**small_keys(**SECONDS | changes))


@pytest.mark.parametrize(
    "schedule",
    [
        "constant",
        {"kind": "step", "every": {"epochs": 1}, "warmup": {"steps": 3}},
        {"kind": "exponential", "factor": 0.99},
        {"kind": "inverse_sqrt", "warmup": {"steps": 10}},
    ],
)
def test_schedules_that_count_steps_go_with_seconds(schedule: Any) -> None:
    assert Study(**small_keys(**SECONDS, optimizers=[{"rule": "sgd", "schedule": schedule}]))
