"""Which parameters of a model are trained: those that ask for a gradient, and get one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

__all__ = ["freeze_unused", "trained_parameters"]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return by name the parameters that ask for a gradient; of those that are tied, the first."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def freeze_unused(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Let no parameter ask for a gradient on which the outputs do not depend.

    They never get one, so that `torch.optim` leaves them as they are, weight decay and all. Where
    gradients are computed for all parameters at once they would be zeros, which decay acts upon.
    It is found with two samples of zeros on a copy; a model that will not take them stays as it is.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            copy = deepcopy(model)
            named = trained_parameters(copy)
            outputs = copy.train()(torch.zeros((2, *input_shape)))
            found = torch.autograd.grad(outputs.sum(), list(named.values()), allow_unused=True)
    except Exception:  # noqa: BLE001  the user's model; training will say what is wrong
        return
    for name, gradient in zip(named, found, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)
