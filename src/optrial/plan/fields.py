"""Fields of the runs of a study, from its keys and its data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from optrial.code import is_code
from optrial.config import (
    MOST_STEPS,
    Budget,
    Evaluation,
    OptimizerEntry,
    Probing,
    Span,
    StudyFile,
)
from optrial.data import Dataset
from optrial.errors import Problem, StudyError
from optrial.models import resolve_model
from optrial.plan.evaluation import in_original_units, whole_split
from optrial.plan.losses import loss_arguments
from optrial.plan.optimizers import rule_of_entry
from optrial.plan.own_schedules import own_schedule_problem
from optrial.plan.space import Point, under
from optrial.rules import resolve_schedule
from optrial.spec import Average, EarlyStopping, ProbeSettings

__all__ = [
    "batches_of_epoch",
    "common_fields",
    "evaluated_splits",
    "metric_names",
    "schedule_in_steps",
    "setting_fields",
    "training_steps",
]


def common_fields(study: StudyFile, dataset: Dataset) -> dict[str, Any]:
    """Return the fields that all runs of a study share."""
    component = study.problem.dataset
    return {
        "dataset": component.name,
        "dataset_arguments": dataset.arguments,
        "loss": study.problem.loss.name,
        "metrics": metric_names(study),
        "early_stopping": _early_stopping(study),
        "original_units": in_original_units(study, dataset),
        "loss_limit": study.loss_limit,
        "model": study.problem.model.name,
        "evaluate_on": evaluated_splits(study, dataset),
        "batch_metrics": study.evaluate.batch_metrics,
        "evaluate_start": study.evaluate.start,
        "whole_split": whole_split(study, dataset),
        "engine": _engine(study),
        "compile": study.compile,
        "precision": study.precision,
        "rng": study.rng,
        "sampling": study.sampling,
        "shuffle": study.shuffle,
        "drop_last": study.drop_last,
        "accumulate": study.accumulate,
        "zero_grad": study.zero_grad,
        "threads": study.threads,
        "save": study.save,
        "select": study.selection if study.save == "best" else None,
    }


def _engine(study: StudyFile) -> str:
    """Return the engine; that of single runs, if they are compared after equal times."""
    in_seconds = study.budget.seconds is not None
    return "reference" if in_seconds and study.engine == "auto" else study.engine


def metric_names(study: StudyFile) -> tuple[str, ...]:
    """Return the names of all metrics of a study."""
    return tuple(entry.name for entry in study.problem.judges)


def setting_fields(
    study: StudyFile, entry: OptimizerEntry, dataset: Dataset, point: Point, divisor: int = 1
) -> dict[str, Any]:
    """Return the fields that the runs of one setting share, on one version of the dataset.

    Args:
        study: the study.
        entry: the optimizer.
        dataset: the version.
        point: the setting.
        divisor: number by which the budget is divided, and with it every duration of a schedule;
            also the time between evaluations, if a schedule or early stopping counts these.
    """
    size = dataset.batched.size
    batch_size = size if point["batch_size"] == "full" else point["batch_size"]
    epoch = _epoch(study, dataset, batch_size)
    steps = epoch.steps_of(study.budget) // divisor
    every = epoch.steps_of(study.evaluate.every)
    length = steps, epoch.steps, divisor
    return {
        **_optimizer_fields(entry, under("rule.", point)),
        "dataset_sha256": dataset.sha256,
        "loss_arguments": loss_arguments(study, dataset),
        "model_arguments": resolve_model(study.problem.model.name, under("model.", point)),
        "batch_size": batch_size,
        "steps_per_epoch": epoch.steps,
        "steps": steps,
        "evaluate_every": max(1, every // divisor) if _counts_evaluations(study) else every,
        "schedule": schedule_in_steps(study, point.get("schedule"), *length),
        "clip_norm": point.get("clip_norm"),
        "clip_value": point.get("clip_value"),
        "sam_rho": point.get("sam_rho"),
        "sam_adaptive": entry.adaptive_sam is not None,
        "average": _average(point),
        "budget_seconds": study.budget.seconds,
        "probes": study.probes and _probes(study.probes, study.evaluate, epoch),
    }


def evaluated_splits(study: StudyFile, dataset: Dataset) -> tuple[str, ...]:
    """Return the splits that the runs of a study's report evaluate."""
    return study.evaluate.on or tuple(split for split in dataset.splits if split != "train")


def training_steps(study: StudyFile, dataset: Dataset, batch_size: int) -> int:
    """Return the steps of a run with the whole budget."""
    return _epoch(study, dataset, batch_size).steps_of(study.budget)


