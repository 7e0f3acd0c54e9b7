"""Checks of update rules: what every engine requires, and what a complete entry explains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from optrial.errors import USER_CODE_ERRORS
from optrial.rules import Hyperparameter, Rule, apply_all, evaluation_point, initialise_all
from optrial.rules.arrays import Array, Scalar
from optrial.rules.rule import State

__all__ = ["RULE_CHECKS", "agreement_with", "problems_of_rule", "result_of"]

TOLERANCE = 1e-9
"""Relative error allowed between two float64 computations of the same steps: the order of
roundings, amplified by training."""

Arrays = Mapping[str, Array]
States = Mapping[str, State]

SHAPES = {"matrix": (4, 3), "bias": (3,), "kernel": (2, 3, 2, 2)}
WEIGHT_DECAYS = np.array([0.0, 0.01, 0.1])
"""One for each of three runs."""


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
    states = initialise_all(rule, _problem(())[0], rule.defaults)
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
        for value in _around(hyperparameter):
            if reason := hyperparameter.check(value):
                yield f"{hyperparameter.name} = {reason}"
        if names.count(hyperparameter.name) > 1:
            yield f"two hyperparameters are called '{hyperparameter.name}'."
        for alias in {*hyperparameter.aliases} & {*names}:
            yield f"'{alias}' is an alias and a hyperparameter."


def _is_pure(rule: Rule) -> Iterator[str]:
    """One step changes nothing in place and gives the same result when repeated."""
    params, minima = _problem(())
    grads, curvature = _gradients(params, minima), _curvature(params, minima)
    state = initialise_all(rule, params, rule.defaults)
    for (name, one), (other, two) in combinations(_flat(params, state).items(), 2):
        if np.shares_memory(one, two):
            yield f"'{name}' and '{other}' share their memory before the first step."
    before = {name: np.copy(a) for name, a in _inputs(params, grads, state).items()}
    first, second = (
        _flat(*apply_all(rule, params, grads, state, 1, rule.defaults, curvature=curvature))
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
    params, minima = (_mapped(np.float32, arrays) for arrays in _problem((3,)))
    values = _mapped(np.float32, _stacked(rule, (3,)))
    state = initialise_all(rule, params, values, lead=1)
    grads, curvature = _gradients(params, minima), _curvature(params, minima)
    moved = apply_all(rule, params, grads, state, 1, values, lead=1, curvature=curvature)
    before, after = _flat(params, state), _flat(*moved)
    for name in sorted(before.keys() ^ after.keys()):
        yield f"a step adds or removes '{name}'."
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            yield f"'{name}' changes from {old.dtype} {old.shape} to {new.dtype} {new.shape}."


def _stays_finite(rule: Rule) -> Iterator[str]:
    """Fifty steps at the defaults move every parameter and leave all numbers finite."""
    params, minima = _problem(())
    after = _follow(rule, params, minima, rule.defaults, steps=50)
    for name, array in after.items():
        if not np.isfinite(array).all():
            yield f"'{name}' is not finite after 50 steps."
    for name, param in params.items():
        if np.array_equal(after[name], param):
            yield f"'{name}' has not moved in 50 steps."


def _stacks(rule: Rule) -> Iterator[str]:
    """Runs in a stack take the same steps as alone."""
    for runs, decays in (((3,), ("l2", "decoupled")), ((2, 3), ("decoupled",))):
        params, minima = _problem(runs)
        values, lead = _stacked(rule, runs), len(runs)
        for decay in decays:
            together = _follow(
                rule, params, minima, values, WEIGHT_DECAYS.reshape(_broad(runs)), decay, lead=lead
            )
            for run in np.ndindex(runs):
                alone = _follow(
                    rule,
                    {name: array[run] for name, array in params.items()},
                    {name: array[run] for name, array in minima.items()},
                    _setting(rule, run[-1]),
                    float(WEIGHT_DECAYS[run[-1]]),
                    decay,
                )
                for name in params:
                    if (error := _error(together[name][run], alone[name])) > TOLERANCE:
                        yield (
                            f"run {run} of a stack {runs} differs from the same run alone in "
                            f"'{name}', with decay {decay}, by {error:.1g}."
                        )


def _agrees_across_libraries(rule: Rule) -> Iterator[str]:
    """NumPy and torch agree."""
    params, minima = _problem((3,))
    values = _stacked(rule, (3,))
    in_numpy = _follow(rule, params, minima, values, WEIGHT_DECAYS, lead=1)
    params, minima, values = (_mapped(torch.tensor, a) for a in (params, minima, values))
    in_torch = _follow(rule, params, minima, values, torch.tensor(WEIGHT_DECAYS), lead=1)
    for name, array in in_numpy.items():
        if (error := _error(in_torch[name].numpy(), array)) > TOLERANCE:
            yield f"NumPy and torch differ in '{name}' by {error:.1g}."


def _compiles_once(rule: Rule) -> Iterator[str]:
    """One compiled program serves all steps and learning rates."""
    if not rule.capturable:
        return
    params, minima = (_mapped(torch.tensor, arrays) for arrays in _problem((3,)))
    del params["kernel"]  # shortens compilation
    values = _mapped(torch.tensor, _stacked(rule, (3,)))
    decays = torch.tensor(WEIGHT_DECAYS)
    state = initialise_all(rule, params, values, lead=1)
    programs = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        programs.append(graph)
        return graph.forward

    def take_step(
        params: Arrays, state: States, step: Array, values: Arrays
    ) -> tuple[Arrays, States]:
        grads, curvature = _gradients(params, minima), _curvature(params, minima)
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
    fast, plain = (_flat(*result) for result in results)
    for name, array in plain.items():
        if _error(fast[name].numpy(), array.numpy()) > TOLERANCE:
            yield f"compiled and plain steps differ in '{name}'."


def agreement_with(
    rule: Rule, optimizer: type[torch.optim.Optimizer], arguments: Mapping[str, Any]
) -> Iterator[str]:
    """The steps equal those of another implementation."""
    params, minima = _problem(())
    tensors = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    reference = optimizer(list(tensors.values()), **arguments)
    decay = rule.default_weight_decay, rule.default_decay
    ours = _follow(rule, params, minima, rule.defaults, *decay, steps=50, evaluate=False)
    for _ in range(50):
        current = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
        for name, grad in _gradients(current, minima).items():
            tensors[name].grad = torch.tensor(grad)
        reference.step()
    for name, tensor in tensors.items():
        if (error := _error(ours[name], tensor.detach().numpy())) > TOLERANCE:
            yield f"after 50 steps '{name}' differs from {optimizer.__name__}'s by {error:.1g}."


RULE_CHECKS = (
    _is_declared,
    _has_sane_bounds,
    _is_explained,
    _is_pure,
    _keeps_shapes,
    _stays_finite,
    _stacks,
    _agrees_across_libraries,
    _compiles_once,
)


def _around(hyperparameter: Hyperparameter) -> list[float | bool]:
    """Return three values: the default, one below and one above."""
    if hyperparameter.scale == "switch":
        return [hyperparameter.default, False, True]
    default, low, high = float(hyperparameter.default), hyperparameter.low, hyperparameter.high
    below = (default + low) / 2 if np.isfinite(low) else default - 1
    above = (default + high) / 2 if np.isfinite(high) else 2 * default or 0.1
    if hyperparameter.whole:
        return [default, float(round(below)), float(round(above))]
    return [default, below, above]


def _setting(rule: Rule, run: int) -> dict[str, float | bool]:
    """Return the hyperparameters of one of three runs."""
    return {h.name: _around(h)[run] for h in rule.hyperparameters}


def _stacked(rule: Rule, runs: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Return the hyperparameters of three runs, or of three settings in two seeds, as arrays."""
    return {
        h.name: np.array(_around(h), dtype=np.float64).reshape(_broad(runs))
        for h in rule.hyperparameters
    }


