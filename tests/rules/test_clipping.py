"""Clipping per run is that of torch.nn.utils for each run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial.rules import clip_all
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT64

SHAPES = {"matrix": (3, 2), "bias": (3,), "kernel": (2, 2, 2, 2), "scalar": ()}
NORMS = np.array([0.5, np.inf, 1e3, 2.0])
VALUES = np.array([np.inf, 0.1, 0.5, 1e3])


def drawn(*runs: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(8)
    return {name: generator.standard_normal((*runs, *shape)) for name, shape in SHAPES.items()}


def clipped_by_torch(
    grads: dict[str, np.ndarray], norm: float | None, value: float | None
) -> list[np.ndarray]:
    parameters = [torch.nn.Parameter(torch.tensor(np.zeros(shape))) for shape in SHAPES.values()]
    for parameter, grad in zip(parameters, grads.values(), strict=True):
        parameter.grad = torch.tensor(grad)
    if norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, norm)
    if value is not None:
        torch.nn.utils.clip_grad_value_(parameters, value)
    return [p.grad.numpy() for p in parameters if p.grad is not None]


@pytest.mark.parametrize("norm", [None, 0.5, 3, 1e6, float("inf")])
@pytest.mark.parametrize("value", [None, 0.1, 1e6])
def test_one_run(norm: float | None, value: float | None) -> None:
    grads = drawn()
    expected = clipped_by_torch(grads, norm, value)
    assert relative_error(clip_all(grads, norm, value).values(), expected) <= RULE_FLOAT64
    tensors = {name: torch.tensor(grad) for name, grad in grads.items()}
    assert relative_error(clip_all(tensors, norm, value).values(), expected) <= RULE_FLOAT64


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("runs", [(4,), (3, 4)])
def test_each_run_of_a_stack(runs: tuple[int, ...], library: Any) -> None:
    grads = drawn(*runs)
    limits = [limit.reshape((1,) * (len(runs) - 1) + (4,)) for limit in (NORMS, VALUES)]
    arrays = {name: library(grad) for name, grad in grads.items()}
    result = clip_all(arrays, *map(library, limits), lead=len(runs))
    for run in np.ndindex(runs):
        alone = {name: grad[run] for name, grad in grads.items()}
        expected = clipped_by_torch(alone, NORMS[run[-1]], VALUES[run[-1]])
        assert relative_error([r[run] for r in result.values()], expected) <= RULE_FLOAT64


def test_unclipped_gradients_are_the_same_bits() -> None:
    grads = drawn(4)
    assert clip_all(grads, None, None, lead=1) is grads
    for limits in ((np.full(4, np.inf), None), (None, np.full(4, np.inf)), (1e6, 1e6)):
        for name, grad in clip_all(grads, *limits, lead=1).items():
            assert grad.tobytes() == grads[name].tobytes()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_run_that_is_not_finite_leaves_its_neighbours_alone(wrong: float) -> None:
    grads = drawn(4)
    expected = clip_all(grads, NORMS, VALUES, lead=1)
    spoilt = {name: grad.copy() for name, grad in grads.items()}
    for run in (0, 1):
        spoilt["matrix"][run, 0, 0] = wrong
    with np.errstate(invalid="ignore"):
        result = clip_all(spoilt, NORMS, None, lead=1)
        assert all((result[name][1] == spoilt[name][1]).all() for name in ("bias", "kernel"))
        result = clip_all(spoilt, NORMS, VALUES, lead=1)
    for name, grad in result.items():
        np.testing.assert_array_equal(grad[2:], expected[name][2:])


def test_compiles_once_for_all_limits() -> None:
    programs = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        programs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(
        lambda grads, norm, value: clip_all(grads, norm, value, lead=1),
        backend=backend,
        fullgraph=True,
    )
    grads = {name: torch.tensor(grad) for name, grad in drawn(4).items()}
    for factor in (1.0, 2.0):
        norms, values = torch.tensor(factor * NORMS), torch.tensor(VALUES)
        expected = clip_all(grads, norms, values, lead=1)
        result = compiled(grads, norms, values)
        assert relative_error(result.values(), expected.values()) <= RULE_FLOAT64
    assert len(programs) == 1
