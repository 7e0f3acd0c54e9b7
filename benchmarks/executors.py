"""Time what an executor adds to each stack, and what the driver needs for each commit.

    python benchmarks/executors.py [--executors local processes ray] [--stacks 100] [--workers 1]
                                   [--megabytes 0.01 1 10 100] [--storage URL]

The first table trains stacks of one run of 20 steps. Its start is the time from the plan to the
first end of a run, its overhead the time and the driver's CPU time from the first end to the last,
per stack. The second table stores the progress of a stack of 16 runs with a checkpoint of some size
again and again: commits per second are what all workers of a driver share. `--storage` stores in a
new schema of a PostgreSQL server, else in a new folder of `--folder`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sqlalchemy as sql
from hardware import processor

from optrial.callbacks import Callback
from optrial.records import Curve, Segment, Store
from optrial.spec import RunFacts, StackId, Status
from optrial.study import Study
from optrial.sweep import planned_runs

RUNS_PER_STACK = 16


def study(runs: int, seeds: int = 1) -> Study:
    """Return a study of as many settings of a small model."""
    return Study(
        name="executors",
        problem={"dataset": {"name": "moons", "n_samples": 200}, "model": "logistic"},
        batch_size=32,
        budget={"steps": 20},
        evaluate={"every": {"steps": 10}},
        engine="reference",
        optimizers=[{"rule": "sgd", "lr": np.linspace(0.01, 1.0, runs).round(6).tolist()}],
        seeds=seeds,
    )


class Clock(Callback):
    """Notes when the plan was made, and when each run ended."""

    def __init__(self) -> None:
        self.planned = 0.0
        self.ends: list[tuple[float, float]] = []  # by the clock, and in CPU time of the driver

    def on_plan(self, *_: int, **__: int) -> None:
        """Note the time."""
        self.planned = time.perf_counter()

    def on_run_end(self, *_: object) -> None:
        """Note the time, and the CPU time of this process."""
        self.ends.append((time.perf_counter(), time.process_time()))


class Overhead(NamedTuple):
    """Cost of an executor.

    Attributes:
        start: seconds from the plan to the first end of a run.
        elapsed: seconds per further stack.
        driver: CPU seconds of the driver per further stack.
    """

    start: float
    elapsed: float
    driver: float


def overhead(executor: str, stacks: int, workers: int) -> Overhead:
    """Train a study of many small stacks."""
    clock = Clock()
    parallel = {"executor": executor, "n_jobs": 1 if executor == "local" else workers}
    with tempfile.TemporaryDirectory() as folder:
        study(stacks).run(folder, callbacks=[clock], parallel=parallel).close()
    first, last = clock.ends[0], clock.ends[-1]
    elapsed, driver = ((b - a) / (stacks - 1) for a, b in zip(first, last, strict=True))
    return Overhead(first[0] - clock.planned, elapsed, driver)


def seconds_of_commits(location: str, megabytes: float, count: int) -> float:
    """Return the median seconds of a commit of a stack with a checkpoint."""
    plan = study(1, RUNS_PER_STACK).plan()
    stack = StackId.of("stacked", plan.runs)
    generator = np.random.default_rng(0)
    array = generator.standard_normal(int(megabytes * 1e6 / 4), np.float32)
    times = []
    with Store.open(location, create=True) as store:
        held = store.share() if store.on_server else store.lock()
        with held:
            stack_of = dict.fromkeys((run.run_id for run in plan.runs), stack)
            planned = planned_runs(plan, stack_of)
            store.save_plan(plan.hash, plan.studies.as_dict(), planned)
            store.claim([stack], [Status.PLANNED])
            for number in range(count):
                steps = np.arange(1, 11) + 10 * number
                segments = [
                    Segment(
                        run_id=run.run_id,
                        step=int(steps[-1]),
                        status=Status.INTERRUPTED,
                        facts=RunFacts(engine="stacked"),
                        curves={"train_loss": Curve(steps, generator.random(10))},
                    )
                    for run in plan.runs
                ]
                began = time.perf_counter()
                store.commit(segments, stack, {"parameters": array})
                times.append(time.perf_counter() - began)
    return statistics.median(times)


def new_schema(url: str) -> str:
    """Make a schema on a server; return the URL of a store in it."""
    name = f"optrial_{uuid.uuid4().hex}"
    engine = sql.create_engine(sql.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sql.schema.CreateSchema(name))
    engine.dispose()
    return f"{url}?options=-csearch_path%3D{name}"


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--executors", nargs="*", default=["local", "processes"])
    parser.add_argument("--stacks", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--megabytes", type=float, nargs="*", default=[0.01, 1.0, 10.0, 100.0])
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="parent of the new folders")
    parser.add_argument("--storage", metavar="URL", help="PostgreSQL server for the commits")
    options = parser.parse_args(given)
    print(f"{processor()}\n\n| executor | start, s | per stack, ms | driver's CPU per stack, ms |")
    print("| --- | --- | --- | --- |", flush=True)
    for executor in options.executors:
        cost = overhead(executor, options.stacks, options.workers)
        times = f"{cost.start:.1f} | {1e3 * cost.elapsed:.1f} | {1e3 * cost.driver:.1f}"
        print(f"| {executor} | {times} |", flush=True)
    print("\n| checkpoint, MB | commit, ms | commits per second |\n| --- | --- | --- |", flush=True)
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            location = new_schema(options.storage) if options.storage else folder
            seconds = seconds_of_commits(location, megabytes, options.commits)
        print(f"| {megabytes:g} | {1e3 * seconds:.1f} | {1 / seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
