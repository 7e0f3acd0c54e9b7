"""The update of a stack: every rule updates its own settings, in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optrial.engine.backends.stacked_model import Tensors
from optrial.plan import rule_of
from optrial.rules import Rule, apply_all, clip_all, scheduled_values
from optrial.spec import Part, RunSpec

__all__ = [
    "Group",
    "Treatment",
    "columns",
    "groups_of",
    "needing_curvature",
    "treatment_of",
    "update",
]


@dataclass(frozen=True)
class Group:
    """Parameters of adjacent settings of a stack that one rule updates.

    Attributes:
        rule: update rule.
        decay: kind of weight decay.
        columns: range on the axis of settings.
        names: names of the parameters.
        as_vectors: names of the matrices among them that the rule updates as it does vectors.
        hyperparameters: each (1, settings), to broadcast over seeds.
        weight_decay: (1, settings), or 0.0 if no setting has any.
        schedules: schedule of each setting, or None.
        scheduled: whether any setting has a schedule.
        rates: range on the axis of the factors of a step.
        known: values of the hyperparameters and of the weight decay of each setting.
        changed: hyperparameters that schedules change besides lr -> their places among the values
            of a step.
        every: steps from one estimate of curvature to the next; empty if the rule needs none.
    """

    rule: Rule
    decay: str
    columns: slice
    names: tuple[str, ...]
    as_vectors: frozenset[str]
    hyperparameters: Tensors
    weight_decay: Tensor | float
    schedules: tuple[Mapping[str, Any] | None, ...]
    scheduled: bool
    rates: slice
    known: tuple[Mapping[str, float], ...] = ()
    changed: Mapping[str, int] = field(default_factory=dict)
    every: frozenset[float] = frozenset()

    def values(self, of_step: Tensor) -> tuple[Tensors, Tensor | float]:
        """Return the hyperparameters and the weight decay at a step.

        Args:
            of_step: factors of lr, (1, 1 or seeds, all groups), followed by the values of the
                hyperparameters that any group changes, NaN for those that stay.
        """
        if not self.scheduled:
            return self.hyperparameters, self.weight_decay
        values = self.hyperparameters | {
            "lr": self.hyperparameters["lr"] * of_step[0, :, self.rates]
        }
        weight_decay = self.weight_decay
        for name, place in self.changed.items():
            changed = of_step[place, :, self.rates]
            if name != "weight_decay":
                values[name] = torch.where(changed.isnan(), values[name], changed)
            elif isinstance(weight_decay, Tensor):
                weight_decay = torch.where(changed.isnan(), weight_decay, changed)
        return values, weight_decay


@dataclass(frozen=True)
class Treatment:
    """Processing of gradients before the rules use them.

    Attributes:
        clip_norm: (1, settings), infinite for settings without; None if no setting clips.
        clip_value: the same.
        piled: accumulated gradients, if they are not set to zero before a step; else None.
        loss_limit: loss above which a run has diverged.
    """

    clip_norm: Tensor | None
    clip_value: Tensor | None
    piled: Tensors | None
    loss_limit: float


def groups_of(settings: Sequence[RunSpec], params: Tensors) -> list[Group]:
    """Group the settings of a stack, and their parameters, by rule and kind of weight decay."""
    groups: list[Group] = []
    first, like = 0, next(iter(params.values()))
    for (_, _, as_vectors), members in groupby(settings, key=lambda spec: _kinds(spec, params)):
        specs = list(members)
        places = slice(first, first + len(specs))
        for parts in zip(*(spec.parts(params) for spec in specs), strict=True):
            factors = groups[-1].rates.stop if groups else 0
            rates = slice(factors, factors + len(specs))
            groups.append(_group(parts, as_vectors, places, rates, like))
        first += len(specs)
    return _with_places(groups, settings[0].steps)


def _with_places(groups: Sequence[Group], total: int) -> list[Group]:
    """Return groups with the places of the values that their schedules change, 1, 2, ..."""
    first = np.array([1])
    names = [
        {
            name
            for schedule, known in zip(group.schedules, group.known, strict=True)
            for name in (scheduled_values(schedule, known, first, total) if schedule else ())
        }
        for group in groups
    ]
    places = {name: place for place, name in enumerate(sorted(set().union(*names)), start=1)}
    return [
        replace(group, changed={name: places[name] for name in sorted(own)})
        for group, own in zip(groups, names, strict=True)
    ]


def _kinds(spec: RunSpec, names: Iterable[str]) -> tuple[Any, ...]:
    """Return what settings share that the same rules can update together."""
    parts = spec.parts(names)
    kinds = [(part.optimizer_kind, part.rule, part.decay, part.modify) for part in parts]
    return kinds, [part.parameters for part in parts], frozenset(spec.as_vectors)


def _group(
    parts: Sequence[Part], as_vectors: frozenset[str], columns: slice, rates: slice, like: Tensor
) -> Group:
    first = parts[0]
    rule = rule_of(first.optimizer_kind, first.rule, first.modify)
    decays = [part.weight_decay for part in parts]
    schedules = [part.schedule or {} for part in parts]
    hyperparameters = {
        h.name: _row([float(part.hyperparameters[h.name]) for part in parts], like)
        for h in rule.hyperparameters
    }
    if any(schedule.get("kind") == "plateau" for schedule in schedules):
        own = hyperparameters["lr"]  # of each seed, from the start on
        hyperparameters["lr"] = own.expand(len(like), -1).contiguous()
    return Group(
        rule=rule,
        decay=first.decay,
        columns=columns,
        names=first.parameters,
        as_vectors=as_vectors,
        hyperparameters=hyperparameters,
        weight_decay=_row(decays, like) if any(decays) else 0.0,
        schedules=tuple(part.schedule for part in parts),
        scheduled=any(part.schedule is not None for part in parts),
        rates=rates,
        known=tuple({**part.hyperparameters, "weight_decay": part.weight_decay} for part in parts),
        every=frozenset(
            float(part.hyperparameters.get("every", 1)) for part in parts if rule.needs_curvature
        ),
    )


def needing_curvature(groups: Sequence[Group], params: Tensors) -> Tensors:
    """Return which settings need estimates of curvature, by parameter: (1, settings, 1, ...).

    Parameters for which no setting needs one are left out.
    """
    needed: Tensors = {}
    for group in groups:
        for name in group.names if group.rule.needs_curvature else ():
            value = params[name]
            if name not in needed:
                needed[name] = value.new_zeros((1, value.shape[1], *[1] * (value.ndim - 2)))
            needed[name][:, group.columns] = 1
    return needed


def treatment_of(settings: Sequence[RunSpec], params: Tensors) -> Treatment:
    """Return the processing of gradients that the settings of a stack ask for."""
    like = next(iter(params.values()))

    def limits(values: Sequence[float | None]) -> Tensor | None:
        bounds = [math.inf if value is None else value for value in values]
        return _row(bounds, like) if any(map(math.isfinite, bounds)) else None

    piles = not settings[0].zero_grad
    return Treatment(
        clip_norm=limits([spec.clip_norm for spec in settings]),
        clip_value=limits([spec.clip_value for spec in settings]),
        piled={n: torch.zeros_like(v) for n, v in params.items()} if piles else None,
        loss_limit=settings[0].loss_limit or math.inf,
    )


def columns(values: Tensors, group: Group) -> Tensors:
    """Return views of the parameters and settings of a group."""
    return {name: values[name][:, group.columns] for name in group.names}


def _row(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one value per setting on the device of a tensor, (1, settings)."""
    return torch.tensor([values], dtype=like.dtype, device=like.device)


