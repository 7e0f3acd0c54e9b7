"""Checks of update rules: what every engine requires, and what a complete entry explains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch

from optrial.errors import USER_CODE_ERRORS
from optrial.rules import Rule, apply_all, initialise_all
from optrial.rules.arrays import Array
from optrial.rules.trial import (
    TOLERANCE,
    WEIGHT_DECAYS,
    Arrays,
    States,
    curvature_at,
    flat,
    follow,
    gradients_at,
    mapped,
    relative_error,
    small_problem,
    stack_problems,
    stacked_values,
    values_around,
)

__all__ = ["RULE_CHECKS", "agreement_with", "problems_of_rule", "result_of"]


def problems_of_rule(rule: Rule) -> dict[str, list[str]]:
    """Return requirement -> the problems that its check reports."""
    return {_sentence(check): result_of(check, rule) for check in RULE_CHECKS}


def _sentence(check: Callable[..., object]) -> str:
    return (check.__doc__ or "It agrees.").splitlines()[0]


def result_of(check: Callable[[Rule], Iterable[str]], rule: Rule) -> list[str]:
    """Return the problems that a check reports; an exception raised by the rule is one."""
    try:
        with np.errstate(all="ignore"):  # overflow is reported by the checks
            return list(check(rule))
    except USER_CODE_ERRORS as error:
        return [f"{_sentence(check)} But it raised {error!r}."]


def _is_explained(rule: Rule) -> Iterator[str]:
    """Equations, hyperparameters and state are explained."""
    for name in ("title", "paper", "equations", "direction", "scaling", "conventions"):
        if not getattr(rule, name):
            yield f"`{name}` is empty."
    equations = "\n".join(rule.equations)
    for name, meaning in rule.terms.items():
        if name not in equations:
            yield f"'{name}' is explained but not in the equations."
        if not meaning:
            yield f"the meaning of '{name}' is empty."
    states = initialise_all(rule, small_problem(())[0], rule.defaults)
    fields = states["" if rule.as_one_vector else "matrix"]._asdict()
    kept = {name for name, array in fields.items() if array is not None}
    explained = {*rule.state, *rule.reduced_state}
    for name in sorted(explained - kept):
        yield f"the state '{name}' is explained, but not kept for a matrix."
    for name in sorted(kept - explained):
        yield f"the state '{name}' is kept, but not explained."


def _is_declared(rule: Rule) -> Iterator[str]:
    """The update takes, by keyword, the hyperparameters and `needs` of the rule."""
    parameters = inspect.signature(rule.update).parameters.values()
    taken = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    is_open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    passed = {*rule.needs, *rule.defaults}
    if taken - passed or (passed - taken and not is_open_ended):
        yield f"the update takes {sorted(taken)} but is given {sorted(passed)}."
    if not rule.hyperparameters or rule.hyperparameters[0].name != "lr":
        yield "its first hyperparameter must be `lr`."


def _has_sane_bounds(rule: Rule) -> Iterator[str]:
    """Defaults and values around them are allowed."""
    names = list(rule.defaults)
    for hyperparameter in rule.hyperparameters:
        for value in values_around(hyperparameter):
            if reason := hyperparameter.check(value):
                yield f"{hyperparameter.name} = {reason}"
        if names.count(hyperparameter.name) > 1:
            yield f"two hyperparameters are called '{hyperparameter.name}'."
        for alias in {*hyperparameter.aliases} & {*names}:
            yield f"'{alias}' is an alias and a hyperparameter."


def _is_pure(rule: Rule) -> Iterator[str]:
    """One step changes nothing in place and gives the same result when repeated."""
    params, minima = small_problem(())
    grads, curvature = gradients_at(params, minima), curvature_at(params, minima)
    state = initialise_all(rule, params, rule.defaults)
    for (name, one), (other, two) in combinations(flat(params, state).items(), 2):
        if np.shares_memory(one, two):
            yield f"'{name}' and '{other}' share their memory before the first step."
    before = {name: np.copy(a) for name, a in _inputs(params, grads, state).items()}
    first, second = (
        flat(*apply_all(rule, params, grads, state, 1, rule.defaults, curvature=curvature))
        for _ in range(2)
    )
    for name, array in _inputs(params, grads, state).items():
        if not np.array_equal(array, before[name], equal_nan=True):
            yield f"a step changes its input '{name}' in place."
    if any(not np.array_equal(first[name], second[name], equal_nan=True) for name in first):
        yield (
            "the same step gives two results; a rule must not draw random numbers, except from "
            "`draws`."
        )


def _keeps_shapes(rule: Rule) -> Iterator[str]:
    """Parameters and state keep their shapes and precision, in a stack too."""
    params, minima = (mapped(np.float32, arrays) for arrays in small_problem((3,)))
    values = mapped(np.float32, stacked_values(rule, (3,)))
    state = initialise_all(rule, params, values, lead=1)
    grads, curvature = gradients_at(params, minima), curvature_at(params, minima)
    moved = apply_all(rule, params, grads, state, 1, values, lead=1, curvature=curvature)
    before, after = flat(params, state), flat(*moved)
    for name in sorted(before.keys() ^ after.keys()):
        yield f"a step adds or removes '{name}'."
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            yield f"'{name}' changes from {old.dtype} {old.shape} to {new.dtype} {new.shape}."


def _stays_finite(rule: Rule) -> Iterator[str]:
    """Fifty steps at the defaults move every parameter and leave all numbers finite."""
    params, minima = small_problem(())
    after = follow(rule, params, minima, rule.defaults, steps=50)
    for name, array in after.items():
        if not np.isfinite(array).all():
            yield f"'{name}' is not finite after 50 steps."
    for name, param in params.items():
        if np.array_equal(after[name], param):
            yield f"'{name}' has not moved in 50 steps."


def _agrees_across_libraries(rule: Rule) -> Iterator[str]:
    """NumPy and torch agree."""
    params, minima = small_problem((3,))
    values = stacked_values(rule, (3,))
    in_numpy = follow(rule, params, minima, values, WEIGHT_DECAYS, lead=1)
    params, minima, values = (mapped(torch.tensor, a) for a in (params, minima, values))
    in_torch = follow(rule, params, minima, values, torch.tensor(WEIGHT_DECAYS), lead=1)
    for name, array in in_numpy.items():
        if (error := relative_error(in_torch[name].numpy(), array)) > TOLERANCE:
            yield f"NumPy and torch differ in '{name}' by {error:.1g}."


def _compiles_once(rule: Rule) -> Iterator[str]:
    """One compiled program serves all steps and learning rates."""
    if not rule.capturable:
        return
    params, minima = (mapped(torch.tensor, arrays) for arrays in small_problem((3,)))
    del params["kernel"]  # shortens compilation
    values = mapped(torch.tensor, stacked_values(rule, (3,)))
    decays = torch.tensor(WEIGHT_DECAYS)
    state = initialise_all(rule, params, values, lead=1)
    programs = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        programs.append(graph)
        return graph.forward

    def take_step(
        params: Arrays, state: States, step: Array, values: Arrays
    ) -> tuple[Arrays, States]:
        grads, curvature = gradients_at(params, minima), curvature_at(params, minima)
        treated = decays, "decoupled"
        return apply_all(
            rule, params, grads, state, step, values, *treated, lead=1, curvature=curvature
        )

    torch.compiler.reset()
    compiled = torch.compile(take_step, backend=backend, fullgraph=True, dynamic=False)
    results: list[tuple[Arrays, States]] = [(params, state), (params, state)]
    for step in range(1, 4):
        scheduled = {**values, "lr": values["lr"] / step}
        number = torch.tensor(float(step), dtype=torch.float64)
        results = [
            function(*result, number, scheduled)
            for function, result in zip((compiled, take_step), results, strict=True)
        ]
    if len(programs) > 1:
        yield f"three steps with three learning rates were compiled {len(programs)} times."
    fast, plain = (flat(*result) for result in results)
    for name, array in plain.items():
        if relative_error(fast[name].numpy(), array.numpy()) > TOLERANCE:
            yield f"compiled and plain steps differ in '{name}'."


def agreement_with(
    rule: Rule, optimizer: type[torch.optim.Optimizer], arguments: Mapping[str, Any]
) -> Iterator[str]:
    """The steps equal those of another implementation."""
    params, minima = small_problem(())
    tensors = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    reference = optimizer(list(tensors.values()), **arguments)
    decay = rule.default_weight_decay, rule.default_decay
    ours = follow(rule, params, minima, rule.defaults, *decay, steps=50, evaluate=False)
    for _ in range(50):
        current = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
        for name, grad in gradients_at(current, minima).items():
            tensors[name].grad = torch.tensor(grad)
        reference.step()
    for name, tensor in tensors.items():
        if (error := relative_error(ours[name], tensor.detach().numpy())) > TOLERANCE:
            yield f"after 50 steps '{name}' differs from {optimizer.__name__}'s by {error:.1g}."


RULE_CHECKS = (
    _is_declared,
    _has_sane_bounds,
    _is_explained,
    _is_pure,
    _keeps_shapes,
    _stays_finite,
    stack_problems,
    _agrees_across_libraries,
    _compiles_once,
)


def _inputs(params: Arrays, grads: Arrays, state: States) -> dict[str, Array]:
    return flat(params, state) | {f"gradient of {name}": grad for name, grad in grads.items()}
