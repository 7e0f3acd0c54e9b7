"""A store of made-up runs, which a test advances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from optrial.callbacks import Callbacks
from optrial.config import Component
from optrial.records import Curve, PlannedRun, Segment, Store
from optrial.spec import Phase, Status
from optrial.trackers import Tracking
from tests.specs import SPEC, STACK

STEPS = 1000
EVERY = 100


def planned(run_id: str, phase: Phase = "report") -> PlannedRun:
    return PlannedRun(
        run_id=run_id,
        problem="made-up",
        setting=f"lr={0.1 if phase == 'report' else 0.2}",
        phase=phase,
        spec=replace(
            SPEC,
            hyperparameters={"lr": 0.1, "betas": [0.9, 0.999], "amsgrad": False},
            seed=int(run_id[-1]),
            dataset="made-up",
            steps=STEPS,
            steps_per_epoch=EVERY,
        ),
        stack=STACK,
    )


def plan(folder: Path, runs: Sequence[PlannedRun]) -> Store:
    store = Store.open(folder, create=True)
    store.save_plan("plan", {"name": "made up"}, runs)
    return store


def values(run_id: str, steps: np.ndarray) -> np.ndarray:
    return 1 / (steps + int(run_id[-1]) + 1)


def advance(
    store: Store, run_id: str, after: int, until: int, status: Status = Status.INTERRUPTED
) -> None:
    """Commit every point of a run past a step, up to another one."""
    steps = np.arange(after + 1, until + 1)
    evaluated = steps[steps % EVERY == 0]
    curves = {
        "train_loss": Curve(steps, values(run_id, steps)),
        "test_accuracy": Curve(evaluated, 1 - values(run_id, evaluated)),
    }
    reason = "it \u221e" if status is Status.DIVERGED else ""
    segment = Segment(run_id=run_id, step=until, curves=curves, status=status, reason=reason)
    store.commit([segment], STACK, None)


@contextmanager
def tracked(
    entries: Sequence[Component], folder: Path, store: Store, say: Callable[[str], None]
) -> Iterator[None]:
    """Send what the body records in a store to trackers."""
    with Callbacks([Tracking(entries, "made up", str(folder), say)]) as callbacks:
        callbacks.on_start(store)
        yield
