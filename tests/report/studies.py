"""Studies made up of records and curves, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from optrial.analysis.view import StudyView
from optrial.records import Curve, PlannedRun, Record, Segment, Store
from optrial.spec import RunFacts, Seconds, Status
from tests.specs import SPEC, STACK

METRICS = ("train_loss", "validation_accuracy", "test_accuracy")
PROBES = ("gradient_norm", "gradient_norm/hidden.0", "dead_relu_fraction")
EVERY = 20


def made_up_records(
    optimizers: Sequence[str] = ("sgd", "adam"),
    rates: Sequence[float] = (0.01, 0.1),
    seeds: int = 3,
    *,
    dataset: str = "made-up",
    diverged: Sequence[int] = (),
    probes: bool = False,
    **changes: Any,
) -> list[Record]:
    """One run an optimizer, rate and seed; those at the places of `diverged` diverged."""
    generator = np.random.default_rng(len(optimizers) * 100 + seeds)
    records = []
    for number, optimizer in enumerate(optimizers):
        for rate in rates:
            for seed in range(seeds):
                lost = len(records) in diverged
                accuracy = 0.6 + 0.01 * number + 0.3 * np.exp(-abs(np.log10(rate) + 1))
                values = np.clip(accuracy + generator.normal(0, 0.01, 2), 0, 1)
                finals = [1 - values[0], *values.tolist()]
                fields: dict[str, Any] = {
                    "run_id": f"{dataset}{len(records):05x}",
                    "problem": dataset,
                    "setting": f"lr={rate:g}",
                    "spec": replace(
                        SPEC,
                        optimizer=optimizer,
                        hyperparameters={"lr": rate, "beta1": 0.9},
                        seed=seed,
                        dataset=dataset,
                        steps=200,
                        steps_per_epoch=EVERY,
                    ),
                    "stack": STACK,
                    "status": Status.DIVERGED if lost else Status.DONE,
                    "step": 90 if lost else 200,
                    "reason": "the loss is not finite" if lost else "",
                    "facts": RunFacts(
                        engine="stacked",
                        device="cpu",
                        stack_width=4,
                        seconds=Seconds(8.0 + number, 0.4),
                        initial_parameters_sha256=f"weights {seed}",
                        first_batches_sha256=f"batches {seed}",
                    ),
                    "metrics": dict(zip(METRICS, [None] * 3 if lost else finals, strict=True)),
                }
                for name in PROBES if probes else ():
                    fields["metrics"][name] = None if lost else finals[0] * len(name)
                records.append(Record(**(fields | changes)))
    return records


def made_up_curves(records: Sequence[Record]) -> dict[str, dict[str, Curve]]:
    """Metric -> run id -> curve, which ends at the run's final value."""
    curves: dict[str, dict[str, Curve]] = {metric: {} for metric in (*METRICS, *PROBES)}
    for record in records:
        if not record.step:
            continue
        for metric in record.metrics:
            every = 1 if metric == "train_loss" else EVERY
            steps = np.arange(every, record.step + 1, every)
            final = record.metrics.get(metric)
            values = (final or 0.5) + 1 / (1 + steps) - 1 / (1 + steps[-1])
            if record.status is Status.DIVERGED:
                values[-1] = np.inf
            curves[metric][record.run_id] = Curve(steps, values)
    return curves


def made_up_view(
    records: Sequence[Record], study: Mapping[str, Any] | None = None, metric: str = "test_accuracy"
) -> StudyView:
    """What a report shows of them."""
    curves = made_up_curves(records)
    recorded = {name for record in records for name in record.metrics}
    return StudyView(
        study or {"name": "made up", "notes": "For tests."},
        tuple(records),
        lambda name: curves.get(name, {}),
        metric if metric in recorded else "",
    )


def store_made_up(folder: Path, records: Sequence[Record], name: str = "made up") -> None:
    """Put them into a store, as training would have."""
    planned = [
        PlannedRun(**{field.name: getattr(record, field.name) for field in fields(PlannedRun)})
        for record in records
    ]
    curves = made_up_curves(records)
    with Store.open(folder, create=True) as store:
        store.save_plan("plan", {"name": name, "seeds": [0, 1, 2]}, planned)
        segments = [
            Segment(
                run_id=record.run_id,
                step=record.step,
                status=record.status,
                reason=record.reason,
                facts=record.facts,
                curves={
                    m: by_run[record.run_id]
                    for m, by_run in curves.items()
                    if record.run_id in by_run
                },
            )
            for record in records
        ]
        store.commit(segments, STACK, None)
