"""Dropout with masks that are a pure function of seed, step and layer, drawn by `optrial.keyed`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optrial.keyed import draw32, mask_key
from optrial.models.layers.attention import StackableMultiheadAttention
from optrial.models.layers.torch_recurrent import STACKABLE_RECURRENT

__all__ = ["KeyedDropout", "drop_threshold", "keep_mask", "key_dropout", "set_mask_key"]

Array = TypeVar("Array", NDArray[Any], Tensor)

_MOST_LAYERS = 4096  # dropout layers per model


def drop_threshold(rate: float) -> int:
    """Return the 32-bit draw below which an activation is dropped, for a rate in [0, 1]."""
    return round(rate * 2**32)


def keep_mask(key: int | Array, layer: int, positions: Array, threshold: int | Array) -> Array:
    """Return a boolean mask, true where an activation is kept.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array that broadcasts.
        layer: number of the dropout layer in its model, from 0. Every further call of the layer
            within one forward pass has a further number.
        positions: int64, flat index of each activation in its batch.
        threshold: `drop_threshold` of the rate, an integer or an int64 array that broadcasts.
            Different rates with the same key share their uniform draws: an activation dropped at
            the lower rate is dropped at the higher rate too.
    """
    draws: Array = draw32(key, layer, positions)
    return draws >= threshold


class KeyedDropout(nn.modules.dropout._DropoutNd):
    """Inverted dropout with the mask of `keep_mask`: kept activations are divided by 1 - rate.

    Built from a dropout layer of `torch.nn` by `replace`.

    Attributes:
        layer: number of the dropout layer in its model, from 0.
        calls: number of calls in the current forward pass; each call draws its own mask.
        active: False at rate 0, where the layer is the identity.
        mask_key: `mask_key` of the next step, int64, ().
        threshold: `drop_threshold` of the rate, int64, ().
        scale: factor of kept activations, 1 / (1 - rate), or 0 at rate 1, float64, ().
    """

    layer: int
    calls: int
    active: bool
    _rate: float
    mask_key: Tensor
    threshold: Tensor
    scale: Tensor
    spatial_dims: ClassVar[int | None] = None
    """Dimensions of a channel, where whole channels are dropped; None for single activations."""

    @classmethod
    def replace(cls, dropout: nn.Module, layer: int) -> KeyedDropout:
        """Turn a dropout layer of `torch.nn` into a keyed one, in place.

        The layer stays an instance of its class, for code that checks this.
        """
        rate: float = dropout.__dict__.pop("p")
        dropout.__class__ = _KEYED[type(dropout)]
        assert isinstance(dropout, KeyedDropout)
        dropout.layer, dropout.calls = layer, 0
        for name, dtype in _BUFFERS.items():
            dropout.register_buffer(name, torch.zeros((), dtype=dtype), persistent=False)
        dropout.p = rate
        return dropout

    @property
    def p(self) -> float:
        """The rate, in [0, 1]. A model may change it during training."""
        return self._rate

    @p.setter
    def p(self, rate: float) -> None:
        self._rate = rate
        self.active = rate > 0
        self.threshold.fill_(drop_threshold(rate))
        self.scale.fill_(1 / (1 - rate) if rate < 1 else 0.0)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Drop activations of shape (batch, ...) in training mode; return them unchanged otherwise.

        Raises:
            RuntimeError: a layer called several times is under `torch.utils.checkpoint`.
        """
        if not (self.training and self.active):
            return input
        shape = self._mask_shape(input.shape)
        positions = torch.arange(math.prod(shape), device=input.device).view(shape)
        stream = self.layer + self._call() * _MOST_LAYERS
        keep = keep_mask(self.mask_key, stream, positions, self.threshold)
        if self.inplace:
            return input.mul_(keep).mul_(self.scale)
        kept: Tensor = input * keep * self.scale
        return kept

    def _mask_shape(self, shape: torch.Size) -> tuple[int, ...]:
        """Return the shape of a mask; a channel that is dropped as a whole has one element."""
        if self.spatial_dims is None:
            return shape
        # As in `torch.nn`, where Dropout2d takes three dimensions as a batch, not as one sample.
        unbatched = len(shape) == 1 + self.spatial_dims != 3
        lead = 1 if unbatched else 2
        return (*shape[:lead], *(1 for _ in shape[lead:]))

    def _call(self) -> int:
        """Return the number of this call in the forward pass, from 0.

        A call repeated in the backward pass, by `torch.utils.checkpoint`, draws the same mask.
        """
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


_BUFFERS: Mapping[str, torch.dtype] = {
    "mask_key": torch.int64,
    "threshold": torch.int64,
    "scale": torch.float64,
}


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
    """Replace every dropout layer of a model with one that draws keyed masks, in place.

    Returns:
        The layers, in the order of their numbers: those that replace `nn.Dropout`, `nn.Dropout1d`,
        `2d` and `3d`, then those of attention weights and between recurrent layers.
    """
    layers: list[KeyedDropout] = []

    def keyed(dropout: nn.Module) -> KeyedDropout:
        layers.append(KeyedDropout.replace(dropout, len(layers)))
        return layers[-1]

    modules = list(model.modules())
    for child in chain.from_iterable(module.children() for module in modules):
        if type(child) in _KEYED:  # a layer in a second place has been replaced already
            keyed(child)
    for module in modules:
        if type(module) is nn.MultiheadAttention and module.dropout:
            module.__class__ = StackableMultiheadAttention
            module.weight_dropout = keyed(nn.Dropout(module.dropout))
        elif isinstance(module, nn.RNNBase) and type(module) in STACKABLE_RECURRENT:
            between = [nn.Dropout(module.dropout) for _ in range(module.num_layers - 1)]
            if between and module.dropout:
                module.__class__ = STACKABLE_RECURRENT[type(module)]
                module.between = nn.ModuleList(map(keyed, between))
    if layers:
        model.register_forward_pre_hook(lambda *_: _start_pass(layers))
    return layers


def _start_pass(layers: Iterable[KeyedDropout]) -> None:
    for layer in layers:
        layer.calls = 0


def set_mask_key(layers: Iterable[KeyedDropout], seed: int, step: int) -> None:
    """Give the dropout layers of one model the mask key of the next training step."""
    key = mask_key(seed, step)
    for layer in layers:
        layer.mask_key.fill_(key)
