"""Dropout whose masks are a pure function of seed, step and layer: draws of `optrial.keyed`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import nn

from optrial.keyed import draw32, mask_key
from optrial.models.torch_attention import StackableMultiheadAttention
from optrial.models.torch_recurrent import STACKABLE_RECURRENT

__all__ = ["KeyedDropout", "drop_threshold", "keep_mask", "key_dropout", "set_mask_key"]

Array = Any  # a NumPy array or a torch tensor

_MOST_LAYERS = 4096  # of dropout in one model


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


class KeyedDropout(nn.modules.dropout._DropoutNd):
    """Inverted dropout with the mask of `keep_mask`: kept activations are divided by 1 - rate.

    Args:
        rate: with which activations are dropped, in [0, 1]; at 1 all of them are, as in PyTorch.
        layer: number of the dropout layer in its model, from 0.

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
    spatial_dims: ClassVar[int | None] = None
    """Dimensions of a channel, where whole channels are dropped."""

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__(rate)
        self._key(rate, layer)

    @classmethod
    def replace(cls, dropout: nn.Module, layer: int) -> KeyedDropout:
        """Turn a dropout layer of `torch.nn` into one that is also an instance of its class."""
        rate: float = dropout.__dict__.pop("p")
        dropout.__class__ = _KEYED[type(dropout)]
        assert isinstance(dropout, KeyedDropout)
        dropout._key(rate, layer)
        return dropout

    def _key(self, rate: float, layer: int) -> None:
        self.layer = layer
        self.calls = 0
        self.register_buffer("mask_key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("threshold", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64), persistent=False)
        self.p = rate

    @property
    def p(self) -> float:
        """The rate. A model may change it while it is trained."""
        return self._rate

    @p.setter
    def p(self, rate: float) -> None:
        self._rate = rate
        self.active = rate > 0
        if hasattr(self, "scale"):  # else `_DropoutNd.__init__` sets it
            self.threshold.fill_(drop_threshold(rate))
            self.scale.fill_(1 / (1 - rate) if rate < 1 else 0.0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        """Drop activations of shape (batch, ...) in training mode; pass them on otherwise."""
        if not (self.training and self.active):
            return input
        shape = self._drawn_shape(input.shape)
        positions = torch.arange(math.prod(shape), device=input.device).view(shape)
        stream = self.layer + self._call() * _MOST_LAYERS
        keep = keep_mask(self.mask_key, stream, positions, self.threshold)
        if self.inplace:
            return input.mul_(keep).mul_(self.scale)
        kept: torch.Tensor = input * keep * self.scale
        return kept

    def _drawn_shape(self, shape: torch.Size) -> tuple[int, ...]:
        """Return the shape of a mask, in which a channel that is dropped as a whole has one."""
        if self.spatial_dims is None:
            return shape
        # Without a batch as in `torch.nn`, where 2d takes three dimensions for a batch.
        unbatched = len(shape) == 1 + self.spatial_dims != 3
        lead = 1 if unbatched else 2
        return (*shape[:lead], *(1 for _ in shape[lead:]))

    def _call(self) -> int:
        """Count a call in a forward pass; one computed again for its gradient drops the same."""
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            if self.calls > 1:
                raise RuntimeError(
                    "a dropout layer is called several times in code under "
                    "torch.utils.checkpoint, which has to repeat its masks; use one nn.Dropout "
                    "for each place"
                )
            return 0
        self.calls += 1
        return self.calls - 1


class _KeyedDropout(KeyedDropout, nn.Dropout):
    pass


class _KeyedDropout1d(KeyedDropout, nn.Dropout1d):
    spatial_dims = 1


class _KeyedDropout2d(KeyedDropout, nn.Dropout2d):
    spatial_dims = 2


class _KeyedDropout3d(KeyedDropout, nn.Dropout3d):
    spatial_dims = 3


_KEYED: Mapping[type[nn.Module], type[KeyedDropout]] = {
    nn.Dropout: _KeyedDropout,
    nn.Dropout1d: _KeyedDropout1d,
    nn.Dropout2d: _KeyedDropout2d,
    nn.Dropout3d: _KeyedDropout3d,
}


def key_dropout(model: nn.Module) -> list[KeyedDropout]:
    """Let every dropout layer of a model draw keyed masks; return the layers.

    These are `nn.Dropout`, `nn.Dropout1d`, `2d` and `3d`, then the dropout of attention weights and
    that between recurrent layers.
    """
    layers: list[KeyedDropout] = []

    def keyed(rate: float) -> KeyedDropout:
        layers.append(KeyedDropout(rate, len(layers)))
        return layers[-1]

    modules = list(model.modules())
    for child in chain.from_iterable(module.children() for module in modules):
        if type(child) in _KEYED:  # no longer so where it was met before, in another place
            layers.append(KeyedDropout.replace(child, len(layers)))
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
