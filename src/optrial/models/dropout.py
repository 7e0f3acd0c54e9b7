"""Dropout whose masks are a pure function of seed, step and layer.

A mask must be the same in every engine, on every device, and whether a run is trained alone or
resumed half-way; a generator with a hidden state cannot promise that. So each mask is computed, by
integer hashing, from what names it. The same source runs on NumPy arrays and torch tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["KeyedDropout", "drop_threshold", "keep_mask", "key_dropout", "mask_key", "set_mask_key"]

Array = Any  # a NumPy array or a torch tensor

_LOW_32_BITS = 0xFFFFFFFF
_ODD = 0x9E3779B9  # 2^32 over the golden ratio: keeps neighbouring names apart, and 0 from 0


def hash32(values: Array) -> Array:
    """Mix 32-bit integers held in int64: Wellons' `lowbias32`, nullprogram.com, 2018.

    The products may wrap around 64 bits; their low 32 bits, which are all that is kept, do not
    depend on it.
    """
    values = (values ^ (values >> 16)) * 0x7FEB352D & _LOW_32_BITS
    values = (values ^ (values >> 15)) * 0x846CA68B & _LOW_32_BITS
    return values ^ (values >> 16)


def mask_key(seed: int, step: int) -> int:
    """Return the 32-bit key of all masks of one training step of one run."""
    return int(hash32(hash32(seed + _ODD & _LOW_32_BITS) + step & _LOW_32_BITS))


def drop_threshold(rate: float) -> int:
    """Return the 32-bit draw below which an activation is dropped at a rate in [0, 1)."""
    return round(rate * 2**32)


def keep_mask(key: Array, layer: int, positions: Array, threshold: Array) -> Array:
    """Say which activations are kept.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array that broadcasts.
        layer: number of the dropout layer in its model, from 0.
        positions: int64, the flat index of each activation in its batch.
        threshold: `drop_threshold` of the rate, an integer or an int64 array that broadcasts. Equal
            keys with different rates share their uniform draws: what the lower rate drops, the
            higher one drops too.
    """
    layer_key = hash32(key + layer * _ODD & _LOW_32_BITS)
    draws = hash32(hash32(positions ^ layer_key) + key & _LOW_32_BITS)
    return draws >= threshold


class KeyedDropout(nn.Module):
    """Inverted dropout with the mask of `keep_mask`: kept activations are divided by 1 - rate.

    Attributes:
        key: int64, `mask_key` of the step to come.
        threshold: int64, `drop_threshold` of the rate.
        scale: what kept activations are multiplied by.
        active: False where the rate is 0, so that nothing need be computed.
    """

    key: torch.Tensor
    threshold: torch.Tensor
    scale: torch.Tensor

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.active = rate > 0
        threshold = torch.tensor(drop_threshold(rate))
        scale = torch.tensor(1 / (1 - rate), dtype=torch.float64)
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("threshold", threshold, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Drop activations of shape (batch, ...) in training mode; pass them on otherwise."""
        if not (self.training and self.active):
            return activations
        shape = activations.shape
        positions = torch.arange(math.prod(shape), device=activations.device).view(shape)
        keep = keep_mask(self.key, self.layer, positions, self.threshold)
        kept: torch.Tensor = activations * keep * self.scale
        return kept


def key_dropout(model: nn.Module) -> list[KeyedDropout]:
    """Replace every `nn.Dropout` in `model` by a `KeyedDropout`; return these, in order."""
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout
    ]
    layers = []
    for number, (parent, name) in enumerate(places):
        layers.append(KeyedDropout(getattr(parent, name).p, number))
        setattr(parent, name, layers[-1])
    return layers


def set_mask_key(layers: Iterable[KeyedDropout], seed: int, step: int) -> None:
    """Tell the dropout layers of one model which training step comes next."""
    key = mask_key(seed, step)
    for layer in layers:
        layer.key.fill_(key)
