"""Training stops soon after it is asked to, and the numbers do not depend on when it looks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from optrial.engine import Training
from optrial.spec import Status
from tests.small import learner_for, small_plan

DROPOUT = {
    "problem": {
        "dataset": {"name": "moons", "n_samples": 200},
        "model": {"kind": "mlp", "hidden": [8], "dropout": 0.2},
    },
    "seeds": 2,
    "optimizers": [{"rule": "adam", "lr": [0.001, 0.1]}],
}
SOME_DIVERGE = {"batch_size": 4, "loss_limit": 0.8}


@pytest.mark.parametrize(("step_seconds", "most"), [(0.03, 3), (0.15, 1)])
def test_steps_between_two_looks_take_a_tenth_of_a_second(
    step_seconds: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, dataset = small_plan(budget={"steps": 7}, evaluate={"every": {"steps": 7}})
    learner = learner_for(plan.runs, dataset)
    advance, asked = learner.advance, []

    def slow(steps: int) -> Any:
        asked.append(steps)
        time.sleep(steps * step_seconds)
        return advance(steps)

    monkeypatch.setattr(learner, "advance", slow)
    list(Training(plan.runs, learner).run())
    assert asked[0] == 1, "how long a step takes is not known before the first"
    assert max(asked) <= most


def test_it_stops_after_the_step_under_way() -> None:
    plan, dataset = small_plan()
    learner = learner_for(plan.runs, dataset)
    learner.chunk = 1
    training = Training(plan.runs, learner)
    list(training.run(lambda step: step < 7))
    assert (training.step, training.status) == (7, [Status.INTERRUPTED])


@pytest.mark.parametrize(
    ("engine", "changes"),
    [
        ("reference", {}),
        ("numpy", {}),
        ("stacked", {}),
        ("stacked", SOME_DIVERGE),
    ],
)
def test_numbers_do_not_depend_on_how_steps_are_divided(
    engine: str, changes: dict[str, Any]
) -> None:
    plan, dataset = small_plan(**DROPOUT | changes)
    runs = plan.runs if engine == "stacked" else plan.runs[:1]
    trained = []
    for chunk in (1, 1000):
        learner = learner_for(runs, dataset, engine)
        learner.chunk = chunk
        training = Training(runs, learner)
        list(training.run())
        trained.append(
            [
                (
                    segment.facts.parameters_sha256,
                    {
                        name: (curve.steps.tobytes(), curve.values.tobytes())
                        for name, curve in segment.curves.items()
                    },
                )
                for segment in training.segments()
            ]
        )
    assert trained[0] == trained[1]
