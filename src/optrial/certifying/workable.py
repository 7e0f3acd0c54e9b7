"""What a class needs so that its steps can be compared: shapes, second derivatives."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from optrial.errors import USER_CODE_ERRORS, one_line
from optrial.models import kept_process
from optrial.replay.draws import SHAPES, Setting, drawn
from optrial.replay.target import Target, parameters_of
from optrial.rules import RULES, Rule

__all__ = ["workable"]

_WAY_OUT = (
    "if it needs more than a list of parameters, write a function of the parameters that makes it, "
    "and certify that"
)
_LONGEST_STEP = 5.0
"""Seconds of a step of small tensors after which there is no certificate."""
_KINDS_OF_SHAPES: Sequence[Mapping[str, tuple[int, ...]]] = (
    SHAPES,
    *(
        {name: shape for name, shape in SHAPES.items() if name not in left_out}
        for left_out in ({"empty"}, {"wide"}, {"empty", "scalar"})
    ),
    {"matrix": (3, 2), "wide": (2, 4), "square": (3, 3)},
)
"""Shapes that classes take, from all to matrices alone; `wide` is not contiguous."""


def workable(
    target: Target, rules: Sequence[Rule]
) -> tuple[Target, dict[str, tuple[int, ...]], str]:
    """Return a class with what it asks for, the shapes that it takes, and why not the others.

    Args:
        target: the class.
        rules: those that it should compute.
    """
    curved = any(rule.needs_curvature for rule in rules)
    if missing := _required(target):
        return target, {}, missing
    reasons = []
    for is_curved in (curved, not curved):
        asking = replace(target, is_curved=is_curved, is_supplied=is_curved)
        for shapes in _KINDS_OF_SHAPES:
            try:
                with kept_process():
                    optimizer, seconds = _stepped(asking, shapes)
            except USER_CODE_ERRORS as error:
                reasons.append(one_line(error).rstrip("."))
                continue
            if seconds > _LONGEST_STEP:
                return target, {}, f"its steps take {seconds:.1f} s; a certificate has thousands."
            text = f"does not take all shapes: {reasons[0]}" if reasons else ""
            is_supplied = getattr(optimizer, "is_supplied", False)
            return replace(asking, is_supplied=is_supplied), dict(shapes), text
    reason = reasons[len(_KINDS_OF_SHAPES) - 1]
    way_out = "certificates are made on the CPU" if "cuda" in reason.lower() else _WAY_OUT
    return target, {}, f"it cannot be made, or its step fails: {reason}; {way_out}."


def _required(target: Target) -> str:
    """Return what to do about required arguments; empty if there are none, or they are known."""
    known = {"lr", *target.always, *(name for rule in RULES.values() for name in rule.defaults)}
    empty = inspect.Parameter.empty
    names = [n for n, p in target.signature.items() if p.default is empty and n not in known]
    if not names:
        return ""
    given = " ".join(f"--argument {name}=..." for name in names)
    return (
        f"it requires {' and '.join(names)}: pass {given}, in Python arguments=, or write a "
        "function of the parameters that makes the optimizer."
    )


def _stepped(
    target: Target, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[torch.optim.Optimizer, float]:
    """Return an optimizer that has taken two steps, and the seconds of the second one."""
    start = drawn(Setting({}), shapes, np.random.default_rng(0), with_missing=False).start
    parameters = list(parameters_of(start, torch.float32).values())
    needed = {} if "lr" not in target.signature else _rate(target)
    optimizer = target(parameters, needed)
    seconds = 0.0
    for _ in range(2):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        start_of_step = time.perf_counter()
        optimizer.step()
        seconds = time.perf_counter() - start_of_step
    return optimizer, seconds


def _rate(target: Target) -> dict[str, Any]:
    """Return a learning rate for a class that has no default."""
    parameter = target.signature["lr"]
    has_default = isinstance(parameter.default, float | int)
    return {} if has_default else {"lr": 0.01}
