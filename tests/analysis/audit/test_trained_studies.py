"""Every rule fires on some trained study, and reads only facts that engines write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from optrial.analysis.audit import AUDIT_RULES, AuditReport, audit
from optrial.data import BatchOrder
from optrial.engine import ReferenceEngine, StackedEngine, provenance
from optrial.engine.learner import Steps
from optrial.models import build_model
from optrial.records import PlannedRun, Record
from optrial.records.encoding import encode_facts
from optrial.results import Results
from optrial.spec import RunFacts, RunSpec
from optrial.study import Study
from tests.small import MOONS, small_keys

HERE = "tests.analysis.audit.spoilers"
Keys = Mapping[str, Any]
Patch = Callable[[pytest.MonkeyPatch], None]

BASE: Keys = {
    "engine": "numpy",
    "budget": {"steps": 40},
    "evaluate": {"every": {"steps": 10}, "on": ["validation", "test"]},
    "seeds": 2,
}
SGD, ADAM = {"rule": "sgd", "lr": 0.1}, {"rule": "adam", "lr": 0.01}
CLAIM = "adam > sgd on test_loss"
OTHERS = [
    "adam is best on test_accuracy",
    "sgd is best on test_loss",
    "sgd is best on test_accuracy",
]
REPORTED = [0, 1, 2]
GRIDS = [{"rule": "sgd", "lr": [0.03, 0.1]}, {"rule": "adam", "lr": [0.003, 0.01]}]


@dataclass(frozen=True)
class Spoiled:
    """A study with faults.

    Attributes:
        rules: what finds them.
        versions: the keys of its versions, run one after the other in one folder.
        patches: faults of the engine, one per version; missing ones are none.
        joined: whether the runs of all versions make one table.
    """

    rules: str
    versions: tuple[Keys, ...]
    patches: tuple[Patch, ...] = ()
    joined: bool = False


def study(rules: str, *versions: Keys, joined: bool = False, **keys: Any) -> Spoiled:
    patches = keys.pop("patches", ())
    return Spoiled(rules, versions or (keys,), patches, joined)


def other_machine(patch: pytest.MonkeyPatch) -> None:
    """Another host, with another PyTorch, and changes that are in no commit."""
    versions = {**(provenance().versions or {}), "torch": "0.0"}
    facts = replace(provenance(), host="elsewhere", git_dirty=True, versions=versions)
    patch.setattr("optrial.executors.trainer.provenance", lambda: facts)


def other_starts(patch: pytest.MonkeyPatch) -> None:
    def built(*args: Any, seed: int, **kwargs: Any) -> Any:
        return build_model(*args, seed=seed + 1, **kwargs)

    patch.setattr("optrial.engine.backends.numpy_backprop.build_model", built)


def other_order(patch: pytest.MonkeyPatch) -> None:
    def order(spec: Any, size: int, stride: int = 1) -> BatchOrder:
        assert stride == 1
        return BatchOrder(size=size, batch_size=spec.batch_size, seed=spec.seed + 1)

    patch.setattr("optrial.engine.backends.numpy_backprop.batch_order", order)


def shared_masks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("optrial.engine.backends.numpy_backprop.mask_key", lambda seed, step: step)


def evaluates_in_training_mode(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def forgetful(self: ReferenceEngine, *, raw: bool = False) -> Iterator[None]:
        del raw
        self.model.train()
        yield

    patch.setattr(ReferenceEngine, "_evaluating", forgetful)


def slow_first_step(patch: pytest.MonkeyPatch) -> None:
    advance = ReferenceEngine.step

    def slow(self: ReferenceEngine, batch: Any, number: int) -> Any:
        time.sleep(0.1 * (number == 1))
        return advance(self, batch, number)

    patch.setattr(ReferenceEngine, "step", slow)


def low_precision(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("optrial.engine.options.float32_products", lambda: "medium")


def certified(patch: pytest.MonkeyPatch) -> None:
    """Certificates are for long trainings; here the shortest has them."""
    patch.setattr("optrial.engine.checks.certificate._LEAST_STEPS", 1)
    patch.setattr("optrial.engine.checks.certificate._LEAST_SECONDS", 0.0)
    patch.setattr("optrial.engine.Training.evaluation_is_cheap", True)
    patch.setattr("optrial.engine.checks.certificate.parity_is_cheap", lambda seconds: True)


def irreproducible(patch: pytest.MonkeyPatch) -> None:
    """A stack with different losses each time, also next to a diverging run."""
    certified(patch)
    advance, noise = StackedEngine.advance, np.random.default_rng(0)

    def noisy(self: StackedEngine, steps: int) -> Steps:
        measured = advance(self, steps)
        return measured._replace(losses=measured.losses * noise.uniform(1, 1.1))

    patch.setattr(StackedEngine, "advance", noisy)


def rests(concerns: Callable[[int], bool]) -> Patch:
    """Return a fault by which runs of these seeds take no step."""

    def frozen(patch: pytest.MonkeyPatch) -> None:
        build = ReferenceEngine.__init__

        def built(self: ReferenceEngine, spec: RunSpec, *args: Any) -> None:
            build(self, spec, *args)
            for group in self.optimizer.param_groups if concerns(spec.seed) else ():
                group["lr"] = 0.0

        patch.setattr(ReferenceEngine, "__init__", built)

    return frozen


STUDIES: Mapping[str, Spoiled] = {
    "two small grids": study("A01 A05 B05 D02", optimizers=GRIDS),
    "unequal grids": study(
        "A02 A07 A08",
        optimizers=[
            {"rule": "sgd", "lr": {"log": [0.0001, 100.0], "points": 7}},
            {"rule": "adam", "lr": [0.01, 0.02]},
        ],
    ),
    "one default": study("A03", optimizers=[{"rule": "sgd"}, GRIDS[1]]),
    "one rate": study("A04 D01", seeds=[0], optimizers=[SGD | {"lr": 0.01}, ADAM]),
    "one seed, many settings": study("A13", seeds=[0], optimizers=GRIDS),
    "two gradients": study("C03", optimizers=[SGD | {"sam": 0.05}, ADAM]),
    "stopped early": study(
        "C06",
        optimizers=[SGD | {"lr": 1e-6}, ADAM],
        early_stopping={"patience": 1, "min_delta": 0.5},
    ),
    "weak momentum": study(
        "A06",
        seeds=6,
        optimizers=[SGD, {"rule": "momentum", "lr": 0.0001, "momentum": 0.9}],
    ),
    "treated differently": study(
        "A09 A10 E09",
        optimizers=[
            SGD | {"weight_decay": 0.01, "decay": "l2", "schedule": "cosine"},
            ADAM | {"weight_decay": 0.01, "decay": "decoupled", "clip": 1.0},
        ],
    ),
    "chosen on test": study(
        "B01 G04",
        evaluate={"on": ["test"]},
        optimizers=GRIDS,
        claims=["adam > sgd on test_accuracy"],
    ),
    "chosen by another metric": study(
        "B04",
        optimizers=GRIDS,
        tune={"select": "validation_loss", "seeds": 1, "extend": False},
        claims=["adam > sgd on test_accuracy"],
    ),
    "changed after results": study(
        "B06 B09 G01",
        {"seeds": 3, "optimizers": GRIDS},
        {
            "seeds": 2,
            "optimizers": [GRIDS[0], GRIDS[1] | {"lr": [0.003, 0.02]}],
            "claims": ["adam > sgd on test_accuracy"],
        },
    ),
    "another protocol": study(
        "B08", {"optimizers": [SGD, ADAM]}, {"optimizers": [SGD], "batch_size": 16}
    ),
    "hard to tune": study(
        "A11",
        optimizers=[
            {"rule": "sgd", "lr": {"lin": [0.018, 0.022], "points": 10}},
            {"rule": "adam", "lr": [*(n * 1e-6 for n in range(1, 10)), 0.1]},
        ],
    ),
    "fast starters": study(
        "A14",
        optimizers=[
            {"rule": "momentum", "momentum": 0.9, "lr": [0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0]}
        ],
        tune={
            "sampler": "halving",
            "trials": 8,
            "eta": 2,
            "rungs": 2,
            "seeds": 1,
            "select": "validation_loss",
        },
    ),
    "a coarse grid": study(
        "A15",
        seeds=6,
        optimizers=[SGD, {"rule": "adam", "lr": [0.001, 0.1, 3.0]}],
        claims=["adam > sgd on test_accuracy"],
    ),
    "leaking data": study(
        "B07",
        problem={"dataset": f"{HERE}:duplicates", "model": {"kind": "mlp", "hidden": [8]}},
        optimizers=[SGD],
    ),
    "unequal tables": study(
        "B03 C01 C05 D05 G06",
        {"optimizers": [SGD], "seeds": [0, 1]},
        {
            "optimizers": [ADAM],
            "seeds": [1, 2],
            "batch_size": 16,
            "budget": {"steps": 50},
            "evaluate": {"every": {"steps": 25}, "on": ["validation", "test"]},
        },
        joined=True,
    ),
    "a schedule that is cut off": study(
        "C02", optimizers=[SGD | {"schedule": {"kind": "multistep", "at": [20, 90]}}]
    ),
    "still improving": study(
        "C04 C07",
        seeds=3,
        evaluate={"every": {"steps": 2}, "on": ["validation", "test"]},
        claims=[],
        optimizers=[
            SGD,
            {"name": "slower", "rule": "sgd", "lr": 0.05},
            {
                "name": "late",
                "rule": "sgd",
                "lr": 1.0,
                "schedule": {"kind": "constant", "warmup": 0.9},
            },
        ],
    ),
    "claims on training": study(
        "C08 E12", optimizers=[SGD, ADAM], claims=["adam > sgd on train_loss"]
    ),
    "runs that diverge": study(
        "D03 D09",
        seeds=6,
        optimizers=[SGD, ADAM],
        loss_limit=0.69,
    ),
    "no difference": study(
        "D04 D15 G05",
        seeds=7,
        optimizers=[SGD, {"name": "twin", "rule": "sgd", "lr": 0.1}],
        claims=["twin > sgd on test_accuracy"],
    ),
    "claims removed": study(
        "D06 D13",
        {"seeds": 5, "optimizers": [SGD, ADAM], "claims": [CLAIM, *OTHERS]},
        {"seeds": 6, "optimizers": [SGD, ADAM], "claims": [CLAIM, *OTHERS]},
        {"seeds": 7, "optimizers": [SGD, ADAM], "claims": [CLAIM]},
    ),
    "fixed order": study("D07 E08", shuffle=False, optimizers=[SGD]),
    "a small test set": study(
        "D08",
        seeds=6,
        optimizers=[SGD, ADAM | {"lr": 0.1}],
        claims=["adam > sgd on test_accuracy"],
    ),
    "of no practical size": study(
        "D12",
        seeds=6,
        problem={
            "dataset": f"{HERE}:one_hard_sample",
            "model": {"kind": "logistic", "initialization": {"name": "normal", "std": 0.001}},
        },
        optimizers=[SGD, ADAM | {"lr": 0.1}],
        claims=["adam > sgd on test_accuracy"],
    ),
    "one run that rests": study(
        "D14",
        seeds=6,
        engine="reference",
        optimizers=[SGD | {"lr": 0.5}],
        patches=(rests(lambda seed: seed == 3),),
    ),
    "a lucky trial": study(
        "A12 E18",
        seeds=REPORTED,
        engine="reference",
        tune={"seeds": 3, "extend": False},
        optimizers=[{"rule": "sgd", "lr": [0.2, 0.5]}],
        patches=(rests(lambda seed: seed in REPORTED),),
    ),
    "evaluated in training mode": study(
        "E01 E02",
        engine="reference",
        problem={"dataset": dict(MOONS), "model": f"{HERE}:with_batch_norm"},
        optimizers=[SGD],
        patches=(evaluates_in_training_mode,),
    ),
    "random numbers of a script": study("E03", engine="reference", rng="script", optimizers=[SGD]),
    "a wrong name": study("E04", optimizers=[SGD | {"name": "Nesterov"}]),
    "several environments": study(
        "E05 E06 F02",
        {"optimizers": [SGD]},
        {"optimizers": [SGD, ADAM], "claims": ["adam > sgd on training_seconds"]},
        patches=(lambda patch: None, lambda patch: (other_machine(patch), other_starts(patch))),
    ),
    "several orders": study(
        "E07",
        {"optimizers": [SGD]},
        {"optimizers": [SGD, ADAM]},
        patches=(lambda patch: None, other_order),
    ),
    "decay of some parameters": study(
        "E10 G02",
        engine="reference",
        optimizers=[SGD | {"weight_decay": 0.01}, {"torch": f"{HERE}:decaying_matrices"}],
        patches=(other_machine,),
    ),
    "compared after equal times": study("F04", budget={"seconds": 0.02}, optimizers=[SGD, ADAM]),
    "a stack that cannot be repeated": study(
        "E13 E15 E17 F03",
        engine="stacked",
        compile="never",
        optimizers=[SGD, ADAM],
        claims=["adam > sgd on training_seconds"],
        patches=(irreproducible,),
    ),
    "shared masks": study(
        "E14",
        problem={
            "dataset": dict(MOONS),
            "model": {"kind": "mlp", "hidden": [8], "dropout": 0.5},
        },
        optimizers=[SGD],
        patches=(shared_masks,),
    ),
    "two precisions": study(
        "E16",
        {"engine": "reference", "optimizers": [SGD]},
        {"engine": "reference", "optimizers": [SGD, ADAM]},
        patches=(lambda patch: None, low_precision),
    ),
    "large targets": study(
        "E19",
        problem={
            "dataset": {"name": "diabetes", "standardize_targets": False},
            "model": {"kind": "mlp", "hidden": [8]},
            "loss": "mse",
        },
        optimizers=[SGD | {"lr": 1e-6}],
    ),
    "nothing is learned": study(
        "E20",
        problem={
            "dataset": dict(MOONS),
            "model": {
                "kind": "mlp",
                "hidden": [8],
                "initialization": {"name": "normal", "std": 1e-6},
            },
        },
        optimizers=[SGD],
    ),
    "a rate too small": study("E21", optimizers=[SGD | {"lr": 1e-7}]),
    "a slow start": study(
        "F01",
        engine="reference",
        optimizers=[SGD, ADAM],
        claims=["adam > sgd on training_seconds"],
        patches=(slow_first_step,),
    ),
    "many evaluations": study(
        "G03",
        budget={"steps": 250},
        evaluate={"every": {"steps": 1}, "on": ["validation"]},
        seeds=[0],
        optimizers=[SGD],
    ),
}


NAMES = frozenset(field.name for field in fields(RunFacts))


class Facts(RunFacts):
    """Facts that remember which of them were read; comparing records reads none."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @classmethod
    def remembering(cls, facts: RunFacts, read: set[str]) -> Facts:
        copy = cls(**{name: getattr(facts, name) for name in NAMES})
        object.__setattr__(copy, "_read", read)
        return copy

    def __getattribute__(self, name: str) -> Any:
        if name in NAMES:
            object.__getattribute__(self, "_read").add(name)
        return super().__getattribute__(name)


