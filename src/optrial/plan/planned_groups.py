"""Parameters of each model of a plan, with the group, rule and values that update them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optrial.data import Dataset
from optrial.plan.expand import Plan
from optrial.plan.groups import parameters_of
from optrial.spec import Part, RunSpec

__all__ = ["PlannedParameter", "planned_groups"]


@dataclass(frozen=True)
class PlannedParameter:
    """A trained parameter of a model, and how one optimizer of a study updates it.

    Attributes:
        optimizer: name of the optimizer.
        model: arguments of the model.
        name: name of the parameter.
        shape: its shape.
        roles: its roles.
        group: name of its group; "" for none.
        rule: name of the rule that updates it; "" for a frozen parameter.
        values: values of the rule by name; several where they vary among the runs.
        as_vector: whether the rule updates a matrix as it does vectors.
    """

    optimizer: str
    model: Mapping[str, Any]
    name: str
    shape: tuple[int, ...]
    roles: tuple[str, ...]
    group: str
    rule: str
    values: Mapping[str, tuple[Any, ...]]
    as_vector: bool


def planned_groups(plan: Plan, dataset: Dataset) -> list[PlannedParameter]:
    """Return the parameters of each model of a plan on one problem, by model and optimizer.

    Args:
        plan: the runs.
        dataset: their data.
    """
    divided: dict[tuple[str, str], list[RunSpec]] = {}
    for run in plan.runs:
        divided.setdefault((json.dumps(run.model_arguments), run.optimizer), []).append(run)
    return [parameter for runs in divided.values() for parameter in _planned(runs, dataset)]


def _planned(runs: Sequence[RunSpec], dataset: Dataset) -> Iterator[PlannedParameter]:
    first = runs[0]
    model = (first.model, first.model_arguments)
    parameters = parameters_of(model, dataset.input_shape, dataset.classes, dataset.vocabulary)
    parts = [part for run in runs for part in run.parts(parameters)]
    frozen = {n: g.name for g in first.groups if g.freeze for n in g.parameters}
    for name, parameter in parameters.items():
        updates = [part for part in parts if name in part.parameters]
        yield PlannedParameter(
            optimizer=first.optimizer,
            model=first.model_arguments,
            name=name,
            shape=parameter.shape,
            roles=parameter.roles,
            group=updates[0].name if updates else frozen[name],
            rule=updates[0].rule if updates else "",
            values=_values(updates),
            as_vector=name in first.as_vectors,
        )


def _values(parts: Sequence[Part]) -> dict[str, tuple[Any, ...]]:
    """Return the distinct values of hyperparameters, weight decay and schedule, in their order."""
    values: dict[str, dict[str, Any]] = {}
    for part in parts:
        known: dict[str, Any] = dict(part.hyperparameters)
        if part.optimizer_kind != "torch":
            known["weight_decay"] = part.weight_decay
            known |= {"decay": part.decay} if part.weight_decay else {}
        if part.schedule:
            known["schedule"] = part.schedule["kind"]
        if part.modify:
            known["modify"] = " ".join(part.modify)
        for name, value in known.items():
            values.setdefault(name, {}).setdefault(repr(value), value)
    return {name: tuple(distinct.values()) for name, distinct in values.items()}
