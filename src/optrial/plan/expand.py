"""From a study and its dataset to the runs that will be trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from optrial.config import Axis, OptimizerEntry, Span, StudyFile
from optrial.data import Dataset, resolved_arguments
from optrial.errors import Problem, StudyError
from optrial.models import resolve_model
from optrial.plan.check import axes_of, model_axes
from optrial.plan.spec import RunSpec
from optrial.plan.stacks import pack
from optrial.rules import RULES

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """A study expanded into runs.

    Attributes:
        study: what was asked for.
        runs: every run, by optimizer, then setting, then seed.
        settings: run id -> the values that vary, as every table shows them: ``lr=0.1``.
    """

    study: StudyFile
    runs: tuple[RunSpec, ...]
    settings: Mapping[str, str]

    @cached_property
    def hash(self) -> str:
        """Changes with any run that is added, changed or removed."""
        return sha256(" ".join(run.run_id for run in self.runs).encode()).hexdigest()[:12]

    @property
    def groups(self) -> tuple[tuple[RunSpec, ...], ...]:
        """The runs that could be trained as one stack, were it wide enough."""
        return tuple(pack(self.runs, len(self.runs)))


def make_plan(study: StudyFile, dataset: Dataset) -> Plan:
    """Expand every grid axis and seed of a checked study.

    Raises:
        StudyError: a batch size beyond the training split, an evaluation on a split that the
            dataset does not have, or two settings that are the same run.
    """
    if problems := list(_data_problems(study, dataset)):
        raise StudyError(problems, f"study '{study.name}'")
    common = _common_fields(study, dataset)
    runs: dict[str, RunSpec] = {}
    settings: dict[str, str] = {}
    for entry in study.optimizers:
        for values, fields in _settings(study, entry, dataset):
            for seed in study.seeds:
                run = RunSpec(**common, **fields, optimizer=entry.label, seed=seed)
                setting = " ".join(f"{name}={_short(value)}" for name, value in values.items())
                if run.run_id in runs:
                    same = f"'{settings[run.run_id]}' and '{setting}' are the same run; keep one."
                    raise StudyError([Problem(entry.label, same)], f"study '{study.name}'")
                runs[run.run_id], settings[run.run_id] = run, setting
    return Plan(study, tuple(runs.values()), settings)


def _data_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    size = dataset.sizes["train"]
    for value in study.batch_size.values:
        if value != "full" and value > size:
            limit = f"the training split has {size} samples; use at most that, or 'full'"
            yield Problem("batch_size", f"{value}: {limit}.")
    for split in study.evaluate.on or ():
        if split not in dataset.splits:
            has = ", ".join(dataset.splits)
            yield Problem("evaluate.on", f"'{split}': the dataset has only {has}.")


def _common_fields(study: StudyFile, dataset: Dataset) -> dict[str, Any]:
    """The fields that all runs of a study share."""
    component = study.problem.dataset
    splits = tuple(split for split in dataset.splits if split != "train")
    return {
        "dataset": component.name,
        "dataset_arguments": resolved_arguments(component.name, component.arguments),
        "dataset_sha256": dataset.sha256,
        "loss": study.problem.loss,
        "model": study.problem.model.name,
        "evaluate_on": study.evaluate.on or splits,
        "engine": study.engine,
        "compile": study.compile,
        "precision": study.precision,
        "rng": study.rng,
        "sampling": study.sampling,
        "shuffle": study.shuffle,
        "drop_last": study.drop_last,
    }


def _settings(
    study: StudyFile, entry: OptimizerEntry, dataset: Dataset
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield, for each setting of an optimizer, the values to show and the fields of its runs."""
    rule = RULES[entry.rule]
    model = model_axes(study.problem.model)
    own = axes_of(entry)
    axes = {"batch_size": study.batch_size} | _prefixed("model.", model) | _prefixed("rule.", own)
    varying = {name for name, axis in axes.items() if len(axis.values) > 1} | {"rule.lr"}
    for combination in itertools.product(*(axis.values for axis in axes.values())):
        point = dict(zip(axes, combination, strict=True))
        chosen = {name: point[f"rule.{name}"] for name in own}
        weight_decay = float(chosen.pop("weight_decay"))
        arguments = {name: point[f"model.{name}"] for name in model}
        size = dataset.sizes["train"]
        batch_size = size if point["batch_size"] == "full" else point["batch_size"]
        rounded = math.floor if study.drop_last else math.ceil
        steps_per_epoch = rounded(size / batch_size)
        shown = sorted(varying, key=lambda name: (name != "rule.lr", list(axes).index(name)))
        yield (
            {name.rpartition(".")[2]: point[name] for name in shown},
            {
                "rule": rule.name,
                "hyperparameters": {k: _number(v) for k, v in chosen.items()},
                "weight_decay": weight_decay,
                "decay": entry.decay or rule.default_decay,
                "model_arguments": resolve_model(study.problem.model.name, arguments),
                "batch_size": batch_size,
                "steps_per_epoch": steps_per_epoch,
                "steps": _steps(study.budget, steps_per_epoch),
                "evaluate_every": _steps(study.evaluate.every, steps_per_epoch),
            },
        )


def _prefixed(prefix: str, axes: Mapping[str, Axis]) -> dict[str, Axis]:
    return {prefix + name: axis for name, axis in axes.items()}


def _steps(span: Span, steps_per_epoch: int) -> int:
    return span.steps or (span.epochs or 0) * steps_per_epoch


def _number(value: float | bool) -> float | bool:
    return value if isinstance(value, bool) else float(value)


def _short(value: Any) -> str:
    """Six significant digits, fewer where they are zeros."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.6g}" if is_number else str(value).replace(" ", "")
