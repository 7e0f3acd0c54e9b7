"""Apply a rule to a parameter or a whole model: one run, or a stack of runs.

The run axes lead: parameters are (*shape) alone, (runs, *shape) or (seeds, settings, *shape) in a
stack, and hyperparameters are numbers, or arrays that broadcast over the run axes: (runs,) or
(1, settings). `lead` is the number of run axes; only rules that look beyond one coordinate need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optrial.rules.arrays import Array, broadcast, namespace, zeros_like
from optrial.rules.rule import Rule

__all__ = ["apply_all", "apply_rule", "evaluation_point", "initialise", "initialise_all"]

MODEL = ""
"""Where the state of a whole model is, among those of its parameters."""


def initialise(
    rule: Rule, param: Array, hyperparameters: Mapping[str, Any], *, lead: int = 0
) -> Any:
    """Return the rule's state of one parameter before the first step.

    Args:
        rule: the update rule.
        param: (*runs, *shape).
        hyperparameters: all of the rule's, each a Python number or an array over the runs.
        lead: number of run axes.

    Returns:
        A NamedTuple of arrays; a field that no run needs is None.
    """
    values = _broadcast_all(hyperparameters, param)
    if "axes" in rule.needs:
        values["axes"] = _axes(param, lead)
    return rule.init(param, **values)


def initialise_all(
    rule: Rule, params: Mapping[str, Array], hyperparameters: Mapping[str, Any], *, lead: int = 0
) -> dict[str, Any]:
    """Return the rule's state of a whole model before the first step.

    Args:
        rule: the update rule.
        params: by name, each (*runs, *shape).
        hyperparameters: all of the rule's, each a Python number or an array over the runs.
        lead: number of run axes.

    Returns:
        By name of the parameter a NamedTuple of arrays, in which a field that no run needs is None.
        A rule that keeps something for the whole model has one more, called "", of arrays (*runs).
    """
    state = {
        name: initialise(rule, param, hyperparameters, lead=lead) for name, param in params.items()
    }
    if rule.model:
        first = next(iter(params.values()))
        zero = zeros_like(first[(..., *(0,) * (first.ndim - lead))])
        state[MODEL] = rule.model.init(zero, **_broadcast_all(hyperparameters, zero))
    return state


def apply_rule(
    rule: Rule,
    param: Array,
    grad: Array,
    state: Any,
    step: int | Array,
    hyperparameters: Mapping[str, Any],
    weight_decay: float | Array = 0.0,
    decay: str = "l2",
    *,
    lead: int = 0,
) -> tuple[Array, Any]:
    """Take one step of a `rule` that keeps nothing for the whole model; nothing changes in place.

    Args:
        rule: the update rule.
        param: (*runs, *shape).
        grad: gradient of the loss at `param`, of the same shape.
        state: what `initialise` or the previous step returned.
        step: 1, 2, ...; a number, or a () array or one over the runs.
        hyperparameters: all of the rule's, each a Python number or an array over the runs.
        weight_decay: coefficient; a Python 0 costs nothing.
        decay: "l2" adds weight_decay * param to the gradient; "decoupled" multiplies the parameter
            by 1 - lr * weight_decay before the step, as AdamW does. A rule with a kind of its own
            applies that one itself.
        lead: number of run axes.

    Returns:
        The new parameter and the new state.
    """
    moved, new_state, _ = _move(
        rule, param, grad, state, step, hyperparameters, weight_decay, decay, lead
    )
    return moved, new_state


def apply_all(
    rule: Rule,
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    state: Mapping[str, Any],
    step: int | Array,
    hyperparameters: Mapping[str, Any],
    weight_decay: float | Array = 0.0,
    decay: str = "l2",
    *,
    lead: int = 0,
    out: Mapping[str, Array] | None = None,
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Take one step of any rule, for a whole model; nothing but `out` is changed in place.

    Args:
        rule: the update rule.
        params: by name, each (*runs, *shape).
        grads: gradient of the loss at `params`, under the same names.
        state: what `initialise_all` or the previous step returned.
        step: as in `apply_rule`.
        hyperparameters: as in `apply_rule`.
        weight_decay: as in `apply_rule`.
        decay: as in `apply_rule`.
        lead: number of run axes.
        out: by name the arrays to write the new parameters into, such as `params`; None for new
            ones.

    Returns:
        The new parameters and the new state.
    """
    model: Any = state.get(MODEL)
    moved: dict[str, Array] = {}
    new_state: dict[str, Any] = {}
    terms: list[Any] = []
    for name, param in params.items():
        moved[name], new_state[name], of_param = _move(
            rule,
            param,
            grads[name],
            state[name],
            step,
            hyperparameters,
            weight_decay,
            decay,
            lead,
            model,
            out and out[name],
        )
        terms.append(of_param)
    if rule.model:
        values = _broadcast_all(hyperparameters, model[0])
        sums = type(terms[0])(*(sum(column) for column in zip(*terms, strict=True)))
        new_state[MODEL] = rule.model.update(model, sums, broadcast(step, model[0]), **values)
    return moved, new_state


def evaluation_point(
    rule: Rule,
    params: Mapping[str, Array],
    state: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    *,
    lead: int = 0,
) -> Mapping[str, Array]:
    """Return the parameters at which the model is to be evaluated.

    `params` itself, unless `rule.evaluates_elsewhere`. Arguments are those of `apply_all`.
    """
    del lead  # every such rule so far goes coordinate by coordinate
    if rule.evaluate is None:
        return params
    return {
        name: rule.evaluate(param, state[name], **_broadcast_all(hyperparameters, param))
        for name, param in params.items()
    }


def _move(
    rule: Rule,
    param: Array,
    grad: Array,
    state: Any,
    step: int | Array,
    hyperparameters: Mapping[str, Any],
    weight_decay: float | Array,
    decay: str,
    lead: int,
    model: Any = None,
    out: Array | None = None,
) -> tuple[Array, Any, Any]:
    """Return the new parameter, the new state and, for a rule that has any, terms of its sums."""
    values = _broadcast_all(hyperparameters, param)
    coefficient, shrunk = broadcast(weight_decay, param), param
    if decay != rule.own_decay and (hasattr(weight_decay, "dtype") or weight_decay != 0):
        if decay == "l2":
            grad = grad + coefficient * param
        else:
            shrunk = param * (1 - values["lr"] * coefficient)
    available = {
        "param": param,
        "axes": _axes(param, lead),
        "weight_decay": coefficient if decay == rule.own_decay else 0.0,
        "model": model and type(model)(*(broadcast(array, param) for array in model)),
    }
    needed = {name: available[name] for name in rule.needs}
    result = rule.update(grad, state, broadcast(step, param), **values, **needed)
    change, new_state, terms = result if rule.model else (*result, None)
    moved = shrunk + change if out is None else namespace(param).add(shrunk, change, out=out)
    return moved, new_state, terms


def _axes(param: Array, lead: int) -> Sequence[int]:
    """Return the axes of one run's parameter, counted from the last: -1, -2, ..."""
    return tuple(range(lead - param.ndim, 0))


def _broadcast_all(hyperparameters: Mapping[str, Any], param: Array) -> dict[str, Any]:
    return {name: broadcast(value, param) for name, value in hyperparameters.items()}
