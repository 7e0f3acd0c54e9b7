"""The rules of a run beside `torch.optim`, step by step."""

from __future__ import annotations

import math
import sys

import torch

from optrial.plan import rule_of
from optrial.replay.comparison import largest_difference
from optrial.replay.draws import Draw, Setting
from optrial.replay.reference import replay
from optrial.replay.supplies import supplied
from optrial.replay.target import float64_scalars, parameters_of, snapshot, step_with
from optrial.spec import Certificate, Part, RunSpec

__all__ = ["parity", "parity_is_cheap"]

_STEPS, _SHAPE = 20, (4, 3)
_TOLERANCE = 1e-9  # float64 rounding differs by less than 1e-14
_LONG = 120.0  # seconds, next to which importing PyTorch's compiler, about 2, is negligible


def parity_is_cheap(seconds: float) -> bool:
    """Return whether the comparison is cheap next to a training of this duration.

    The first step of any `torch.optim` class imports PyTorch's compiler.
    """
    return seconds >= _LONG or "torch._dynamo" in sys.modules


def parity(spec: RunSpec) -> Certificate | None:
    """Compare a run's rules with the `torch.optim` classes that compute the same.

    Both process the same 20 random gradients in float64, with the hyperparameters and the weight
    decay of the run and a constant learning rate. Of groups of parameters, each is compared.

    Returns:
        The largest difference, relative to the largest parameter; None if there is no such class.
    """
    names = ("", *(name for group in spec.groups for name in group.parameters))
    compared = [outcome for part in spec.parts(names) if (outcome := _difference(part))]
    if not compared:
        return None
    return Certificate(
        difference=max(difference for difference, _ in compared),
        tolerance=_TOLERANCE,
        against=" and ".join(dict.fromkeys(against for _, against in compared)),
    )


def _difference(part: Part) -> tuple[float, str] | None:
    """Return the difference of a rule from its class, and the name of the class; None without."""
    if part.optimizer_kind == "torch":
        return None
    rule, values = rule_of(part.optimizer_kind, part.rule, part.modify), part.hyperparameters
    counterpart, treated = rule.torch_optim, (part.weight_decay, part.decay)
    arguments = counterpart.arguments(values, *treated) if counterpart else None
    if counterpart is None or arguments is None:
        return None
    theirs = getattr(torch.optim, counterpart.class_name)
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(_SHAPE, generator=generator, dtype=torch.float64) for _ in range(_STEPS + 1)
    ]
    draw = Draw({"p": tensors[0]}, [{"p": t} for t in tensors[1:]], Setting(values, *treated))
    with float64_scalars():
        parameters = parameters_of(draw.start)
        optimizer = supplied(theirs(parameters.values(), **arguments))
        for gradients in draw.gradients:
            step_with(optimizer, parameters, gradients)
    ours, expected = replay(rule, draw)[-1], snapshot(parameters)
    difference = largest_difference(ours, expected)
    is_finite = math.isfinite(difference) and bool(expected["p"].isfinite().all())
    known = difference if is_finite else sys.float_info.max  # infinities say nothing
    return known, f"torch.optim.{counterpart.class_name}"
