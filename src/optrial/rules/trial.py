"""Small trainings that show whether a rule repeats its steps, and takes the same ones in a stack.

Arrays are float64: NumPy's, or those of another library if a function converts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.rules.apply import apply_all, evaluation_point, initialise_all
from optrial.rules.arrays import Array, Scalar
from optrial.rules.rule import Hyperparameter, Rule, State

__all__ = [
    "SHAPES",
    "TOLERANCE",
    "WEIGHT_DECAYS",
    "Arrays",
    "States",
    "curvature_at",
    "flat",
    "follow",
    "gradients_at",
    "mapped",
    "relative_error",
    "repeats",
    "setting_of",
    "small_problem",
    "stack_problems",
    "stacked_values",
    "values_around",
]

Convert = Callable[[Any], Any]
"""Makes an array of a library, such as a tensor, from one of NumPy."""

Setting = Mapping[str, float | bool]
"""Hyperparameters by name."""

TOLERANCE = 1e-9
"""Relative error allowed between two float64 computations of the same steps: the order of
roundings, amplified by training."""

Arrays = Mapping[str, Array]
States = Mapping[str, State]

SHAPES = {"matrix": (4, 3), "bias": (3,), "kernel": (2, 3, 2, 2)}
WEIGHT_DECAYS = np.array([0.0, 0.01, 0.1])
"""One for each of three runs."""


def repeats(rule: Rule, convert: Convert = np.asarray) -> bool:
    """Return whether the first step of a rule is the same again after one on other gradients.

    It is not if the rule draws random numbers, or counts or keeps something outside its state.
    """
    results = []
    for scale in (1, -2, 1):
        params, minima = (mapped(convert, arrays) for arrays in small_problem(()))
        grads = {name: scale * grad for name, grad in gradients_at(params, minima).items()}
        curvature = curvature_at(params, minima)
        state = initialise_all(rule, params, rule.defaults)
        moved = apply_all(rule, params, grads, state, 1, rule.defaults, curvature=curvature)
        results.append(mapped(np.asarray, flat(*moved)))
    first, _, again = results
    return all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)


def stack_problems(
    rule: Rule, convert: Convert = np.asarray, settings: Sequence[Setting] = ()
) -> Iterator[str]:
    """Runs in a stack take the same steps as alone.

    Args:
        rule: the rule.
        convert: makes arrays.
        settings: hyperparameters of three runs; the default and values around it if there are none.
    """
    settings = settings or [setting_of(rule, run) for run in range(3)]
    for runs, decays in (((3,), ("l2", "decoupled")), ((2, 3), ("decoupled",))):
        params, minima = (mapped(convert, arrays) for arrays in small_problem(runs))
        values, lead = mapped(convert, _in_a_stack(settings, runs)), len(runs)
        weight_decays = convert(WEIGHT_DECAYS.reshape(_broad(runs)))
        for decay in decays:
            together = follow(rule, params, minima, values, weight_decays, decay, lead=lead)
            for run in np.ndindex(runs):
                alone = follow(
                    rule,
                    {name: array[run] for name, array in params.items()},
                    {name: array[run] for name, array in minima.items()},
                    settings[run[-1]],
                    float(WEIGHT_DECAYS[run[-1]]),
                    decay,
                )
                # A rate so large that a run diverges shows nothing.
                for name in (n for n in params if np.isfinite(np.asarray(alone[n])).all()):
                    if (error := relative_error(together[name][run], alone[name])) > TOLERANCE:
                        yield (
                            f"run {run} of a stack {runs} differs from the same run alone in "
                            f"'{name}', with decay {decay}, by {error:.1g}."
                        )


def values_around(hyperparameter: Hyperparameter) -> list[float | bool]:
    """Return three values: the default, one below and one above."""
    if hyperparameter.scale == "switch":
        return [hyperparameter.default, False, True]
    default, low, high = float(hyperparameter.default), hyperparameter.low, hyperparameter.high
    below = (default + low) / 2 if np.isfinite(low) else default - 1
    above = (default + high) / 2 if np.isfinite(high) else 2 * default or 0.1
    if hyperparameter.whole:
        return [default, float(round(below)), float(round(above))]
    return [default, below, above]


def setting_of(rule: Rule, run: int) -> Setting:
    """Return the hyperparameters of one of three runs."""
    return {h.name: values_around(h)[run] for h in rule.hyperparameters}


def stacked_values(rule: Rule, runs: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Return the hyperparameters of three runs, or of three settings in two seeds, as arrays."""
    return _in_a_stack([setting_of(rule, run) for run in range(3)], runs)


def _in_a_stack(
    settings: Sequence[Setting], runs: tuple[int, ...]
) -> dict[str, NDArray[np.float64]]:
    return {
        name: np.array([setting[name] for setting in settings], np.float64).reshape(_broad(runs))
        for name in settings[0]
    }


def _broad(runs: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(runs) - 1) + runs[-1:]


def small_problem(runs: tuple[int, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the start and the minimum of a small model, each (*runs, *shape)."""
    generator = np.random.default_rng(0)
    starts, minima = (
        {name: generator.standard_normal((*runs, *shape)) for name, shape in SHAPES.items()}
        for _ in range(2)
    )
    return starts, minima


def gradients_at(params: Arrays, minima: Arrays) -> dict[str, Array]:
    """Return the gradient of Σ √(1 + (p − minimum)²), which is bounded."""
    distances = {name: param - minima[name] for name, param in params.items()}
    return {name: d / (1 + d * d) ** 0.5 for name, d in distances.items()}


def curvature_at(params: Arrays, minima: Arrays) -> dict[str, Array]:
    """Return the diagonal of the Hessian of the same sum; signs cancel in z·Hz."""
    return {name: (1 + (param - minima[name]) ** 2) ** -1.5 for name, param in params.items()}


def follow(
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
            gradients_at(params, minima),
            state,
            step,
            values,
            weight_decay,
            decay,
            lead=lead,
            curvature=curvature_at(params, minima),
        )
    if evaluate:
        params = evaluation_point(rule, params, state, values)
    return flat(params, state)


def flat(params: Arrays, state: States) -> dict[str, Array]:
    """Return every array of parameters and state by name: "matrix", "matrix.mean"."""
    return dict(params) | {
        f"{name}.{field}": array
        for name, fields in state.items()
        for field, array in fields._asdict().items()
        if array is not None
    }


def mapped(function: Callable[[Array], Array], arrays: Arrays) -> dict[str, Array]:
    """Return the results of a function of each array, by name."""
    return {name: function(array) for name, array in arrays.items()}


def relative_error(ours: Array, theirs: Array) -> float:
    """Return the largest difference, relative to the largest number; infinite for NaN."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    size = max(float(np.abs(theirs).max()), np.finfo(np.float64).tiny)
    error = float(np.abs(ours - theirs).max()) / size
    return error if np.isfinite(error) else np.inf
