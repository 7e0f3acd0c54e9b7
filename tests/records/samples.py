"""Small plans, segments, curves and stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from optrial.records import Curve, PlannedRun, Segment, Store
from optrial.spec import RunFacts, StackId, Status
from tests.specs import SPEC, STACK, changed


def planned(run_id: str, **changes: Any) -> PlannedRun:
    spec = replace(SPEC, hyperparameters={"lr": 0.1, "beta1": 0.9})
    run = PlannedRun(run_id=run_id, problem="moons", setting="lr=0.1", spec=spec, stack=STACK)
    return changed(run, **changes)


def curve(first: int, values: Sequence[float]) -> Curve:
    return Curve(np.arange(first, first + len(values)), np.array(values, np.float64))


def segment(run_id: str, step: int, status: Status = Status.INTERRUPTED, **fields: Any) -> Segment:
    return Segment(**({"run_id": run_id, "step": step, "status": status, "curves": {}} | fields))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def hashed(seed: int, **changes: Any) -> PlannedRun:
    """A planned run whose id is the hash of its spec."""
    run = planned("", seed=seed, **changes)
    return replace(run, run_id=run.spec.run_id)


def fill(store: Store, stacks: int = 2, width: int = 3) -> list[str]:
    """Store two plans: stacks whose runs are done, one that diverged, and one under way."""
    runs = []
    for number in range(stacks + 1):
        specs = [hashed(number * width + seed) for seed in range(width)]
        stack = StackId.of("stacked", [run.spec for run in specs])
        runs.append([replace(run, stack=stack) for run in specs])
    store.save_plan("first", {"name": "first"}, runs[0])
    for number, members in enumerate(runs):
        if number == 1:
            flat = [run for some in runs for run in some]
            store.save_plan("second", {"name": "second"}, flat)
        for first in (1, 4):
            ends = first == 4 and number < stacks
            parts = {
                run.run_id: {
                    "train_loss": curve(first, np.random.default_rng(run.seed).normal(size=3)),
                    "test_loss": curve(first, [1.5 / (first + run.seed)]),
                }
                for run in members
            }
            segments = [
                segment(
                    run.run_id,
                    first + 2,
                    (Status.DIVERGED if run is members[-1] else Status.DONE)
                    if ends
                    else Status.INTERRUPTED,
                    curves=parts[run.run_id],
                    facts=RunFacts(versions={"python": "3"}, threads=1),
                )
                for run in members
            ]
            state = None if ends else {"step": np.array(first), "w": np.arange(9.0)}
            store.commit(segments, members[0].stack, state)
    return [run.run_id for some in runs for run in some]
