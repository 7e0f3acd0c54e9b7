"""Which parameters of a model are trained: those that ask for a gradient, and get one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from optrial.errors import USER_CODE_ERRORS, one_line
from optrial.models.precision import as_real

__all__ = ["freeze_unused", "spare_copy", "trained_parameters"]

_SAMPLES = 3


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return by name the parameters that ask for a gradient; of those that are tied, the first."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def freeze_unused(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Freeze parameters that do not affect the outputs.

    `torch.optim` leaves them as they are, because they have no gradient. Where the gradients of all
    parameters are computed at once, theirs would be zeros, and weight decay would shrink them. They
    are identified with a few samples of zeros, on copies of parameters and buffers.

    Raises:
        ValueError: the model does not take such samples, so that nothing is known.
    """
    named = {name: value.detach().clone() for name, value in trained_parameters(model).items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    leaves = {name: value.requires_grad_() for name, value in named.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            spare = spare_copy(model)
            spare.train()
            inputs = torch.zeros((_SAMPLES, *input_shape))
            outputs = as_real(torch.func.functional_call(spare, leaves | buffers, (inputs,)))
            found = torch.autograd.grad(outputs.sum(), list(leaves.values()), allow_unused=True)
    except USER_CODE_ERRORS as error:
        reason = one_line(error)
        raise ValueError(f"on zeros, which show what it uses, it raised {reason}") from error
    for name, gradient in zip(leaves, found, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)


def spare_copy(model: nn.Module) -> nn.Module:
    """Copy a model to try something on it; one that cannot be copied is returned itself.

    Such is one with `nn.utils.weight_norm`, which holds a result of other parameters.
    """
    try:
        return deepcopy(model)
    except RuntimeError:
        return model
