"""Apply a rule to a parameter: one run, or a stack of runs with hyperparameters of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optrial.rules.arrays import Array, broadcast
from optrial.rules.rule import Rule

__all__ = ["apply_rule", "initialise"]


def initialise(rule: Rule, param: Array, hyperparameters: Mapping[str, Any]) -> Any:
    """Return the rule's state before the first step.

    Args:
        rule: the update rule.
        param: (*shape), or (runs, *shape) for a stack.
        hyperparameters: all of the rule's, each a Python number or a (runs,) array.

    Returns:
        A NamedTuple of arrays; a field that no run needs is None.
    """
    return rule.init(param, **_broadcast_all(hyperparameters, param))


def apply_rule(
    rule: Rule,
    param: Array,
    grad: Array,
    state: Any,
    step: int | Array,
    hyperparameters: Mapping[str, Any],
    weight_decay: float | Array = 0.0,
    decay: str = "l2",
) -> tuple[Array, Any]:
    """Take one step of `rule`, with weight decay; nothing is changed in place.

    Args:
        rule: the update rule.
        param: (*shape), or (runs, *shape) for a stack.
        grad: gradient of the loss at `param`, of the same shape.
        state: what `initialise` or the previous step returned.
        step: 1, 2, ...; a number, or a () or (runs,) array.
        hyperparameters: all of the rule's, each a Python number or a (runs,) array.
        weight_decay: coefficient; a Python 0 costs nothing.
        decay: "l2" adds weight_decay * param to the gradient; "decoupled" multiplies the parameter
            by 1 - lr * weight_decay before the step, as AdamW does.

    Returns:
        The new parameter and the new state.
    """
    values = _broadcast_all(hyperparameters, param)
    if hasattr(weight_decay, "dtype") or weight_decay != 0:
        coefficient = broadcast(weight_decay, param)
        if decay == "l2":
            grad = grad + coefficient * param
        else:
            param = param * (1 - values["lr"] * coefficient)
    change, state = rule.update(grad, state, broadcast(step, param), **values)
    return param + change, state


def _broadcast_all(hyperparameters: Mapping[str, Any], param: Array) -> dict[str, Any]:
    return {name: broadcast(value, param) for name, value in hyperparameters.items()}