def update(
    groups: Sequence[Group],
    treatment: Treatment,
    params: Tensors,
    gradients: Tensors,
    losses: Tensor,
    states: Sequence[dict[str, Any]],
    step: Tensor,
    factors: Tensor,
    alive: Tensor,
    seeds: Tensor,
    in_place: bool,
    curvature: Tensors | None = None,
) -> None:
    """Take one step with every group's rule.

    Rules are pure functions. Parameters, `step` and `alive` are updated in place. With `in_place`,
    for compiled programs, the state is too: a step then allocates nothing, which would be most of
    its cost, and addresses never change. `curvature` holds estimates for the parameters whose rules
    need them. Runs whose losses, (seeds, settings), are not finite or
    above the limit are no longer alive, and keep their parameters. `seeds`,
    (seeds, 1), key draws.
    """
    gradients = {name: value.to(params[name].dtype) for name, value in gradients.items()}
    step += 1
    alive &= losses.isfinite() & (losses <= treatment.loss_limit)
    # On a GPU, reading this would wait for the device.
    everyone = not in_place and alive.device.type == "cpu" and bool(alive.all())
    if treatment.piled is not None:
        gradients = {name: pile + gradients[name] for name, pile in treatment.piled.items()}
    gradients = dict(clip_all(gradients, treatment.clip_norm, treatment.clip_value, lead=2))
    if treatment.piled is not None:
        for name, pile in treatment.piled.items():
            pile.copy_(gradients[name])
    for group, state in zip(groups, states, strict=True):
        current = columns(params, group)
        values, weight_decay = group.values(factors)
        moved, moved_state = apply_all(
            group.rule,
            current,
            columns(gradients, group),
            state,
            step,
            values,
            weight_decay,
            group.decay,
            lead=2,
            out=current if everyone else None,
            as_vectors=group.as_vectors,
            curvature=columns(curvature, group)
            if curvature and group.rule.needs_curvature
            else None,
            seeds=seeds,
        )
        for name, param in current.items() if not everyone else ():
            kept = alive[:, group.columns].reshape(param.shape[:2] + (1,) * (param.ndim - 2))
            if in_place:  # a compiler cannot follow `out` into a view
                param.copy_(torch.where(kept, moved[name], param))
            else:
                torch.where(kept, moved[name], param, out=param)
        if in_place:
            for name, before in state.items():
                for old, new in zip(before, moved_state[name], strict=True):
                    if old is not None:
                        old.copy_(new)
        else:
            state.update(moved_state)
