"""Rules that torch.optim lacks take the same 200 steps as in the package pytorch_optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch

from optrial.rules import RULES
from tests.rules.network import STEPS, gradients, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64

Arguments = Callable[[Mapping[str, Any]], dict[str, Any]]


def betas(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the betas as the package takes them, and the rest under our names."""
    rest = {name: value for name, value in values.items() if not name.startswith("beta")}
    return {"betas": tuple(v for n, v in values.items() if n.startswith("beta"))} | rest


def adopt(values: Mapping[str, Any]) -> dict[str, Any]:
    """Count steps in the bound as the authors do; the package is one ahead of them."""
    arguments = betas(values)
    clips = arguments.pop("clip")
    return arguments | {"clip_lambda": (lambda t: (t - 1) ** 0.25) if clips else None}


def ademamix(values: Mapping[str, Any]) -> dict[str, Any]:
    arguments = betas(values)
    return arguments | {"t_alpha_beta3": arguments.pop("warmup") or None}


def qhm(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"lr": values["lr"], "momentum": values["momentum"], "nu": values["nu"]}


COUNTERPARTS: dict[str, tuple[str, Arguments]] = {
    "adabelief": ("AdaBelief", lambda values: betas(values) | {"rectify": False}),
    "yogi": ("Yogi", betas),
    "adopt": ("ADOPT", adopt),
    "ademamix": ("AdEMAMix", ademamix),
    "adan": ("Adan", betas),
    "qhm": ("QHM", qhm),
    "signsgd": ("SignSGD", lambda values: {**values, "momentum": 0.0}),
    "signum": ("SignSGD", dict),
}
DECAYS = [(0.0, "l2"), (0.02, "l2"), (0.02, "decoupled")]
CASES = [
    pytest.param(name, values, decay, id=f"{name}-{number}-{decay[0]}-{decay[1]}")
    for name in COUNTERPARTS
    for number, values in enumerate(tried(name))
    for decay in (DECAYS if number == 0 else DECAYS[:1])
    if (name, decay) not in {("adan", (0.02, "l2")), ("adopt", (0.02, "decoupled"))}
]


@pytest.mark.parametrize(("name", "values", "decay"), CASES)
def test_same_200_steps(name: str, values: dict[str, Any], decay: tuple[float, str]) -> None:
    """Except adan, whose l2 is a division here, and adopt, which the package does not decay first.

    The first steps of adopt decay the weights only, and the package leaves those out.
    """
    class_name, arguments = COUNTERPARTS[name]
    weight_decay, kind = decay
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    optimizer = getattr(pytorch_optimizer, class_name)(
        parameters,
        weight_decay=weight_decay,
        weight_decouple=kind == "decoupled",
        **arguments(values),
    )
    for _ in range(STEPS):
        at = dict(zip(start(), (p.detach().numpy() for p in parameters), strict=True))
        for parameter, grad in zip(parameters, gradients(at).values(), strict=True):
            parameter.grad = torch.tensor(grad)
        optimizer.step()
    theirs: list[np.ndarray] = [p.detach().numpy() for p in parameters]
    ours = train(RULES[name], values, weight_decay, kind)
    assert relative_error(ours, theirs) <= RULE_FLOAT64
    assert relative_error(start().values(), theirs) > 1e3 * RULE_FLOAT64, "nothing was trained"
