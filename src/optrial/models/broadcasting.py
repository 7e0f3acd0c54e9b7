"""Losses and metrics that compare every sample with every other because shapes broadcast."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["BroadcastError", "refuse_broadcasting"]

_SIZES = re.compile(r"torch\.Size\((\[[^\]]*\])\)")
_WARNING = "Using a target size"


class BroadcastError(Exception):
    """Tensors of two shapes were combined that broadcast over the batch."""


@contextmanager
def refuse_broadcasting(outputs: Tensor, targets: Tensor) -> Iterator[None]:
    """Raise where outputs and targets of different shapes are combined by broadcasting.

    That is where PyTorch's own losses warn of it, and where elementwise operations pair a tensor
    (batch,) with one (batch, 1), which gives (batch, batch): every sample with every other. Two
    tensors of the same number of dimensions, (batch, 1) and (1, batch), are taken as they are; so
    is a tensor that is combined with itself, and targets with targets.

    Raises:
        BroadcastError: with both shapes.
    """
    with warnings.catch_warnings(), _Watch(outputs, targets):
        warnings.filterwarnings("error", _WARNING, UserWarning)
        try:
            yield
        except UserWarning as warning:
            if _WARNING not in str(warning):
                raise
            shapes = [tuple(map(int, re.findall(r"\d+", s))) for s in _SIZES.findall(str(warning))]
            raise BroadcastError(
                f"compares outputs of shape {shapes[1]} with targets of shape {shapes[0]}; bring "
                "both to one shape"
            ) from None


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows which tensors derive from outputs and targets, by the memory that holds them."""

    def __init__(self, outputs: Tensor, targets: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = len(targets)
        self.one_output = outputs.ndim == 0
        self._sources: dict[int, frozenset[str]] = {}
        self._kept: list[Tensor] = []  # so that no address is used again
        self._note(outputs, frozenset({"outputs"}))
        self._note(targets, frozenset({"targets"}))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if torch.Tag.pointwise in func.tags:
            for one, other in itertools.combinations(tensors, 2):
                self._check(one, other)
        result = func(*args, **(kwargs or {}))
        sources = frozenset[str]().union(*map(self._sources_of, tensors))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and sources:
                self._note(made, sources | self._sources_of(made))
        return result

    def _note(self, value: Tensor, sources: frozenset[str]) -> None:
        self._kept.append(value)
        self._sources[_address(value)] = sources

    def _sources_of(self, value: Tensor) -> frozenset[str]:
        return self._sources.get(_address(value), frozenset())

    def _check(self, one: Tensor, other: Tensor) -> None:
        low, high = sorted((one, other), key=lambda value: value.ndim)
        sources = self._sources_of(low), self._sources_of(high)
        if not all(sources) or sources == (_TARGETS, _TARGETS):
            return
        shapes = f"tensors of shapes {tuple(one.shape)} and {tuple(other.shape)}"
        if self._crosses(low, high):
            made = np.broadcast_shapes(one.shape, other.shape)
            raise BroadcastError(
                f"combines {shapes}, which broadcast to {made}, every sample with every other; "
                "bring both to one shape, or, if pairs of samples are meant, give both all "
                "dimensions: a[:, None] and b[None, :]"
            )
        if self.one_output and low.ndim == 0 < high.ndim and sources[0] != sources[1]:
            raise BroadcastError(
                f"combines {shapes}, one number with every sample; let the model return one output "
                "per sample, or use loss: mean_output if it computes its own loss"
            )

    def _crosses(self, low: Tensor, high: Tensor) -> bool:
        """Say whether the batch of one lies along an axis of length 1 of the other."""
        if low.ndim in (0, high.ndim) or not low.shape[0] == high.shape[0] == self.batch > 1:
            return False
        same = low.data_ptr() == high.data_ptr() and low.numel() == high.numel()
        return high.shape[high.ndim - low.ndim] == 1 and not same


_TARGETS = frozenset({"targets"})


def _address(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
