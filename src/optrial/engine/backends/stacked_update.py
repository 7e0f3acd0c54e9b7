"""The update of a stack: every rule updates its own settings, in place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from optrial.engine.backends.stacked_model import Tensors
from optrial.plan import rule_of
from optrial.rules import Rule, apply_all, clip_all
from optrial.spec import RunSpec

__all__ = ["Group", "Treatment", "columns", "groups_of", "treatment_of", "update"]


@dataclass(frozen=True)
class Group:
    """Adjacent settings of a stack that one rule updates.

    Attributes:
        rule: update rule.
        decay: kind of weight decay.
        columns: range on the axis of settings.
        hyperparameters: each (1, settings), to broadcast over seeds.
        weight_decay: (1, settings), or 0.0 if no setting has any.
        scheduled: whether any setting has a schedule.
    """

    rule: Rule
    decay: str
    columns: slice
    hyperparameters: Tensors
    weight_decay: Tensor | float
    scheduled: bool

    def values(self, factors: Tensor) -> Tensors:
        """Return the hyperparameters with lr times the factors of a step, (1, all settings)."""
        if not self.scheduled:
            return self.hyperparameters
        rate = self.hyperparameters["lr"] * factors[:, self.columns]
        return self.hyperparameters | {"lr": rate}


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
    """Group the settings of a stack by rule and kind of weight decay."""
    groups, first, like = [], 0, next(iter(params.values()))
    kinds = groupby(settings, key=lambda spec: (spec.optimizer_kind, spec.rule, spec.decay))
    for (kind, name, decay), members in kinds:
        specs = list(members)
        rule = rule_of(kind, name)
        decays = [spec.weight_decay for spec in specs]
        groups.append(
            Group(
                rule=rule,
                decay=decay,
                columns=slice(first, first + len(specs)),
                hyperparameters={
                    h.name: _row([float(spec.hyperparameters[h.name]) for spec in specs], like)
                    for h in rule.hyperparameters
                },
                weight_decay=_row(decays, like) if any(decays) else 0.0,
                scheduled=any(spec.schedule is not None for spec in specs),
            )
        )
        first += len(specs)
    return groups


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
    """Return views of the settings of a group."""
    return {name: value[:, group.columns] for name, value in values.items()}


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
    in_place: bool,
) -> None:
    """Take one step with every group's rule.

    Rules are pure functions. Parameters, `step` and `alive` are updated in place. With `in_place`,
    for compiled programs, the state is too: a step then allocates nothing, which would be most of
    its cost, and addresses never change. Runs whose losses, (seeds, settings), are not finite or
    above the limit are no longer alive, and keep their parameters.
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
        moved, moved_state = apply_all(
            group.rule,
            current,
            columns(gradients, group),
            state,
            step,
            group.values(factors),
            group.weight_decay,
            group.decay,
            lead=2,
            out=current if everyone else None,
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
