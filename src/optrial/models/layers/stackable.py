"""Replaces layers of `torch.nn` that cannot be mapped over a stack of runs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from optrial.models.layers.batch_norm import (
    StackableBatchNorm1d,
    StackableBatchNorm2d,
    StackableBatchNorm3d,
)
from optrial.models.layers.torch_recurrent import STACKABLE_RECURRENT

__all__ = ["make_stackable"]

_STACKABLE: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: StackableBatchNorm1d,
    nn.BatchNorm2d: StackableBatchNorm2d,
    nn.BatchNorm3d: StackableBatchNorm3d,
    **STACKABLE_RECURRENT,
}


def make_stackable(model: nn.Module) -> int:
    """Turn batch norm and recurrent layers of `torch.nn` into stackable ones, in place.

    Parameters and buffers keep their names and values. Returns the number of replaced layers.
    """
    layers = [module for module in model.modules() if type(module) in _STACKABLE]
    for layer in layers:
        layer.__class__ = _STACKABLE[type(layer)]
    return len(layers)
