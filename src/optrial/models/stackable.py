"""Layers of `torch.nn` that cannot be mapped over a stack of runs, and what can in their place."""

from __future__ import annotations

from torch import nn

from optrial.models.batch_norm import (
    StackableBatchNorm1d,
    StackableBatchNorm2d,
    StackableBatchNorm3d,
)
from optrial.models.torch_recurrent import STACKABLE_RECURRENT

__all__ = ["make_stackable"]

_STACKABLE: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: StackableBatchNorm1d,
    nn.BatchNorm2d: StackableBatchNorm2d,
    nn.BatchNorm3d: StackableBatchNorm3d,
    **STACKABLE_RECURRENT,
}


def make_stackable(model: nn.Module) -> int:
    """Turn every layer of `torch.nn` in `model` that has a stackable twin into that.

    Parameters, buffers and their names stay. Returns how many there are.
    """
    layers = [module for module in model.modules() if type(module) in _STACKABLE]
    for layer in layers:
        layer.__class__ = _STACKABLE[type(layer)]
    return len(layers)
