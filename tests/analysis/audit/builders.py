"""Synthetic studies: a sound one, and changes that spoil it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from optrial.analysis.audit import AuditReport, audit
from optrial.analysis.view import PlanVersion, StudyView
from optrial.config import StudyFile
from optrial.records import Curve, Record
from optrial.records.encoding import decode_facts
from optrial.spec import RunFacts, Seconds, Status
from tests.specs import SPEC, STACK, changed, facts_of

Select = Callable[[Record], bool]

RATES: Mapping[str, list[float]] = {
    "sgd": [0.01, 0.03, 0.1, 0.3, 1.0],
    "momentum": [0.001, 0.003, 0.01, 0.03, 0.1],
    "adam": [0.0001, 0.0003, 0.001, 0.003, 0.01],
}
BEST: Mapping[str, float] = {"sgd": 0.1, "momentum": 0.01, "adam": 0.001}
ACCURACY: Mapping[str, float] = {"sgd": 0.90, "momentum": 0.93, "adam": 0.96}
CLAIM = "adam > sgd on test_accuracy"
STEPS, STEPS_PER_EPOCH = 1000, 100

FACTS = decode_facts(
    {
        "engine": "stacked",
        "device": "cpu",
        "threads": 1,
        "host": "here",
        "machine": "x86_64",
        "stack_width": 15,
        "seconds": {"training": 30.0, "evaluation": 1.5},
        "versions": {"python": "3.11.9", "torch": "2.7.1", "optrial": "0.1.0"},
        "git_dirty": False,
        "float32_products": "highest",
        "implementation": "optrial.rules",
        "evaluation": {
            "training_modules": [],
            "buffers_sha256": ["b", "b"],
            "generators_sha256": ["g", "g"],
        },
        "training": {"evaluation_modules": []},
        "split_sizes": {"train": 50_000, "validation": 5_000, "test": 10_000},
        "split_overlap": {"train/test": 0, "train/validation": 0},
        "scale": {"inputs": {"mean": 0.1, "std": 1.0, "whole": False}, "targets": None},
        "constant_answer": {
            f"{split}_{name}": value
            for split in ("train", "validation", "test")
            for name, value in (("accuracy", 0.1), ("loss", 0.9))
        },
        "epoch_batches_sha256": ["e1", "e2", "e3"],
        "parity": {"against": "torch.optim", "difference": 0.0, "tolerance": 1e-12},
        "stack_certificate": {"steps": 20, "difference": 0.0, "tolerance": 1e-4},
        "stack_neighbour": {"difference": 0.0, "tolerance": 0.0},
        "replicate_difference": 0.0,
        "evaluation_difference": 0.0,
        "decayed_share": 1.0,
        "warm_up_seconds": 0.1,
    }
)


def noise(*parts: object) -> float:
    """A standard normal number that depends only on the parts."""
    return float(np.random.default_rng(zlib.crc32(repr(parts).encode())).normal())


def accuracy(optimizer: str, rate: float, seed: int, split: str) -> float:
    """Best at the optimizer's own rate, and a quarter of a point of noise, half of it paired."""
    off = math.log10(rate / BEST[optimizer])
    chance = noise("shared", seed) + noise(optimizer, rate, seed, split)
    return ACCURACY[optimizer] - 0.02 * off**2 + 0.002 * chance


def record(named: str, rate: float, seed: int, phase: str = "report", **changes: Any) -> Record:
    """A run as the engine would record it."""
    validation = accuracy(named, rate, seed, "validation")
    metrics: dict[str, float | None] = {
        "validation_accuracy": validation,
        "validation_loss": 1 - validation,
        "test_accuracy": None,
        "test_loss": None,
    }
    if phase == "report":
        metrics["test_accuracy"] = accuracy(named, rate, seed, "test")
        metrics["test_loss"] = 1 - metrics["test_accuracy"]
    on = ("validation", "test") if phase == "report" else ("validation",)
    facts = RunFacts(
        initial_parameters_sha256=f"w{seed}",
        parameters_sha256=f"{named}{rate}{seed}",
        first_batches_sha256=f"o{seed}",
        first_masks_sha256=f"m{seed}",
    )
    values: dict[str, Any] = {
        "run_id": f"{named}-{rate:g}-{phase}-{seed}",
        "problem": "digits",
        "setting": f"lr={rate:g}",
        "phase": phase,
        "spec": replace(
            SPEC,
            optimizer=named,
            rule=named,
            hyperparameters={"lr": rate} | ({"momentum": 0.9} if named == "momentum" else {}),
            seed=seed,
            dataset="digits",
            model_arguments={"hidden": [64], "dropout": 0.1},
            steps=STEPS,
            steps_per_epoch=STEPS_PER_EPOCH,
            evaluate_every=100,
            evaluate_on=on,
        ),
        "stack": STACK,
        "status": Status.DONE,
        "step": STEPS,
        "facts": FACTS | facts,
        "metrics": metrics,
    }
    return changed(Record(**values), **changes)


