"""One update of a stack: every rule on its own settings, into the arrays that are there."""

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
    """Settings side by side in the stack that one rule updates.

    Attributes:
        rule: the rule.
        decay: kind of weight decay.
        columns: where the settings lie on the axis of settings.
        hyperparameters: each (1, settings), to broadcast over seeds.
        weight_decay: (1, settings), or 0.0 where no setting has any.
        scheduled: whether any setting has a schedule.
    """

    rule: Rule
    decay: str
    columns: slice
    hyperparameters: Tensors
    weight_decay: Tensor | float
    scheduled: bool

    def values(self, factors: Tensor) -> Tensors:
        """Return the hyperparameters of a step, given the factors (1, all settings) on lr."""
        if not self.scheduled:
            return self.hyperparameters
        rate = self.hyperparameters["lr"] * factors[:, self.columns]
        return self.hyperparameters | {"lr": rate}


@dataclass(frozen=True)
class Treatment:
    """How gradients are treated before the rules see them.

    Attributes:
        clip_norm: (1, settings), infinite where a setting has none; None where no setting has one.
        clip_value: likewise.
        piled: the gradients so far, where they are not set to zero.
        loss_limit: above it a run has diverged.
    """

    clip_norm: Tensor | None
    clip_value: Tensor | None
    piled: Tensors | None
    loss_limit: float


def groups_of(settings: Sequence[RunSpec], params: Tensors) -> list[Group]:
    """Return the settings of a stack by rule and kind of weight decay."""
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
    """Return how the gradients of the settings of a stack are treated."""
    like = next(iter(params.values()))

    def limits(values: Sequence[float | None]) -> Tensor | None:
        given = [math.inf if value is None else value for value in values]
        return _row(given, like) if any(map(math.isfinite, given)) else None

    piles = not settings[0].zero_grad
    return Treatment(
        clip_norm=limits([spec.clip_norm for spec in settings]),
        clip_value=limits([spec.clip_value for spec in settings]),
        piled={n: torch.zeros_like(v) for n, v in params.items()} if piles else None,
        loss_limit=settings[0].loss_limit or math.inf,
    )


def columns(values: Tensors, group: Group) -> Tensors:
    """Return the settings of a group, as views."""
    return {name: value[:, group.columns] for name, value in values.items()}


def _row(values: Sequence[float], like: Tensor) -> Tensor:
    """Put one value a setting onto the device of a tensor, (1, settings)."""
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
    """Take one step of every group's rule.

    The rules stay pure. Parameters are written into place, and so is the state if `in_place`: a
    compiled program then makes no fresh arrays, which are most of the cost of a step, and finds the
    same ones each time. Uncompiled the state is fresh already. `step` and `alive` are written into
    place too: runs whose losses, (seeds, settings), are not finite or above the limit are no longer
    alive, and keep their parameters.
    """
    step += 1
    alive &= losses.isfinite() & (losses <= treatment.loss_limit)
    # Whether all are alive is asked where nobody has to wait for the answer.
    everyone = not in_place and alive.device.type == "cpu" and bool(alive.all())
    if treatment.piled is not None:
        gradients = {name: pile + gradients[name] for name, pile in treatment.piled.items()}
    gradients = dict(clip_all(gradients, treatment.clip_norm, treatment.clip_value, lead=2))
    if treatment.piled is not None:
        for name, pile in treatment.piled.items():
            pile.copy_(gradients[name])
    for group, state in zip(groups, states, strict=True):
        own = columns(params, group)
        moved, moved_state = apply_all(
            group.rule,
            own,
            columns(gradients, group),
            state,
            step,
            group.values(factors),
            group.weight_decay,
            group.decay,
            lead=2,
            out=own if everyone else None,
        )
        for name, param in own.items() if not everyone else ():
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
