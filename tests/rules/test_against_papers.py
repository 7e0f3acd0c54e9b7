"""Rules that torch.optim lacks, against their papers' own lines, written out in NumPy float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optrial.rules import RULES
from tests.rules.network import STEPS, gradients, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64


def quadratic(theta: np.ndarray) -> np.ndarray:
    """Gradient of an ill-conditioned quadratic."""
    return np.array([1.0, 10.0, 100.0]) * theta


def double_wells(theta: np.ndarray) -> np.ndarray:
    """Gradient of coupled double wells, x^4 / 4 - x^2 / 2 + x y / 3, which is not convex."""
    return theta**3 - theta + np.roll(theta, 1) / 3 + np.roll(theta, -1) / 3


@pytest.mark.parametrize("gradient", [quadratic, double_wells])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-2])
def test_rmsprop_nesterov_is_algorithm_8_6(
    gradient: Callable[[np.ndarray], np.ndarray], momentum: float, eps: float
) -> None:
    """Both its look-ahead point, which is stored, and its own parameter."""
    lr, rho = 1e-4, 0.9  # stays away from the minimum, around which RMSProp is chaotic
    rule, values = (
        RULES["rmsprop_nesterov"],
        {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps},
    )
    theta = np.array([-3.0, 0.2, 1.7])
    velocity, accumulated = np.zeros(3), np.zeros(3)
    phi = theta
    state = rule.init(phi, **values)
    for step in range(1, STEPS + 1):
        interim = theta + momentum * velocity
        g = gradient(interim)
        accumulated = rho * accumulated + (1 - rho) * g * g
        velocity = momentum * velocity - lr / (np.sqrt(accumulated) + eps) * g
        theta = theta + velocity

        change, state = rule.update(gradient(phi), state, step, **values)
        phi = phi + change
        assert relative_error([phi], [theta + momentum * velocity]) <= RULE_FLOAT64
        assert relative_error([phi - momentum * state.velocity], [theta]) <= RULE_FLOAT64


@pytest.mark.parametrize("values", tried("lion"))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lion_is_algorithm_2(values: dict[str, float], weight_decay: float) -> None:
    parameters = start()
    averages = [np.zeros_like(p) for p in parameters]
    for _ in range(STEPS):
        computed = gradients(parameters)
        for i, g in enumerate(computed):
            update = np.sign(values["beta1"] * averages[i] + (1 - values["beta1"]) * g)
            averages[i] = values["beta2"] * averages[i] + (1 - values["beta2"]) * g
            decayed = update + weight_decay * parameters[i]
            parameters[i] = parameters[i] - values["lr"] * decayed
    ours = train(RULES["lion"], values, weight_decay, "decoupled")
    assert relative_error(ours, parameters) <= RULE_FLOAT64


@pytest.mark.parametrize("decay", ["l2", "decoupled"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad"])
def test_both_kinds_of_decay_are_their_definitions(name: str, decay: str) -> None:
    """On rules whose torch class has no decoupled decay; weights shrink by lr * weight_decay."""
    rule, weight_decay = RULES[name], 0.05
    values = rule.defaults
    expected = start()
    states = [rule.init(p, **values) for p in expected]
    for step in range(1, STEPS + 1):
        for i, g in enumerate(gradients(expected)):
            pulled = g + weight_decay * expected[i] if decay == "l2" else g
            change, states[i] = rule.update(pulled, states[i], step, **values)
            shrink = 0.0 if decay == "l2" else values["lr"] * weight_decay
            expected[i] = expected[i] - shrink * expected[i] + change
    assert relative_error(train(rule, values, weight_decay, decay), expected) <= RULE_FLOAT64
