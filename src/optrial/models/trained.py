"""Which parameters of a model are trained: those that ask for a gradient, and get one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from optrial.models.precision import as_real

__all__ = ["freeze_unused", "trained_parameters"]


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return by name the parameters that ask for a gradient; of those that are tied, the first."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def freeze_unused(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Freeze parameters that do not affect the outputs.

    `torch.optim` leaves them as they are, because they have no gradient. Where the gradients of all
    parameters are computed at once, theirs would be zeros, and weight decay would shrink them. They
    are identified with two samples of zeros on a copy; a model that fails on these is left as it
    is.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            copy = deepcopy(model)
            named = trained_parameters(copy)
            copy.train()
            outputs = as_real(copy(torch.zeros((2, *input_shape))))
            found = torch.autograd.grad(outputs.sum(), list(named.values()), allow_unused=True)
    except Exception:  # noqa: BLE001  the user's model; training will say what is wrong
        return
    for name, gradient in zip(named, found, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)
