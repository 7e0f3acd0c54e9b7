"""Write a finished store without training, to time the reading of many runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sql

from optrial.engine.provenance import provenance
from optrial.plan import pack
from optrial.records import Curve, Segment, Store
from optrial.spec import EvaluationCheck, RunFacts, RunSpec, Seconds, StackId, Status, TrainingCheck
from optrial.study import Study
from optrial.sweep import planned_runs

WIDTH = 256


def write_store(study_file: Path, location: str) -> None:
    """Plan a study and store made-up results of every run, unless they are stored.

    Args:
        study_file: the study.
        location: a folder, or a URL with an option that names the schema to use.
    """
    if "://" in location:
        _make_schema(location)
    plan = Study.from_file(study_file).plan()
    stacks = pack(plan.runs, WIDTH)
    stack_of = {run.run_id: StackId.of("stacked", stack) for stack in stacks for run in stack}
    with Store.open(location, create=True) as store, store.lock():
        if store.plan_hash() == plan.hash:
            return
        store.save_plan(plan.hash, plan.studies.as_dict(), planned_runs(plan, stack_of))
        for stack in stacks:
            store.commit(list(_segments(stack)), stack_of[stack[0].run_id], None)


def _make_schema(location: str) -> None:
    url = sql.make_url(location).set(drivername="postgresql+psycopg")
    schema = str(url.query["options"]).rpartition("=")[2]
    engine = sql.create_engine(url.set(query={}))
    with engine.begin() as connection:
        connection.execute(sql.schema.CreateSchema(schema, if_not_exists=True))
    engine.dispose()


def _segments(stack: tuple[RunSpec, ...]) -> Iterator[Segment]:
    shared = provenance() | RunFacts(
        engine="stacked",
        device="cpu",
        threads=1,
        stack_width=len(stack),
        seconds=Seconds(1.0 + len(stack), 0.5),
        split_sizes={"train": 80, "test": 20},
        training=TrainingCheck(()),
        evaluation=EvaluationCheck((), ("0" * 64,) * 2, ("1" * 64,) * 2),
    )
    of_rule = {
        rule: replace(shared, implementation=f"optrial.rules.{rule}", decayed_share=0.0)
        for rule in dict.fromkeys(run.rule for run in stack)
    }
    generator = np.random.default_rng(stack[0].seed)
    for run in stack:
        losses = np.abs(generator.normal(0.5, 0.1, run.steps)).astype(np.float32)
        yield Segment(
            run_id=run.run_id,
            step=run.steps,
            status=Status.DONE,
            facts=replace(of_rule[run.rule], **_hashes(run)),
            curves=_curves(run, losses),
        )


def _hashes(run: RunSpec) -> dict[str, Any]:
    return {
        "initial_parameters_sha256": _sha256(f"weights {run.seed}"),
        "first_batches_sha256": _sha256(f"batches {run.seed}"),
        "epoch_batches_sha256": tuple(_sha256(f"{run.seed} {n}") for n in range(3)),
        "parameters_sha256": _sha256(run.run_id),
    }


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _curves(run: RunSpec, losses: np.ndarray) -> dict[str, Curve]:
    """Return curves like those of a training; every value is made up."""
    steps = np.arange(1, run.steps + 1)
    evaluated = steps[run.evaluate_every - 1 :: run.evaluate_every]
    ends = losses[evaluated - 1]
    return {
        "train_loss": Curve(steps, losses),
        "train_loss_epoch": Curve(steps, losses),
        "train_accuracy_epoch": Curve(steps, 1 - losses / 2),
        "test_loss": Curve(evaluated, ends),
        "test_accuracy": Curve(evaluated, np.round(20 - 10 * ends) / 20),
    }


if __name__ == "__main__":
    write_store(Path(sys.argv[1]), sys.argv[2])
