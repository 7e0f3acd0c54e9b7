"""A small network with real gradients, and the hyperparameters every rule is tried with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from optrial.keyed import signs
from optrial.rules import RULES, Rule, apply_all, evaluation_point, initialise_all

STEPS = 100
SHAPES = {
    "kernel": (2, 1, 2, 2),
    "kernel_bias": (2,),
    "hidden": (5, 8),
    "hidden_bias": (5,),
    "output": (2, 5),
    "output_bias": (2,),
}
IMAGES, TARGETS = (
    np.random.default_rng(len(shape)).standard_normal(shape) for shape in ((16, 3, 3), (16, 2))
)
PATCHES = np.lib.stride_tricks.sliding_window_view(IMAGES, (2, 2), axis=(1, 2)).reshape(16, 4, 4)
Arrays = dict[str, np.ndarray]

# No setting at which training is chaotic: there 100 steps turn one rounding into 1e-4, and
# torch.optim is as far from itself.
TRIED: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"lr": 0.1}],
    "momentum": [{}, {"momentum": 0.0}, {"lr": 0.02, "momentum": 0.99}],
    "nesterov": [{}, {"momentum": 0.0}, {"lr": 0.02, "momentum": 0.99}],
    "adagrad": [
        {},
        {"lr_decay": 0.1},
        {"initial_accumulator": 0.5, "lr": 0.1},
        {"lr_decay": 0.01, "initial_accumulator": 1e-3, "eps": 1e-3},
    ],
    "rmsprop": [
        {"lr": 1e-3},
        {"rho": 0.0, "lr": 1e-3, "eps": 1e-2},
        {"rho": 0.5, "lr": 1e-3, "eps": 1e-3},
        {"momentum": 0.99, "lr": 1e-4},
        {"centered": True, "lr": 1e-3, "eps": 1e-3},
        {"centered": True, "momentum": 0.9, "lr": 1e-4, "eps": 1e-3},
    ],
    "rmsprop_nesterov": [{}, {"momentum": 0.0}, {"momentum": 0.99, "lr": 1e-4}, {"rho": 0.99}],
    "adadelta": [{}, {"rho": 0.0, "lr": 0.1}, {"rho": 0.99, "eps": 1e-4, "lr": 0.1}],
    "lion": [{}, {"beta1": 0.0}, {"beta1": 0.95, "beta2": 0.98, "lr": 1e-3}],
    "signsgd": [{}, {"lr": 1e-3}],
    "signum": [{}, {"momentum": 0.0}, {"momentum": 0.99, "lr": 1e-3}],
    "qhm": [{}, {"nu": 0.0}, {"momentum": 0.9, "nu": 1.0}, {"momentum": 0.9, "nu": 0.9}],
    "asgd": [{}, {"lr": 0.1, "t0": 20.0, "lambd": 1e-2}, {"alpha": 0.5, "t0": 0.0}],
    "adabelief": [
        {"eps": 1e-8},
        {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
        {"beta2": 0.5, "eps": 1e-3},
        {"beta1": 0.99, "beta2": 0.9999, "lr": 1e-2, "eps": 1e-8},
    ],
    "yogi": [{}, {"beta1": 0.0, "lr": 1e-3}, {"initial_accumulator": 0.1, "beta2": 0.9}],
    "adopt": [
        {},
        {"clip": False, "eps": 1e-2},
        {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
        {"beta2": 0.9, "eps": 1e-3},
    ],
    "laprop": [{}, {"beta1": 0.0, "eps": 1e-3}, {"beta2": 0.5, "eps": 1e-3}],
    "ademamix": [
        {},
        {"warmup": 100.0},
        {"warmup": 400.0, "alpha": 2.0, "beta3": 0.99},
        {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
    ],
    "adan": [{}, {"beta1": 0.0, "beta2": 0.0, "eps": 1e-3}, {"beta3": 0.9, "eps": 1e-3}],
    "rprop": [{}, {"shrink": 0.3, "grow": 1.5, "most": 0.02}, {"lr": 1e-4, "least": 1e-4}],
    "nadam": [
        {},
        {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
        {"momentum_decay": 0.0},
        {"momentum_decay": 0.5, "beta1": 0.99, "lr": 1e-4},
    ],
    "adafactor": [
        {},
        {"lr": 0.05, "decay_exponent": 0.5},
        {"clip_threshold": 2.0, "eps": 0.1},
        {"decay_exponent": 1.0, "lr": 1e-3},
    ],
    "lars": [{}, {"momentum": 0.0, "trust_coefficient": 0.01}, {"lr": 0.1, "momentum": 0.99}],
    "muon": [{}, {"match_rms": False, "lr": 2e-3, "vector_lr": 0.5}, {"momentum": 0.0}],
    "shampoo": [{}, {"momentum": 0.0, "lr": 0.05}, {"eps": 1e-2, "momentum": 0.5}],
    "soap": [  # eps divides rounding errors in directions without a gradient
        {"eps": 1e-6},
        {"precondition_frequency": 1.0, "lr": 1e-3, "eps": 1e-4},
        {"precondition_frequency": 3.0, "beta1": 0.0, "beta2": 0.9, "lr": 1e-3, "eps": 1e-3},
        {"precondition_frequency": 20.0, "beta2": 0.99, "eps": 1e-6},
    ],
    "psgd_kron": [
        {},
        {"momentum": 0.0, "lr": 1e-3, "factor_lr": 0.02},
        {"full_updates": 20.0, "update_prob": 0.2, "factor_lr": 0.3},
    ],
    "normuon": [
        {},
        {"match_rms": False, "lr": 2e-3, "vector_lr": 0.5},
        {"momentum": 0.0, "row_beta": 0.5, "eps": 1e-3},
    ],
    "scion": [{}, {"momentum": 0.0}, {"momentum": 0.95, "eps": 1e-3}],
    "adahessian": [
        {"lr": 0.01},
        {"lr": 0.01, "beta1": 0.0, "eps": 0.1},
        {"lr": 0.01, "beta2": 0.5, "eps": 0.01, "every": 3.0},
    ],
    "sophia_h": [
        {},
        {"every": 1.0, "gamma": 1.0, "eps": 0.1, "lr": 0.01},
        {"every": 3.0, "gamma": 0.1, "eps": 0.01, "beta1": 0.5, "beta2": 0.9},
    ],
    "schedule_free_sgd": [{"lr": 0.1}, {"momentum": 0.5}, {"momentum": 1.0, "lr": 0.1}],
    "schedule_free_adamw": [{}, {"beta1": 0.5, "eps": 1e-3}, {"beta2": 0.9, "lr": 1e-3}],
    "prodigy": [
        {"eps": 1e-3},
        {"d_coef": 0.5, "d0": 1e-4, "eps": 1e-3},
        {"beta1": 0.0, "beta2": 0.99, "lr": 0.1, "eps": 1e-3},
    ],
}
BETAS: list[dict[str, Any]] = [
    {},
    {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
    {"beta2": 0.5, "eps": 1e-3},
    {"beta1": 0.99, "beta2": 0.9999, "lr": 1e-2},
    {"eps": 0.1},
]


def tried(name: str) -> list[dict[str, Any]]:
    """Return complete hyperparameters, several times."""
    return [RULES[name].defaults | changes for changes in TRIED.get(name, BETAS)]


def mostly_slow(name: str) -> list[Any]:
    """Return the same; all but the first are for the slow tests."""
    first, *others = tried(name)
    return [first, *(pytest.param(values, marks=pytest.mark.slow) for values in others)]


def start(seed: int = 0) -> Arrays:
    """Return the initial weights of a tanh network: a 2 x 2 convolution, 8-5-2; one bias is 0."""
    generator = np.random.default_rng(seed)
    drawn = {name: 0.5 * generator.standard_normal(shape) for name, shape in SHAPES.items()}
    return drawn | {"output_bias": np.zeros(2)}


def gradients(parameters: Mapping[str, np.ndarray]) -> Arrays:
    """Return the gradient of half the mean squared error at `parameters`, written out by hand."""
    kernel, kernel_bias, hidden, hidden_bias, output, output_bias = parameters.values()
    features = np.tanh(PATCHES @ kernel.reshape(2, 4).T + kernel_bias)  # (samples, places, 2)
    flat = features.reshape(16, 8)
    activations = np.tanh(flat @ hidden.T + hidden_bias)
    at_outputs = (activations @ output.T + output_bias - TARGETS) / TARGETS.size
    at_hidden = at_outputs @ output * (1 - activations**2)
    at_features = (at_hidden @ hidden).reshape(16, 4, 2) * (1 - features**2)
    return {
        "kernel": np.einsum("spo,spi->oi", at_features, PATCHES).reshape(2, 1, 2, 2),
        "kernel_bias": at_features.sum((0, 1)),
        "hidden": at_hidden.T @ flat,
        "hidden_bias": at_hidden.sum(0),
        "output": at_outputs.T @ activations,
        "output_bias": at_outputs.sum(0),
    }


def curvature(parameters: Mapping[str, np.ndarray], step: int) -> Arrays:
    """Return z·Hz at `parameters`: the imaginary part of the gradient a tiny imaginary way off."""
    z = {n: signs(step, n, np.arange(p.size).reshape(p.shape)) for n, p in parameters.items()}
    moved = gradients({name: p + 1e-20j * z[name] for name, p in parameters.items()})
    return {name: z[name] * g.imag / 1e-20 for name, g in moved.items()}


def train(
    rule: Rule,
    hyperparameters: dict[str, Any],
    weight_decay: float = 0.0,
    decay: str = "l2",
    steps: int = STEPS,
    *,
    gradient: Callable[[Arrays], Arrays] = gradients,
    evaluated: bool = False,
) -> list[np.ndarray]:
    """Return the weights after training with a rule of ours, or where it is to be evaluated."""
    parameters = start()
    state = initialise_all(rule, parameters, hyperparameters)
    for step in range(1, steps + 1):
        parameters, state = apply_all(
            rule,
            parameters,
            gradient(parameters),
            state,
            step,
            hyperparameters,
            weight_decay,
            decay,
            curvature=curvature(parameters, step) if rule.needs_curvature else None,
        )
    if evaluated:
        parameters = dict(evaluation_point(rule, parameters, state, hyperparameters))
    return list(parameters.values())


def relative_error(ours: Iterable[Any], theirs: Iterable[Any]) -> float:
    """Return the largest difference of any array, relative to its own size."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    assert all(np.isfinite(a).all() and np.isfinite(b).all() for a, b in pairs)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