def _epoch(study: StudyFile, dataset: Dataset, batch_size: int) -> _Epoch:
    size, samples = dataset.batched.size, batch_size * study.accumulate
    steps = batches_of_epoch(study, size, batch_size) // study.accumulate
    drawn = steps * samples if study.sampling == "with_replacement" else min(size, steps * samples)
    tokens = 1 if dataset.vocabulary is None else math.prod(dataset.input_shape)
    return _Epoch(steps, max(1, drawn), samples, tokens)


def _counts_evaluations(study: StudyFile) -> bool:
    """Return whether early stopping or a schedule has a patience."""
    parts = (part for entry in study.optimizers for part in entry.parts)
    schedules = (schedule for part in parts for schedule in part.schedule or ())
    plateau = any(schedule.get("kind") == "plateau" for schedule in schedules)
    return plateau or study.early_stopping is not None


def _average(point: Point) -> Average | None:
    if "average_ema" in point:
        return Average("ema", float(point["average_ema"]))
    return Average("tail", float(point["average_tail"])) if "average_tail" in point else None


def batches_of_epoch(study: StudyFile, size: int, batch_size: int) -> int:
    """Return the number of batches of an epoch."""
    return (math.floor if study.drop_last else math.ceil)(size / batch_size)


def schedule_in_steps(
    study: StudyFile,
    schedule: Mapping[str, Any] | None,
    steps: int,
    steps_per_epoch: int,
    divisor: int = 1,
) -> dict[str, Any] | None:
    """Return a schedule with all durations in steps; one of a plateau with its direction.

    Raises:
        StudyError: it does not fit into the budget, or is a function that fails within it.
    """
    if schedule is None:
        return None
    resolved = resolve_schedule(schedule, steps, steps_per_epoch, divisor)
    if is_code(kind := resolved["kind"]):
        spanned = steps - resolved["warmup"]
        if reason := own_schedule_problem(kind, resolved["args"], spanned):
            raise StudyError([Problem("schedule.kind", reason)])
    if resolved["kind"] == "plateau":
        resolved["better"] = study.directions.better(resolved["metric"])
    return resolved


def _early_stopping(study: StudyFile) -> EarlyStopping | None:
    stopping, selection = study.early_stopping, study.selection
    if stopping is None:
        return None
    metric = stopping.metric or (selection.metric if selection else "validation_loss")
    better = study.directions.better(metric) or "lower"
    return EarlyStopping(stopping.patience, metric, better, stopping.min_delta)


def _probes(probing: Probing, evaluation: Evaluation, epoch: _Epoch) -> ProbeSettings:
    every = epoch.steps_of(probing.every or evaluation.every)
    return ProbeSettings(tuple(probing.measure), every, probing.per_layer)


def _optimizer_fields(entry: OptimizerEntry, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a run that describe its optimizer."""
    if entry.kind == "torch":
        return {
            "optimizer_kind": "torch",
            "rule": entry.code,
            "hyperparameters": chosen,
            "weight_decay": 0.0,
            "decay": "l2",
            "closure": entry.closure,
            "create_graph": entry.create_graph,
        }
    rule = rule_of_entry(entry)
    weight_decay = float(chosen.pop("weight_decay"))
    return {
        "optimizer_kind": entry.kind,
        "rule": entry.code,
        "hyperparameters": {k: _number(v) for k, v in chosen.items()},
        "weight_decay": weight_decay,
        "decay": entry.decay or rule.default_decay,
        "modify": entry.modifiers,
    }


class _Epoch(NamedTuple):
    """Sizes that turn a length of training into steps.

    Attributes:
        steps: steps of an epoch.
        samples: samples of an epoch, whose last step may be smaller than the others.
        samples_per_step: samples of every other step.
        tokens: tokens of a sample; 1 for inputs that are no tokens.
    """

    steps: int
    samples: int
    samples_per_step: int
    tokens: int

    def steps_of(self, span: Span) -> int:
        """Return a length of training in steps; more than it takes, if it is in seconds."""
        if isinstance(span, Budget) and span.seconds is not None:
            return MOST_STEPS
        if span.steps is not None:
            return span.steps
        if span.epochs is not None:
            return span.epochs * self.steps
        samples = span.samples or math.ceil((span.tokens or 0) / self.tokens)
        epochs, rest = divmod(samples, self.samples)
        return epochs * self.steps + math.ceil(rest / self.samples_per_step)


def _number(value: float | bool) -> float | bool:
    return value if isinstance(value, bool) else float(value)
