"""AdaHessian and Sophia-H, against pytorch_optimizer and their papers, with given curvature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch

from optrial.explain.landscape import assemble
from optrial.explain.optimizers import parse_optimizers
from optrial.functions import FUNCTIONS
from optrial.keyed import mask_key, signs
from optrial.rules import RULES, apply_all, initialise_all
from tests.rules.network import STEPS, curvature, gradients, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64

SLOW = pytest.mark.slow
DECAYS = [
    (0.1, "decoupled"),
    *(pytest.param(decay, marks=SLOW) for decay in ((0.0, "decoupled"), (0.02, "l2"))),
]


def of_package(optimizer: Any, named: dict[str, torch.nn.Parameter], every: int) -> list[Any]:
    """Return the weights after training with estimates averaged over kernels, as the authors do."""
    for step in range(1, STEPS + 1):
        at = {name: value.detach().numpy() for name, value in named.items()}
        for name, grad in gradients(at).items():
            named[name].grad = torch.tensor(grad)
        known = curvature(at, step)
        if optimizer.__class__.__name__ == "AdaHessian":
            known["kernel"] = np.abs(known["kernel"]).mean((2, 3), keepdims=True) + np.zeros(
                known["kernel"].shape
            )
        is_due = (step - 1) % every == 0
        optimizer.step(hessian=[torch.tensor(c) for c in known.values()] if is_due else None)
        for state in optimizer.state.values():
            state.pop("hessian", None)
    return [value.detach().numpy() for value in named.values()]


def parameters() -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start().items()}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("values", [v for v in tried("adahessian") if v["every"] == 1])
def test_adahessian_is_that_of_the_package(
    values: dict[str, Any], decay: tuple[float, str]
) -> None:
    named = parameters()
    optimizer = pytorch_optimizer.AdaHessian(
        named.values(),
        lr=values["lr"],
        betas=(values["beta1"], values["beta2"]),
        eps=values["eps"],
        weight_decay=decay[0],
        weight_decouple=decay[1] == "decoupled",
    )
    ours = train(RULES["adahessian"], values, *decay)
    assert relative_error(ours, of_package(optimizer, named, 1)) <= RULE_FLOAT64


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("values", tried("sophia_h"))
def test_sophia_is_that_of_the_package(values: dict[str, Any], decay: tuple[float, str]) -> None:
    """The package clips before it multiplies by lr, where the paper clips at 1."""
    named, gamma = parameters(), values["gamma"]
    optimizer = pytorch_optimizer.SophiaH(
        named.values(),
        lr=values["lr"] / gamma,
        betas=(values["beta1"], values["beta2"]),
        p=gamma,
        eps=values["eps"] / gamma,
        update_period=int(values["every"]),
        weight_decay=decay[0] * (gamma if decay[1] == "decoupled" else 1),
        weight_decouple=decay[1] == "decoupled",
    )
    ours = train(RULES["sophia_h"], values, *decay)
    theirs = of_package(optimizer, named, int(values["every"]))
    assert relative_error(ours, theirs) <= RULE_FLOAT64


@pytest.mark.parametrize("values", tried("adahessian"))
def test_adahessian_is_that_of_the_authors(values: dict[str, Any]) -> None:
    """With their weight decay, and with estimates at every third step, which v's correction counts.

    Their code is image_classification/optim_adahessian.py of amirgholami/adahessian.
    """
    rule, weight_decay = RULES["adahessian"], 0.1
    lr, beta1, beta2, eps, every = values.values()
    weights = start()
    mean, square = ({n: np.zeros_like(w) for n, w in weights.items()} for _ in range(2))
    estimates = 0
    for t in range(1, STEPS + 1):
        g, z_hz = gradients(weights), curvature(weights, t)
        is_due = (t - 1) % every == 0
        estimates += is_due
        for name, weight in weights.items():
            mean[name] = beta1 * mean[name] + (1 - beta1) * g[name]
            diagonal = np.abs(z_hz[name])
            if weight.ndim == 4:
                outputs, inputs, *_ = weight.shape
                averaged = diagonal.reshape(outputs, inputs, -1).mean(2)
                diagonal = averaged[:, :, None, None] * np.ones(weight.shape)
            if is_due:
                square[name] = beta2 * square[name] + (1 - beta2) * diagonal**2
            corrected = mean[name] / (1 - beta1**t)
            root = np.sqrt(square[name] / (1 - beta2**estimates))
            weights[name] = weight - lr * (corrected / (root + eps) + weight_decay * weight)
    ours = train(rule, values, weight_decay, rule.default_decay)
    assert relative_error(ours, weights.values()) <= RULE_FLOAT64


@pytest.mark.parametrize("name", ["adahessian", "sophia_h"])
def test_curvature_is_no_option(name: str) -> None:
    rule, params = RULES[name], {"w": np.ones((2, 3))}
    state = initialise_all(rule, params, rule.defaults)
    with pytest.raises(ValueError, match=f"{name} needs estimates of curvature"):
        apply_all(rule, params, params, state, 1, rule.defaults)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_paths_on_functions_take_the_hessian_of_autograd(name: str) -> None:
    function, seed = FUNCTIONS[name], 3
    optimizers = parse_optimizers("adahessian:lr=0.01")
    path = assemble(function, optimizers, steps=1, seed=seed).paths[0]
    displaced = np.asarray(function.start)
    if function.noise:
        displaced = displaced + function.noise * np.random.default_rng(seed).standard_normal(2)
    hessian = torch.autograd.functional.hessian(
        lambda point: function.value(point[0], point[1]), torch.tensor(displaced)
    ).numpy()
    z = signs(mask_key(seed, 1), "point", np.arange(2))
    gradient = np.array(function.gradient(*displaced))
    step = 0.01 * gradient / (np.abs(hessian @ z) + RULES["adahessian"].defaults["eps"])
    assert relative_error([path.points[0] - path.points[1]], [step]) <= RULE_FLOAT64
