"""Models of a plan, and the memory that a training step of each needs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from optrial.data import Dataset
from optrial.models import ModelSummary, build_model, input_dtype, summarize
from optrial.plan.expand import Plan
from optrial.plan.groups import Parameters, parameters_of
from optrial.plan.optimizers import further_values, rule_of
from optrial.rules import initialise_all
from optrial.spec import RunSpec

__all__ = ["PlannedModel", "StepMemory", "planned_models"]


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step of one run, in bytes; the data and the program come on top.

    Attributes:
        optimizer: name of the optimizer.
        batch_size: samples per step.
        parameters: of the model, buffers included.
        gradients: of the trained parameters.
        state: arrays that the optimizer keeps; None for a user-defined class, which is not known.
        activations: values of a batch that the backward pass needs.
    """

    optimizer: str
    batch_size: int
    parameters: int
    gradients: int
    state: int | None
    activations: int

    @property
    def total(self) -> int:
        """Sum of all parts that are known."""
        return self.parameters + self.gradients + (self.state or 0) + self.activations


@dataclass(frozen=True)
class PlannedModel:
    """A model of a study.

    Attributes:
        summary: its layers and parameters.
        memory: one entry per optimizer and batch size.
    """

    summary: ModelSummary
    memory: tuple[StepMemory, ...]


def planned_models(plan: Plan, dataset: Dataset) -> list[PlannedModel]:
    """Return each model of a plan on one problem, in the order of the study.

    Args:
        plan: the runs.
        dataset: their data.
    """
    groups: dict[str, list[RunSpec]] = {}
    for run in plan.runs:
        groups.setdefault(json.dumps([run.model, run.model_arguments]), []).append(run)
    models = []
    for first, *others in groups.values():
        shape, classes = dataset.input_shape, dataset.classes
        model = build_model(
            first.model,
            first.model_arguments,
            input_shape=shape,
            classes=classes,
            vocabulary=dataset.vocabulary,
            seed=first.seed,
        )
        dtype = input_dtype(dataset.vocabulary)
        summary = summarize(model, first.model, first.model_arguments, shape, dtype)
        parameters = parameters_of(
            (first.model, first.model_arguments), shape, classes, dataset.vocabulary
        )
        memory = dict.fromkeys(_memory(summary, parameters, [first, *others]))
        models.append(PlannedModel(summary, tuple(memory)))
    return models


def _memory(
    summary: ModelSummary, parameters: Parameters, runs: list[RunSpec]
) -> Iterator[StepMemory]:
    for run in runs:
        size = 8 if run.precision == "float64" else 4
        frozen = sum(math.prod(parameters[name].shape) for name in run.frozen)
        kept = _values_kept(run, parameters)
        yield StepMemory(
            run.optimizer,
            run.batch_size,
            size * (summary.parameters + summary.buffers),
            size * (summary.trained_parameters - frozen),
            None if kept is None else size * kept,
            size * summary.saved_per_sample * run.batch_size,
        )


def _values_kept(run: RunSpec, parameters: Parameters) -> int | None:
    """Return how many values an optimizer keeps, in arrays like the parameters; None if unknown."""
    if run.uses_torch:
        return None
    total = 0
    for part in run.parts(parameters):
        rule = rule_of(part.optimizer_kind, part.rule, part.modify)
        probe = np.ones((2, 3))
        state = initialise_all(rule, {"w": probe}, part.hyperparameters)
        kept = [array for arrays in state.values() for array in arrays]
        arrays = len([array for array in kept if np.shape(array) == probe.shape])
        total += arrays * sum(math.prod(parameters[name].shape) for name in part.parameters)
        vectors = run.as_vectors if rule.as_vectors else ()
        shapes = {name: tuple(parameters[name].shape) for name in part.parameters}
        shapes |= {name: (math.prod(shapes[name]),) for name in vectors if name in shapes}
        values = tuple(part.hyperparameters.items()) if rule.as_one_vector else ()
        total += further_values(rule, tuple(shapes.values()), values)
    return total
