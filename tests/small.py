"""Small studies for tests: seconds to train, every part of the real thing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optrial.data import Dataset
from optrial.engine import Engines, Learner, Training
from optrial.plan import Plan
from optrial.records import Segment
from optrial.spec import RunSpec
from optrial.study import Study

MOONS: Mapping[str, Any] = {"name": "moons", "n_samples": 200, "noise": 0.1}


def small_keys(**changes: Any) -> dict[str, Any]:
    """The keys of a study that trains an MLP 2-8-2 on moons for 40 steps; `changes` go on top."""
    keys: dict[str, Any] = {
        "name": "small",
        "problem": {"dataset": dict(MOONS), "model": {"kind": "mlp", "hidden": [8]}},
        "batch_size": 32,
        "budget": {"steps": 40},
        "evaluate": {"every": {"steps": 10}},
        "seeds": [0],
        "optimizers": [{"rule": "sgd", "lr": 0.1}],
    }
    return json.loads(json.dumps(keys | changes))


def small_plan(**changes: Any) -> tuple[Plan, Dataset]:
    """The plan of `small_keys`, and its data."""
    study = Study(**small_keys(**changes))
    dataset = study.load_data()
    return study.plan(dataset), dataset


def learner_for(runs: Sequence[RunSpec], dataset: Dataset, engine: str = "") -> Learner:
    """A fresh learner of the runs' engine, or of another one; `auto` is the reference."""
    named = engine or runs[0].engine
    engines = Engines(dataset, runs[0].precision, "cpu")
    return engines.build("reference" if named == "auto" else named, runs)


def train_stack(runs: Sequence[RunSpec], dataset: Dataset, engine: str = "") -> list[Segment]:
    """Train runs side by side to their end and return all of them."""
    training = Training(runs, learner_for(runs, dataset, engine))
    for _ in training.run():
        pass
    return training.segments()


def train(run: RunSpec, dataset: Dataset, engine: str = "") -> Segment:
    """Train a run by itself to its end and return all of it."""
    (segment,) = train_stack([run], dataset, engine)
    return segment


def resumed(
    runs: Sequence[RunSpec], dataset: Dataset, engine: str, stop_at: int
) -> list[tuple[Segment, Segment]]:
    """Train runs side by side, stopped at a step and continued from a checkpoint: both parts."""
    first, second = (Training(runs, learner_for(runs, dataset, engine)) for _ in range(2))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < stop_at):
        pass
    assert first.step == stop_at
    before = first.segments()
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    return list(zip(before, second.segments(), strict=True))
