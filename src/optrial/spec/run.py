"""What determines the numbers of one run, and its content-hash id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

__all__ = ["RunSpec"]

_FORMAT = 1
"""Raised when the same fields come to mean other numbers, so that old ids are not reused."""


@dataclass(frozen=True)
class RunSpec:
    """One training: problem x optimizer x hyperparameter values x seed, everything resolved.

    Attributes:
        optimizer: name of the entry in the study.
        optimizer_kind: "rule" of the catalogue, "torch" for a `torch.optim.Optimizer` class of the
            user's, or "rule_factory" for a function of the user's that returns a rule.
        rule: name of the update rule, or ``module:name`` of class or function.
        hyperparameters: every hyperparameter of the rule, or argument of the class, by name.
        weight_decay: coefficient, 0 for none.
        decay: "l2" adds ``weight_decay * parameter`` to the gradient; "decoupled" shrinks the
            parameter by ``lr * weight_decay`` instead.
        schedule: kind and arguments of the learning-rate schedule, durations in steps, or None.
        clip_norm: largest norm of the gradient of all parameters together, or None.
        clip_value: largest magnitude of a coordinate of the gradient, or None.
        zero_grad: whether each step begins with a gradient of zero; else gradients pile up.
        seed: of initial weights, batch order and dropout masks.
        dataset: name of the dataset.
        dataset_arguments: its arguments after defaults.
        dataset_sha256: of the arrays that are trained on.
        model: kind of the model.
        model_arguments: its arguments after defaults.
        loss: name of the loss.
        loss_arguments: those that were given.
        metrics: names of the metrics.
        loss_limit: a run whose training loss exceeds it counts as diverged; None for no limit.
        batch_size: samples a step; the last batch of an epoch may be smaller.
        steps: number of training steps.
        steps_per_epoch: steps in one pass over the training split.
        evaluate_every: evaluate after each so many steps, and after the last.
        evaluate_on: the splits that are evaluated.
        engine: which engine trains it; "auto" leaves the choice to the machine.
        compile: whether a stacked engine compiles its step: "auto", "always" or "never".
        precision: "float32", "bfloat16" (weights and updates in float32) or "float64".
        rng: "streams" (keyed by seed, shared by all engines) or "script" (one global generator).
        sampling: "epoch" or "with_replacement".
        shuffle: whether each epoch has an order of its own.
        drop_last: whether a last, smaller batch of an epoch is left out.
        save: which weights are kept: "final", "best" or None.
        code: name of each user object -> hash of its code and all that it uses.
        probes: what is measured besides (``measure``), every so many steps (``every``), and whether
            of each layer too (``per_layer``); or None.
        batch_metrics: whether the metrics of each step's batch are recorded.
        whole_split: user code that is evaluated on a whole split at once, because it is not a mean
            over samples: names of metrics, "loss", and "model" where the outputs of a sample
            depend on those beside it.
        select: with ``save: best``, the metric that selects the weights and its direction, the
            fields of `optrial.metric_names.Selection`; else None.
        closure: whether the optimizer's `step` is passed a closure, even if it does not require it.
        create_graph: whether gradients are computed so that they can be differentiated again.
    """

    optimizer: str
    optimizer_kind: Literal["rule", "torch", "rule_factory"]
    rule: str
    hyperparameters: Mapping[str, Any]
    weight_decay: float
    decay: str
    schedule: Mapping[str, Any] | None
    clip_norm: float | None
    clip_value: float | None
    zero_grad: bool
    seed: int
    dataset: str
    dataset_arguments: Mapping[str, Any]
    dataset_sha256: str
    model: str
    model_arguments: Mapping[str, Any]
    loss: str
    loss_arguments: Mapping[str, Any]
    metrics: tuple[str, ...]
    loss_limit: float | None
    batch_size: int
    steps: int
    steps_per_epoch: int
    evaluate_every: int
    evaluate_on: tuple[str, ...]
    engine: str
    compile: str
    precision: str
    rng: str
    sampling: Literal["epoch", "with_replacement"]
    shuffle: bool
    drop_last: bool
    save: Literal["final", "best"] | None
    code: Mapping[str, str]
    probes: Mapping[str, Any] | None = None
    batch_metrics: bool = False
    whole_split: tuple[str, ...] = ()
    select: Mapping[str, Any] | None = None
    closure: bool = False
    create_graph: bool = False

    @cached_property
    def run_id(self) -> str:
        """Twelve hexadecimal digits that change with anything that could change a number."""
        content = {"format": _FORMAT} | self.as_dict()
        recent = ("probes", "batch_metrics", "whole_split", "select", "closure", "create_graph")
        for later in recent:
            if not content[later]:
                del content[later]  # so that runs keep the ids they had before there were any
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def without_seed(self) -> str:
        """Everything about the run but its seed, as text that can be compared."""
        return json.dumps(self.as_dict() | {"seed": None}, sort_keys=True)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RunSpec:
        """Return the run whose `as_dict` this is, perhaps by way of JSON."""
        lists = {name: tuple(fields[name]) for name in ("evaluate_on", "metrics", "whole_split")}
        return cls(**{**fields, **lists})

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
