"""Replay of a drawn training by a rule, step by step, in the precision of the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from optrial.replay.draws import Draw, Setting
from optrial.replay.equations import Moment
from optrial.replay.supplies import hessian_diagonal
from optrial.replay.target import Path
from optrial.rules import Rule, apply_all, initialise_all

__all__ = ["CLOCKS", "Clock", "moments_of", "own_steps", "replay"]

Clock = Callable[[Draw, str], Sequence[float]]
"""Draw and name of a tensor -> the step number t that the rule gets at each step."""


def own_steps(draw: Draw, label: str) -> list[float]:
    """Count the steps in which the tensor had a gradient."""
    count, times = 0, []
    for gradients in draw.gradients:
        count += gradients[label] is not None
        times.append(float(count))
    return times


def all_steps(draw: Draw, label: str) -> list[float]:
    """Count all steps, with a gradient or without."""
    del label
    return [float(step) for step in range(1, draw.steps + 1)]


def shared_steps(draw: Draw, label: str) -> list[float]:
    """Count the updates of all tensors together, in the order of the tensors."""
    count, times = 0, []
    for gradients in draw.gradients:
        for other, gradient in gradients.items():
            count += gradient is not None
            if other == label:
                times.append(float(count))
    return times


def nonzero_steps(draw: Draw, label: str) -> list[float]:
    """Count the steps in which the gradient of the tensor was not 0."""
    count, times = 0, []
    for gradients in draw.gradients:
        gradient = gradients[label]
        count += gradient is not None and bool(gradient.any())
        times.append(float(count))
    return times


def steps_since_missing(draw: Draw, label: str) -> list[float]:
    """Count the steps since the last one in which the tensor had no gradient."""
    count, times = 0, []
    for gradients in draw.gradients:
        count = 0 if gradients[label] is None else count + 1
        times.append(float(count))
    return times


CLOCKS: Mapping[str, Clock] = {
    "own": own_steps,
    "all": all_steps,
    "shared": shared_steps,
    "nonzero": nonzero_steps,
    "restarted": steps_since_missing,
}


def replay(
    rule: Rule, draw: Draw, *, dtype: torch.dtype = torch.float64, clock: Clock = own_steps
) -> Path:
    """Return the weights after each step of a draw, by the rule's own functions.

    A tensor without a gradient neither moves nor counts the step. Curvature is the
    `hessian_diagonal` of each gradient.

    Args:
        rule: the rule.
        draw: weights, gradients and settings.
        dtype: precision of weights and state.
        clock: the step numbers.
    """
    start = {label: tensor.to(dtype) for label, tensor in draw.start.items()}
    settings = draw.settings()
    if rule.is_joint:
        return _together(rule, draw, start, settings)
    paths = {
        label: _alone(rule, label, tensor, draw, settings, clock(draw, label))
        for label, tensor in start.items()
    }
    return [{label: path[step] for label, path in paths.items()} for step in range(draw.steps)]


def _alone(
    rule: Rule,
    label: str,
    start: Tensor,
    draw: Draw,
    settings: Sequence[Setting],
    times: Sequence[float],
) -> list[Tensor]:
    params = {label: start.contiguous()}
    state = initialise_all(rule, params, dict(settings[0].values))
    path = []
    for gradients, setting, time in zip(draw.gradients, settings, times, strict=True):
        given = gradients[label]
        if given is not None:
            gradient = given.to(start.dtype).contiguous()
            params, state = apply_all(
                rule,
                params,
                {label: gradient},
                state,
                time,
                dict(setting.values),
                setting.weight_decay,
                setting.decay,
                curvature={label: hessian_diagonal(gradient)} if rule.needs_curvature else None,
            )
        path.append(params[label])
    return path


def _together(
    rule: Rule, draw: Draw, start: Mapping[str, Tensor], settings: Sequence[Setting]
) -> Path:
    params = dict(start)
    state = initialise_all(rule, params, dict(settings[0].values))
    path = []
    for step, (gradients, setting) in enumerate(zip(draw.gradients, settings, strict=True), 1):
        complete = {
            label: torch.zeros_like(params[label]) if g is None else g.to(params[label].dtype)
            for label, g in gradients.items()
        }
        params, state = apply_all(
            rule,
            params,
            complete,
            state,
            step,
            dict(setting.values),
            setting.weight_decay,
            setting.decay,
        )
        path.append(params)
    return path


def moments_of(draw: Draw, label: str, times: Sequence[float]) -> list[Moment]:
    """Return the steps of one tensor as the programs of `equations` take them."""
    settings = draw.settings()
    gradients = [gradients[label] for gradients in draw.gradients]
    return [
        Moment(None if gradient is None else gradient.numpy(), time, setting.numbers())
        for gradient, time, setting in zip(gradients, times, settings, strict=True)
    ]