def study(**changes: Any) -> dict[str, Any]:
    """The study that belongs to the runs, as a store holds it."""
    keys: dict[str, Any] = {
        "name": "sound",
        "problem": {"dataset": "digits", "model": {"kind": "mlp", "hidden": [64], "dropout": 0.1}},
        "batch_size": 32,
        "budget": {"steps": STEPS},
        "evaluate": {"on": ["validation", "test"]},
        "seeds": 10,
        "optimizers": [{"rule": rule, "lr": rates} for rule, rates in RATES.items()],
        "tune": {"seeds": 3},
    }
    read = {name: value for name, value in (keys | changes).items() if name not in ("waive",)}
    claims = read.pop("claims", [CLAIM])
    stored = StudyFile.model_validate(read).model_dump(mode="json")
    return stored | {"claims": claims} | {k: v for k, v in changes.items() if k == "waive"}


@dataclass(frozen=True)
class Case:
    """A study with everything that an audit reads; methods return changed copies."""

    study: Mapping[str, Any]
    records: tuple[Record, ...]
    drawn: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    former: tuple[Record, ...] = ()
    plans: tuple[PlanVersion, ...] = ()

    def audit(self) -> AuditReport:
        return audit(self.view())

    def view(self) -> StudyView:
        return StudyView(
            self.study, self.records, self.curves, former=self.former, plans=self.plans
        )

    def curves(self, metric: str) -> Mapping[str, Curve]:
        """Ten evaluations that settle after five, except for drawn curves."""
        steps = np.arange(1, 11) * STEPS // 10
        rise = np.minimum(np.arange(1, 11) / 5, 1)
        curves = {}
        for run in self.records:
            value = run.metrics.get(metric)
            if value is not None:
                values = value + (1 - rise) * (0.5 if metric.endswith("loss") else -0.5)
                curves[run.run_id] = Curve(steps, values)
        return curves | dict(self.drawn.get(metric, {}))

    def with_study(self, **keys: Any) -> Self:
        return replace(self, study={**self.study, **keys})

    def change(self, change: Callable[[Record], Record], where: Select = lambda r: True) -> Self:
        records = (change(run) if where(run) else run for run in self.records)
        return replace(self, records=tuple(records))

    def only(self, where: Select) -> Self:
        return replace(self, records=tuple(run for run in self.records if where(run)))

    def adding(self, *records: Record) -> Self:
        return replace(self, records=(*self.records, *records))

    def fields(self, where: Select = lambda r: True, **changes: Any) -> Self:
        return self.change(lambda run: changed(run, **changes), where)

    def spec(self, where: Select = lambda r: True, **changes: Any) -> Self:
        return self.fields(where, **changes)

    def settings(self, where: Select = lambda r: True, **changes: Any) -> Self:
        return self.change(
            lambda run: changed(run, hyperparameters={**run.hyperparameters, **changes}), where
        )

    def facts(self, where: Select = lambda r: True, **changes: Any) -> Self:
        return self.change(lambda run: replace(run, facts=run.facts | facts_of(**changes)), where)

    def evaluation(self, where: Select = lambda r: True, **changes: Any) -> Self:
        """Change what is recorded of evaluations."""

        def with_evaluation(run: Record) -> Record:
            assert run.facts.evaluation is not None
            evaluation = replace(run.facts.evaluation, **changes)
            return replace(run, facts=replace(run.facts, evaluation=evaluation))

        return self.change(with_evaluation, where)

    def metric(
        self, name: str, value: Callable[[Record], float | None], where: Select = lambda r: True
    ) -> Self:
        return self.change(lambda r: replace(r, metrics={**r.metrics, name: value(r)}), where)

    def diverged(self, where: Select) -> Self:
        nothing = dict.fromkeys(self.records[0].metrics)
        return self.fields(where, status=Status.DIVERGED, step=100, metrics=nothing)


def by(optimizer: str) -> Select:
    return lambda run: run.optimizer == optimizer


def reported(run: Record) -> bool:
    return run.phase == "report"


def sound() -> Case:
    """A tuned comparison: five rates and three seeds a trial, then ten seeds of the best."""
    records = [
        record(optimizer, rate, 1000 + seed, "tune")
        for optimizer, rates in RATES.items()
        for rate in rates
        for seed in range(3)
    ]
    records += [
        record(optimizer, rate, seed) for optimizer, rate in BEST.items() for seed in range(10)
    ]
    return Case(study(), tuple(records))


def grid(seeds: int = 3, **keys: Any) -> Case:
    """A plain grid without claims: five rates for each optimizer, selected on validation."""
    records = [
        record(optimizer, rate, seed)
        for optimizer, rates in RATES.items()
        for rate in rates
        for seed in range(seeds)
    ]
    return Case(study(tune=None, seeds=seeds, claims=[], **keys), tuple(records))


def fixed(**rates: float) -> Case:
    """One setting for each optimizer, ten seeds, one claim."""
    chosen = {**BEST, **rates}
    records = [record(name, rate, seed) for name, rate in chosen.items() for seed in range(10)]
    optimizers = [{"rule": name, "lr": rate} for name, rate in chosen.items()]
    return Case(study(tune=None, optimizers=optimizers), tuple(records))


def timed() -> Case:
    """A claim about speed, each run trained by itself."""
    claimed = sound().with_study(claims=["sgd > adam on training_seconds"])

    def taken(run: Record) -> Record:
        seconds = 10.0 + (run.optimizer == "adam") + 0.1 * run.seed
        return replace(run, facts=replace(run.facts, seconds=Seconds(seconds, evaluation=1.0)))

    return claimed.change(taken).facts(stack_width=1)
