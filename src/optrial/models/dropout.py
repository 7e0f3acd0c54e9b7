"""Dropout whose masks are a pure function of seed, step and layer: draws of `optrial.keyed`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from optrial.keyed import draw32, mask_key

__all__ = ["KeyedDropout", "drop_threshold", "keep_mask", "key_dropout", "set_mask_key"]

Array = Any  # a NumPy array or a torch tensor


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
    return draw32(key, layer, positions) >= threshold


class KeyedDropout(nn.Module):
    """Inverted dropout with the mask of `keep_mask`: kept activations are divided by 1 - rate.

    Attributes:
        mask_key: int64, `mask_key` of the step to come.
        threshold: int64, `drop_threshold` of the rate.
        scale: what kept activations are multiplied by.
        active: False where the rate is 0, so that nothing need be computed.
    """

    mask_key: torch.Tensor
    threshold: torch.Tensor
    scale: torch.Tensor

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.active = rate > 0
        threshold = torch.tensor(drop_threshold(rate))
        scale = torch.tensor(1 / (1 - rate), dtype=torch.float64)
        self.register_buffer("mask_key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("threshold", threshold, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """Drop activations of shape (batch, ...) in training mode; pass them on otherwise."""
        if not (self.training and self.active):
            return activations
        shape = activations.shape
        positions = torch.arange(math.prod(shape), device=activations.device).view(shape)
        keep = keep_mask(self.mask_key, self.layer, positions, self.threshold)
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
        layer.mask_key.fill_(key)
