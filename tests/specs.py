"""Specs and facts of made-up runs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from optrial.records import PlannedRun
from optrial.records.encoding import decode_facts
from optrial.spec import RunFacts, RunSpec, StackId

STACK = StackId("stacked", "0")

SPEC = RunSpec(
    optimizer="adam",
    optimizer_kind="rule",
    rule="adam",
    hyperparameters={"lr": 0.1},
    weight_decay=0.0,
    decay="l2",
    schedule=None,
    clip_norm=None,
    clip_value=None,
    zero_grad=True,
    seed=0,
    dataset="moons",
    dataset_arguments={},
    dataset_sha256="d",
    model="mlp",
    model_arguments={},
    loss="cross_entropy",
    loss_arguments={},
    metrics=("accuracy",),
    loss_limit=None,
    batch_size=32,
    steps=100,
    steps_per_epoch=10,
    evaluate_every=10,
    evaluate_on=("validation", "test"),
    engine="auto",
    compile="auto",
    precision="float32",
    rng="streams",
    sampling="epoch",
    shuffle=True,
    drop_last=False,
    save=None,
    code={},
)

Run = TypeVar("Run", bound=PlannedRun)


def facts_of(**values: Any) -> RunFacts:
    """Facts, given as a store keeps them."""
    return decode_facts(values)


def changed(run: Run, **changes: Any) -> Run:
    """A run with other fields, its own or those of its spec."""
    names = {field.name for field in fields(run)}
    in_spec = {name: value for name, value in changes.items() if name in names}
    of_spec = {name: value for name, value in changes.items() if name not in names}
    return replace(run, spec=replace(run.spec, **of_spec), **in_spec)
