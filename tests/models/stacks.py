"""A grid of models as one stack, written with `torch.func` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

Tensors = dict[str, Tensor]


def stacked(models: Sequence[nn.Module], shape: tuple[int, int]) -> tuple[Tensors, Tensors]:
    """Parameters and buffers of all models, each (seeds, settings, ...)."""
    params, buffers = (
        {name: value.detach().unflatten(0, shape) for name, value in tensors.items()}
        for tensors in stack_module_state(list(models))
    )
    return params, buffers


def loss_of_one(base: nn.Module) -> Callable[..., tuple[Tensor, Tensors]]:
    """Loss of one run, and its buffers after the step."""

    def loss(params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
        state = params | buffers
        value = cross_entropy(functional_call(base, state, (x,)), y)
        return value, {name: state[name] for name in buffers}

    return loss


def over_runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map over seeds, which have their own data, and over settings, which share it."""
    return vmap(vmap(function, in_dims=(0, 0, None, None)))


def gradients_of_all(base: nn.Module) -> Callable[..., Any]:
    """All runs' gradients, and (losses, buffers after the step)."""
    return over_runs(grad_and_value(loss_of_one(base), has_aux=True))


def gradients_alone(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
    """Loss and gradients of one model by plain automatic differentiation."""
    model.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value where that is above 1."""
    assert actual.shape == expected.shape
    if not actual.numel():
        return 0.0
    scale = max(1.0, expected.abs().max().item())
    return (actual - expected).abs().max().item() / scale


def seeded(seed: int, *shape: int) -> Tensor:
    """Standard normal float64 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