def _broad(runs: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(runs) - 1) + runs[-1:]


def _problem(runs: tuple[int, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the start and the minimum of a small model, each (*runs, *shape)."""
    generator = np.random.default_rng(0)
    starts, minima = (
        {name: generator.standard_normal((*runs, *shape)) for name, shape in SHAPES.items()}
        for _ in range(2)
    )
    return starts, minima


def _gradients(params: Arrays, minima: Arrays) -> dict[str, Array]:
    """Return the gradient of Σ √(1 + (p − minimum)²), which is bounded."""
    distances = {name: param - minima[name] for name, param in params.items()}
    return {name: d / (1 + d * d) ** 0.5 for name, d in distances.items()}


def _curvature(params: Arrays, minima: Arrays) -> dict[str, Array]:
    """Return the diagonal of the Hessian of the same sum; signs cancel in z·Hz."""
    return {name: (1 + (param - minima[name]) ** 2) ** -1.5 for name, param in params.items()}


def _follow(
    rule: Rule,
    params: Arrays,
    minima: Arrays,
    values: Mapping[str, Scalar],
    weight_decay: Scalar = 0.0,
    decay: str = "l2",
    *,
    lead: int = 0,
    steps: int = 20,
    evaluate: bool = True,
) -> dict[str, Array]:
    """Train; return the state and the parameters, at the evaluation point if `evaluate`."""
    state = initialise_all(rule, params, values, lead=lead)
    for step in range(1, steps + 1):
        params, state = apply_all(
            rule,
            params,
            _gradients(params, minima),
            state,
            step,
            values,
            weight_decay,
            decay,
            lead=lead,
            curvature=_curvature(params, minima),
        )
    if evaluate:
        params = evaluation_point(rule, params, state, values)
    return _flat(params, state)


def _flat(params: Arrays, state: States) -> dict[str, Array]:
    """Return every array of parameters and state by name: "matrix", "matrix.mean"."""
    return dict(params) | {
        f"{name}.{field}": array
        for name, fields in state.items()
        for field, array in fields._asdict().items()
        if array is not None
    }


def _inputs(params: Arrays, grads: Arrays, state: States) -> dict[str, Array]:
    return _flat(params, state) | {f"gradient of {name}": grad for name, grad in grads.items()}


def _mapped(function: Callable[[Array], Array], arrays: Arrays) -> dict[str, Array]:
    return {name: function(array) for name, array in arrays.items()}


def _error(ours: Array, theirs: Array) -> float:
    """Return the largest difference, relative to the largest number; infinite for NaN."""
    size = max(float(np.abs(theirs).max()), np.finfo(np.float64).tiny)
    error = float(np.abs(ours - theirs).max()) / size
    return error if np.isfinite(error) else np.inf