@dataclass(frozen=True)
class Seen:
    """The report of an audit, the facts that it read, and those that were written."""

    report: AuditReport
    read: frozenset[str]
    written: frozenset[str]


def planned(record: Record) -> PlannedRun:
    return PlannedRun(**{field.name: getattr(record, field.name) for field in fields(PlannedRun)})


def audited(results: Results) -> Seen:
    """Audit as `Results.audit` does, with facts that remember."""
    read: set[str] = set()
    everything = [
        replace(record, facts=Facts.remembering(record.facts, read))
        for record in results.store.runs(everything=True)
    ]
    ids = {record.run_id for record in results.records}
    view = replace(
        results.view(),
        records=tuple(record for record in everything if record.run_id in ids),
        former=tuple(record for record in everything if record.run_id not in ids),
    )
    report = audit(view)
    read_by_rules = frozenset(read)  # writing them below reads every fact
    written = {name for record in everything for name in encode_facts(record.facts)}
    return Seen(report, read_by_rules, frozenset(written))


@cache
def seen(name: str) -> Seen:
    """Train a study in all its versions and audit the last one."""
    spoiled = STUDIES[name]
    with TemporaryDirectory() as folder:
        for place, version in enumerate(spoiled.versions):
            with pytest.MonkeyPatch.context() as patch:
                for change in spoiled.patches[place : place + 1]:
                    change(patch)
                trained = Study(**small_keys(**{**BASE, **version}))
                with trained.run(Path(folder), device="cpu", checkpoint_seconds=100) as results:
                    if spoiled.joined:
                        runs = [planned(r) for r in results.store.runs(everything=True)]
                        results.store.save_plan("joined", dict(results.study), runs)
                    outcome = audited(results)
    return outcome


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", STUDIES)
def test_rules_fire_on_trained_studies(name: str) -> None:
    expected = set(STUDIES[name].rules.split())
    assert expected <= {finding.rule for finding in seen(name).report.findings}


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_the_implementation_of_an_ordinary_study_has_no_faults(engine: str, tmp_path: Path) -> None:
    """Evaluation does not change the runs, and is in the right mode."""
    keys = {**BASE, "engine": engine, "compile": "never", "optimizers": [SGD, ADAM]}
    with Study(**small_keys(**keys)).run(tmp_path, device="cpu") as results:
        wrong = [finding for finding in results.audit().findings if finding.rule[0] in "EF"]
    assert wrong == []


@pytest.mark.slow
def test_every_rule_fires_from_some_trained_study() -> None:
    rules = {finding.rule for name in STUDIES for finding in seen(name).report.findings}
    assert set(AUDIT_RULES) - rules == set()


@pytest.mark.slow
def test_every_fact_that_a_rule_reads_is_written_by_an_engine() -> None:
    read = {fact for name in STUDIES for fact in seen(name).read}
    written = {fact for name in STUDIES for fact in seen(name).written}
    declared = {fact for rule in AUDIT_RULES.values() for fact in rule.facts}
    assert (read | declared) - {"gpu"} <= written  # which tests may lack
