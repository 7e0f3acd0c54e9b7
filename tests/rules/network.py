"""A small network with real gradients, and the hyperparameters every rule is tried with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from optrial.rules import RULES, Rule, apply_rule, initialise

STEPS = 200
SHAPES = ((3, 5), (5,), (5, 2), (2,))
INPUTS, TARGETS = (
    torch.from_numpy(np.random.default_rng(size).standard_normal((16, size))) for size in (3, 2)
)

# No setting at which training is chaotic: there 200 steps turn one rounding into 1e-4, and
# torch.optim is as far from itself.
TRIED: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"lr": 0.3}],
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
    "nadam": [
        {},
        {"beta1": 0.0, "lr": 1e-3, "eps": 1e-3},
        {"momentum_decay": 0.0},
        {"momentum_decay": 0.5, "beta1": 0.99, "lr": 1e-4},
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


def start(seed: int = 0) -> list[np.ndarray]:
    """Return the initial weights of a tanh network, 3-5-2."""
    generator = np.random.default_rng(seed)
    return [0.5 * generator.standard_normal(shape) for shape in SHAPES]


def gradients(parameters: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the gradient of a squared error at `parameters`, by automatic differentiation."""
    tensors = [torch.from_numpy(p).clone().requires_grad_() for p in parameters]
    w1, b1, w2, b2 = tensors
    outputs = torch.addmm(b2, torch.tanh(torch.addmm(b1, INPUTS, w1)), w2)
    loss = torch.nn.functional.mse_loss(outputs, TARGETS)
    return [g.numpy() for g in torch.autograd.grad(loss, tensors)]


def train(
    rule: Rule,
    hyperparameters: dict[str, Any],
    weight_decay: float = 0.0,
    decay: str = "l2",
    steps: int = STEPS,
) -> list[np.ndarray]:
    """Return the weights after training with a rule of ours on NumPy arrays."""
    parameters = start()
    states = [initialise(rule, p, hyperparameters) for p in parameters]
    for step in range(1, steps + 1):
        moved = [
            apply_rule(rule, p, g, s, step, hyperparameters, weight_decay, decay)
            for p, g, s in zip(parameters, gradients(parameters), states, strict=True)
        ]
        parameters, states = [p for p, _ in moved], [s for _, s in moved]
    return parameters


def relative_error(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Return the largest difference of any array, relative to its own size."""
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    assert all(np.isfinite(a).all() and np.isfinite(b).all() for a, b in pairs)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
