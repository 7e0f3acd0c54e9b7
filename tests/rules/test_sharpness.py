"""The point at which SAM takes its gradient, in stacks and alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optrial.rules import uphill
from tests.tolerance import RULE_FLOAT64

RNG = np.random.default_rng(0)
PARAMS = {"weight": RNG.normal(size=(2, 3, 4, 5)), "bias": RNG.normal(size=(2, 3, 5))}
GRADS = {name: RNG.normal(size=value.shape) for name, value in PARAMS.items()}
RHO = np.array([[0.01, 0.05, 0.2]])


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("as_array", [np.asarray, torch.from_numpy])
def test_each_run_of_a_stack_moves_by_its_own_distance(adaptive: bool, as_array: object) -> None:
    assert callable(as_array)
    stack = [{name: as_array(v) for name, v in values.items()} for values in (PARAMS, GRADS)]
    moved = uphill(*stack, as_array(RHO), adaptive=adaptive, lead=2)
    for seed, setting in np.ndindex(2, 3):
        params, grads = ({n: v[seed, setting] for n, v in x.items()} for x in (PARAMS, GRADS))
        scale = {n: np.abs(v) if adaptive else np.ones_like(v) for n, v in params.items()}
        norm = np.sqrt(sum(((scale[n] * g) ** 2).sum() for n, g in grads.items()))
        for name, param in params.items():
            expected = param + RHO[0, setting] * scale[name] ** 2 * grads[name] / norm
            np.testing.assert_allclose(moved[name][seed, setting], expected, rtol=RULE_FLOAT64)


def test_a_zero_gradient_leaves_the_parameters_as_they_are() -> None:
    params = {"weight": np.ones((2, 2))}
    moved = uphill(params, {"weight": np.zeros((2, 2))}, 0.05)
    assert np.array_equal(moved["weight"], params["weight"])
