"""Apply a rule to a whole model: one run, or a stack of runs.

The run axes lead: a parameter is (*shape) for one run, (runs, *shape) or (seeds, settings, *shape)
in a stack. Hyperparameters are numbers, or arrays that broadcast over the run axes: (runs,) or
(1, settings). `lead` is the number of run axes; only rules that look beyond one coordinate need it.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from optrial.rules.arrays import (
    Array,
    Scalar,
    broadcast,
    is_array,
    namespace,
    row_major,
    zeros_like,
)
from optrial.rules.chain import Place, axes_of_run, decay_of, key_of, own_values, values_of
from optrial.rules.draws import draws_of
from optrial.rules.rule import Modifier, NoState, OneArray, Rule, State

__all__ = ["apply_all", "evaluation_point", "initialise_all"]

MODEL = ""
"""Key of the state of the whole model, among the names of its parameters."""


def initialise_all(
    rule: Rule,
    params: Mapping[str, Array],
    hyperparameters: Mapping[str, Scalar],
    *,
    lead: int = 0,
    as_vectors: Collection[str] = (),
) -> dict[str, State]:
    """Return the rule's state of a whole model before the first step.

    Args:
        rule: the update rule.
        params: name -> parameter, (*runs, *shape).
        hyperparameters: all hyperparameters of the rule, each a number or an array over the runs.
        lead: number of run axes.
        as_vectors: names of matrices that the rule updates as it does vectors.

    Returns:
        Name of a parameter -> NamedTuple of arrays; a field that no run needs is None. A rule with
        state for the whole model adds one entry, named "", of arrays (*runs); a modifier adds one
        entry for each parameter, named "lookahead:weight". A rule of all parameters as one vector
        has that entry alone.
    """
    if rule.as_one_vector:
        vector = _joined(params, lead)
        values = own_values(_broadcast_all(hyperparameters, vector))
        return {MODEL: _named(rule.init(vector, **values))}
    state = {}
    for name, param in params.items():
        values = _broadcast_all(hyperparameters, param)
        is_vector = name in as_vectors
        needed = {"axes": axes_of_run(param, lead, rule, is_vector)} if "axes" in rule.needs else {}
        state[name] = _named(rule.init(param, **own_values(values), **needed))
        for modifier in rule.modifiers:
            axes = axes_of_run(param, lead, modifier, is_vector)
            own = values_of(modifier, values) | {"lr": values["lr"]}
            state[key_of(modifier, name)] = modifier.init(param, axes=axes, **own)
    if rule.model:
        first = next(iter(params.values()))
        zero = zeros_like(first[(..., *(0,) * (first.ndim - lead))])
        state[MODEL] = rule.model.init(zero, **own_values(_broadcast_all(hyperparameters, zero)))
    return state


def apply_all(
    rule: Rule,
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    state: Mapping[str, State],
    step: Scalar,
    hyperparameters: Mapping[str, Scalar],
    weight_decay: Scalar = 0.0,
    decay: str = "l2",
    *,
    lead: int = 0,
    out: Mapping[str, Array] | None = None,
    as_vectors: Collection[str] = (),
    curvature: Mapping[str, Array] | None = None,
    seeds: Scalar = 0,
) -> tuple[dict[str, Array], dict[str, State]]:
    """Take one step for a whole model; only `out` is changed in place.

    Args:
        rule: the update rule.
        params: name -> parameter, (*runs, *shape).
        grads: name -> gradient of the loss at `params`, of the same shape.
        state: returned by `initialise_all` or by the previous step.
        step: 1, 2, ...; a number, or an array, () or over the runs.
        hyperparameters: all hyperparameters of the rule, each a number or an array over the runs.
        weight_decay: coefficient; a Python 0 costs nothing.
        decay: "l2" adds weight_decay·param to the gradient; "decoupled" multiplies the parameter
            by 1 − lr·weight_decay before the step, as AdamW does. A rule's `own_decay` is left to
            the rule.
        lead: number of run axes.
        out: name -> array to write the new parameter into, such as `params`; None to create new
            arrays.
        as_vectors: names of matrices that the rule updates as it does vectors.
        curvature: name -> estimate of the diagonal of the Hessian at `params`, of the same shape,
            for a rule that needs it.
        seeds: seed of each run, for rules that draw: a whole number, or an array over the runs.

    Returns:
        The new parameters and the new state.

    Raises:
        ValueError: the rule needs curvature, and there is none.
    """
    if rule.needs_curvature and curvature is None:
        raise ValueError(f"{rule.name} needs estimates of curvature; pass them as curvature")
    outside = decay_of(rule, decay, weight_decay)
    sums = _sums(rule)
    model = state.get(MODEL)
    draws = "draws" in rule.needs or any("draws" in part.needs for part in rule.modifiers)
    moved: dict[str, Array] = {}
    new_state: dict[str, State] = {}
    terms: list[Any] = []
    places: dict[str, Place] = {}
    received: dict[str, Array] = {}
    for name, param in params.items():
        coefficient = broadcast(weight_decay, param)
        known = {
            "param": param,
            "weight_decay": coefficient,
            "model": model and type(model)(*(broadcast(array, param) for array in model)),
            "draws": draws_of(seeds, step, name, param, lead) if draws else None,
        }
        values, time = _broadcast_all(hyperparameters, param), broadcast(step, param)
        is_vector = name in as_vectors
        place = Place(name, state, lead, time, values, is_vector, known, new_state)
        grad = row_major(grads[name]) if sums else grads[name]
        grad = place.gradient(grad, rule, outside)
        if rule.as_one_vector:
            places[name], received[name] = place, grad
            continue
        own_decay = {"weight_decay": coefficient if decay == rule.own_decay else 0.0}
        available = known | own_decay | {"axes": place.axes(rule)}
        if curvature is not None:
            available["curvature"] = curvature.get(name)
        needed = {need: available[need] for need in rule.needs}
        kept = state[name]
        change, after, *term = rule.update(grad, _given(kept), time, **own_values(values), **needed)
        after = after if hasattr(after, "_fields") else _like(kept, after)
        new_state[name] = type(after)(*map(row_major, after)) if sums else after
        terms += term
        moved[name] = place.moved(change, rule, outside, None if out is None else out[name])
    if rule.as_one_vector:
        return _take_together(rule, places, received, outside, out)
    if rule.model and model:
        values = own_values(_broadcast_all(hyperparameters, model[0]))
        sums = type(terms[0])(*(sum(column) for column in zip(*terms, strict=True)))
        new_state[MODEL] = rule.model.update(model, sums, broadcast(step, model[0]), **values)
    return moved, new_state


def _take_together(
    rule: Rule,
    places: Mapping[str, Place],
    gradients: Mapping[str, Array],
    outside: Modifier | None,
    out: Mapping[str, Array] | None,
) -> tuple[dict[str, Array], dict[str, State]]:
    """Take one step with a rule of all parameters as one vector."""
    first = next(iter(places.values()))
    vector = _joined(gradients, first.lead)
    values = {name: _as_row(value, first.lead) for name, value in own_values(first.values).items()}
    change, after = rule.update(vector, _given(first.state[MODEL]), first.step, **values)
    moved, start = {}, 0
    for name, place in places.items():
        grad = gradients[name]
        size = math.prod(grad.shape[first.lead :])
        part = namespace(vector).reshape(change[..., start : start + size], grad.shape)
        moved[name] = place.moved(part, rule, outside, None if out is None else out[name])
        start += size
    return moved, {MODEL: after}


def _as_row(value: Scalar, lead: int) -> Scalar:
    """Return a hyperparameter that broadcasts over (*runs, n)."""
    array: Array = value
    if not is_array(value) or array.ndim == 0:
        return value
    return namespace(array).reshape(array, (*array.shape[:lead], 1))


def _joined(arrays: Mapping[str, Array], lead: int) -> Array:
    """Return arrays, (*runs, *shape), as one vector per run, (*runs, n)."""
    xp = namespace(next(iter(arrays.values())))
    flat = [xp.reshape(array, (*array.shape[:lead], -1)) for array in arrays.values()]
    return xp.concat(flat, axis=-1)


def _sums(rule: Rule) -> bool:
    """Return whether a step sums over entries: those of a resumed run have another layout."""
    parts: tuple[Rule | Modifier, ...] = (rule, *rule.modifiers)
    whole = rule.model is not None or rule.as_one_vector
    return whole or any("axes" in part.needs for part in parts)


def _named(state: object) -> State:
    """Return a state as a NamedTuple of arrays.

    Raises:
        TypeError: it is no tuple, array or None.
    """
    if hasattr(state, "_fields"):
        return state
    if state is None or isinstance(state, tuple | list):
        return _numbered(len(state or ()))(*(state or ()))
    if is_array(state):
        return OneArray(state)
    raise TypeError(
        f"init returned {type(state).__name__}, not an array, a tuple of arrays or None"
    )


def _given(state: State) -> object:
    """Return a state as the functions of the rule know it."""
    return state.array if isinstance(state, OneArray) else state


@cache
def _numbered(size: int) -> type[State]:
    """Return the NamedTuple of a state whose arrays have no names."""
    return namedtuple(f"Arrays{size}", [f"array_{i}" for i in range(size)]) if size else NoState


def _like(before: State, after: object) -> State:
    """Return the new state of a rule whose state is an array, a tuple of arrays or None."""
    if isinstance(before, OneArray):
        return OneArray(after)
    return type(before)(*(after or ()))  # type: ignore[misc]  # a tuple


def evaluation_point(
    rule: Rule,
    params: Mapping[str, Array],
    state: Mapping[str, State],
    hyperparameters: Mapping[str, Scalar],
) -> Mapping[str, Array]:
    """Return the parameters at which the model is evaluated.

    `params` itself, unless `rule.evaluates_elsewhere`. Arguments as in `apply_all`.
    """
    if rule.evaluate is None:
        return params
    return {
        name: rule.evaluate(
            param, _given(state[name]), **own_values(_broadcast_all(hyperparameters, param))
        )
        for name, param in params.items()
    }


def _broadcast_all(hyperparameters: Mapping[str, Scalar], param: Array) -> dict[str, Scalar]:
    return {name: broadcast(value, param) for name, value in hyperparameters.items()}
