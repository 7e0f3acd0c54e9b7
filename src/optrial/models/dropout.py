"""Dropout whose masks are a pure function of seed, step and layer: draws of `optrial.keyed`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from optrial.keyed import draw32, mask_key
from optrial.models.torch_attention import StackableMultiheadAttention
from optrial.models.torch_recurrent import STACKABLE_RECURRENT

__all__ = ["KeyedDropout", "drop_threshold", "keep_mask", "key_dropout", "set_mask_key"]

Array = Any  # a NumPy array or a torch tensor

_MOST_LAYERS = 4096  # of dropout in one model
_CHANNELWISE: Mapping[type[nn.Module], bool] = {
    nn.Dropout: False,
    nn.Dropout1d: True,
    nn.Dropout2d: True,
    nn.Dropout3d: True,
}


def drop_threshold(rate: float) -> int:
    """Return the 32-bit draw below which an activation is dropped at a rate in [0, 1]."""
    return round(rate * 2**32)


def keep_mask(key: Array, layer: int, positions: Array, threshold: Array) -> Array:
    """Say which activations are kept.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array that broadcasts.
        layer: number of the dropout layer in its model, from 0; in a further call of the layer
            within one forward pass, a number that no other has.
        positions: int64, the flat index of each activation in its batch.
        threshold: `drop_threshold` of the rate, an integer or an int64 array that broadcasts. Equal
            keys with different rates share their uniform draws: what the lower rate drops, the
            higher one drops too.
    """
    return draw32(key, layer, positions) >= threshold


class KeyedDropout(nn.Module):
    """Inverted dropout with the mask of `keep_mask`: kept activations are divided by 1 - rate.

    Args:
        rate: with which activations are dropped, in [0, 1]; at 1 all of them are, as in PyTorch.
        layer: number of the dropout layer in its model, from 0.
        channelwise: drop whole channels, (batch, channels, ...), as `nn.Dropout2d` does.
        inplace: write the result into the activations, as `nn.Dropout(inplace=True)` does.

    Attributes:
        mask_key: int64, `mask_key` of the step to come.
        threshold: int64, `drop_threshold` of the rate.
        scale: what kept activations are multiplied by.
        calls: how often the layer was called in the forward pass under way; each draws anew.
        active: False where the rate is 0, so that nothing need be computed.
    """

    mask_key: torch.Tensor
    threshold: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, rate: float, layer: int, *, channelwise: bool = False, inplace: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self.channelwise = channelwise
        self.inplace = inplace
        self.calls = 0
        self.active = rate > 0
        threshold = torch.tensor(drop_threshold(rate))
        scale = torch.tensor(1 / (1 - rate) if rate < 1 else 0.0, dtype=torch.float64)
        self.register_buffer("mask_key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("threshold", threshold, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Drop activations of shape (batch, ...) in training mode; pass them on otherwise."""
        if not (self.training and self.active):
            return activations
        shape = activations.shape
        if self.channelwise:
            shape = shape[:2] + (1,) * (activations.ndim - 2)
        positions = torch.arange(math.prod(shape), device=activations.device).view(shape)
        stream = self.layer + self.calls * _MOST_LAYERS
        self.calls += 1
        keep = keep_mask(self.mask_key, stream, positions, self.threshold)
        if self.inplace:
            return activations.mul_(keep).mul_(self.scale)
        kept: torch.Tensor = activations * keep * self.scale
        return kept


def key_dropout(model: nn.Module) -> list[KeyedDropout]:
    """Replace every dropout layer of a model with one that draws keyed masks; return the layers.

    These are `nn.Dropout`, `nn.Dropout1d`, `2d` and `3d`, then the dropout of attention weights and
    that between recurrent layers.
    """
    layers: list[KeyedDropout] = []

    def keyed(rate: float, *, channelwise: bool = False, inplace: bool = False) -> KeyedDropout:
        layers.append(KeyedDropout(rate, len(layers), channelwise=channelwise, inplace=inplace))
        return layers[-1]

    modules = list(model.modules())
    places: list[tuple[nn.Module, str, Any]] = [
        (parent, *child) for parent in modules for child in parent.named_children()
    ]
    for parent, name, child in places:
        if type(child) in _CHANNELWISE:
            channelwise = _CHANNELWISE[type(child)]
            setattr(parent, name, keyed(child.p, channelwise=channelwise, inplace=child.inplace))
    for module in modules:
        if type(module) is nn.MultiheadAttention and module.dropout:
            module.__class__ = StackableMultiheadAttention
            module.weight_dropout = keyed(module.dropout)
        elif isinstance(module, nn.RNNBase) and type(module) in STACKABLE_RECURRENT:
            rates = [module.dropout] * (module.num_layers - 1)
            if any(rates):
                module.__class__ = STACKABLE_RECURRENT[type(module)]
                module.between = nn.ModuleList(map(keyed, rates))
    if layers:
        model.register_forward_pre_hook(lambda *_: _start_over(layers))
    return layers


def _start_over(layers: Iterable[KeyedDropout]) -> None:
    for layer in layers:
        layer.calls = 0


def set_mask_key(layers: Iterable[KeyedDropout], seed: int, step: int) -> None:
    """Tell the dropout layers of one model which training step comes next."""
    key = mask_key(seed, step)
    for layer in layers:
        layer.mask_key.fill_(key)
