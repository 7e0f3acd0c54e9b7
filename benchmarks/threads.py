"""Time steps of growing work on one thread and on all, idle and beside another training loop.

Shows from which work on a step gains from several threads, which
`optrial.engine.process.threads_for` must know before a run starts.
"""

from __future__ import annotations

import statistics
from typing import Any

from contenders import Step, started
from neighbours import Neighbours
from workloads import Precision, Workload, mlp

from optrial.engine import Engines
from optrial.plan import pack, step_work

UNITS = (16, 32, 64, 128, 256, 512)
"""Units of both hidden layers of an MLP 784-N-N-10, trained with batches of 128."""
STACKED = 8
"""Runs of a stack."""
STATES = ("", "training")
TURN = 0.2
"""Seconds of a turn."""


def measure(repeats: int, precision: Precision) -> list[dict[str, Any]]:
    """Return a row for each engine and width: work of a step, and its seconds by state."""
    neighbours = Neighbours()
    try:
        return [
            _row(engine, units, repeats, precision, neighbours)
            for engine in ("reference", "stacked")
            for units in UNITS
        ]
    finally:
        neighbours.end()


def _row(
    engine: str, units: int, repeats: int, precision: Precision, neighbours: Neighbours
) -> dict[str, Any]:
    model = {"kind": "mlp", "hidden": [units, units]}
    workload = Workload("", mlp(784, units, 10), model, (784,), 10, batch_size=128, runs=STACKED)
    dataset = workload.data()
    runs = pack(workload.specs(dataset, precision), 1 if engine == "reference" else STACKED)[0]
    steps = {}
    for threads in ("one", "all"):
        learner = Engines(dataset, precision, "cpu").build(engine, runs)
        learner.threads = 1 if threads == "one" else None
        steps[threads] = started(learner, "cpu")
    seconds: dict[str, list[float]] = {f"{t} {state}": [] for t in steps for state in STATES}
    for _ in range(repeats):
        for state in STATES:
            with neighbours.beside(state):
                for threads, step in steps.items():
                    seconds[f"{threads} {state}"].append(_seconds_per_step(step))
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return {"engine": engine, "work": step_work(runs, dataset), "units": units, **medians}


def _seconds_per_step(step: Step) -> float:
    elapsed, steps = 0.0, 0
    while elapsed < TURN:
        elapsed += step(10)
        steps += 10
    return elapsed / steps


def show(rows: list[dict[str, Any]]) -> None:
    """Print one line per engine and width."""
    print("engine     units     work  idle: one thread, all       busy: one thread, all")
    for row in rows:
        line = f"{row['engine']:9}{row['units']:7}{row['work']:9.1e}"
        for state in STATES:
            one, everything = (row[f"{threads} {state}"] for threads in ("one", "all"))
            line += f"  {1e6 * one:9.0f} {1e6 * everything:9.0f} us {one / everything:5.2f}"
        print(line)
