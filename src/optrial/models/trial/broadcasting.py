"""Finds losses and metrics that compare every sample with every other because shapes broadcast."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["BroadcastError", "refuse_broadcasting"]

_SIZES = re.compile(r"torch\.Size\((\[[^\]]*\])\)")
_WARNING = "Using a target size"


class BroadcastError(Exception):
    """Two tensors were combined whose shapes broadcast over the batch."""


@contextmanager
def refuse_broadcasting(outputs: Tensor, targets: Tensor) -> Iterator[None]:
    """Refuse to combine outputs and targets of different shapes by broadcasting.

    Two cases are refused: PyTorch's losses warn about the shapes, or an elementwise operation pairs
    a tensor (batch,) with one (batch, 1), which gives (batch, batch), every sample with every
    other. Tensors with the same number of dimensions, (batch, 1) and (1, batch), are accepted; so
    are a tensor combined with itself, and targets with targets.

    Args:
        outputs: outputs of the model, (batch, ...).
        targets: targets, (batch, ...).

    Raises:
        BroadcastError: the message holds both shapes.
    """
    watch = _Watch(outputs, targets)
    with warnings.catch_warnings(), watch, _WatchNumPy(watch):
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


class _Operand(NamedTuple):
    """The properties of a tensor or array that decide whether it may be combined with another.

    Attributes:
        shape: its shape.
        address: address of its memory.
        sources: "outputs", "targets" or both, which it derives from.
    """

    shape: tuple[int, ...]
    address: int
    sources: frozenset[str]


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks which tensors derive from outputs and targets, by the address of their memory."""

    def __init__(self, outputs: Tensor, targets: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = len(targets)
        self.one_output = outputs.ndim == 0
        self._sources: dict[int, frozenset[str]] = {}
        self._kept: list[Tensor] = []  # so that no address is reused
        self._note(outputs, frozenset({"outputs"}))
        self._note(targets, frozenset({"targets"}))

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func is torch.ops.aten.expand.default:
            self.check_expanded(self.operand(args[0]), args[1])
        if torch.Tag.pointwise in func.tags or func is torch.ops.aten.dist.default:
            for one, other in itertools.combinations(map(self.operand, tensors), 2):
                self.check(one, other)
        result = func(*args, **(kwargs or {}))
        sources = frozenset[str]().union(*map(self._sources_of, tensors))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and sources:
                self._note(made, sources | self._sources_of(made))
        return result

    def operand(self, value: Tensor) -> _Operand:
        """Return a tensor as an operand."""
        return _Operand(tuple(value.shape), value.data_ptr(), self._sources_of(value))

    def _note(self, value: Tensor, sources: frozenset[str]) -> None:
        self._kept.append(value)
        self._sources[_address(value)] = sources

    def _sources_of(self, value: Tensor) -> frozenset[str]:
        return self._sources.get(_address(value), frozenset())

    def check(self, one: _Operand, other: _Operand) -> None:
        """Refuse two operands of an elementwise operation that compare different samples."""
        low, high = sorted((one, other), key=lambda value: len(value.shape))
        sources = low.sources, high.sources
        if not all(sources) or sources == (_TARGETS, _TARGETS):
            return
        shapes = f"tensors of shapes {one.shape} and {other.shape}"
        if self._crosses(low, high):
            made = np.broadcast_shapes(one.shape, other.shape)
            raise BroadcastError(
                f"combines {shapes}, which broadcast to {made}, every sample with every other; "
                "bring both to one shape, or, if pairs of samples are meant, give both all "
                "dimensions: a[:, None] and b[None, :]"
            )
        if self.one_output and not low.shape and high.shape and sources[0] != sources[1]:
            raise BroadcastError(
                f"combines {shapes}, one number with every sample; let the model return one output "
                "per sample, or use loss: mean_output if it computes its own loss"
            )

    def check_expanded(self, value: _Operand, shape: Sequence[int]) -> None:
        """Refuse to expand (batch,) to (batch, batch), as `torch.broadcast_tensors` does."""
        if value.sources and value.shape == (self.batch,) and tuple(shape) == (self.batch,) * 2:
            raise BroadcastError(
                f"broadcasts a tensor of shape {value.shape} to {tuple(shape)}, every sample with "
                "every other; bring outputs and targets to one shape"
            )

    def _crosses(self, low: _Operand, high: _Operand) -> bool:
        """Return whether the batch of one operand lies along an axis of length 1 of the other."""
        missing = len(high.shape) - len(low.shape)
        if not (missing and low.shape and low.shape[0] == high.shape[0] == self.batch > 1):
            return False
        same = low.address == high.address and math.prod(low.shape) == math.prod(high.shape)
        return high.shape[missing] == 1 and not same


_TARGETS = frozenset({"targets"})


def _address(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()


class _WatchNumPy(TorchFunctionMode):
    """Continues the watch when a tensor becomes a NumPy array."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if func is not Tensor.numpy:
            return result
        return _Array.of(result, self.watch, self.watch.operand(args[0]).sources)


class _Array(np.ndarray[Any, Any]):
    """An array that keeps track of whether it derives from outputs or targets."""

    watch: _Watch
    sources: frozenset[str]

    @classmethod
    def of(cls, values: NDArray[Any], watch: _Watch, sources: frozenset[str]) -> _Array:
        """Return a watched view of an array."""
        array = values.view(cls)
        array.watch, array.sources = watch, sources
        return array

    def __array_finalize__(self, source: object) -> None:
        if isinstance(source, _Array) and hasattr(source, "watch"):
            self.watch, self.sources = source.watch, source.sources

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        watched = [value for value in inputs if isinstance(value, _Array)]
        operands = [_Operand(value.shape, value.ctypes.data, value.sources) for value in watched]
        if method == "__call__":
            for one, other in itertools.combinations(operands, 2):
                self.watch.check(one, other)
        kwargs |= {"out": tuple(map(_plain, kwargs["out"]))} if "out" in kwargs else {}
        result = getattr(ufunc, method)(*map(_plain, inputs), **kwargs)
        sources = frozenset[str]().union(*(operand.sources for operand in operands))
        plain = isinstance(result, np.ndarray)
        return _Array.of(result, self.watch, sources) if plain else result


def _plain(value: object) -> object:
    return value.view(np.ndarray) if isinstance(value, _Array) else value
