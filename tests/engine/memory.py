"""Which memory operations read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Addresses", "address"]


def address(tensor: torch.Tensor) -> int:
    """Where the memory of a tensor begins."""
    return tensor.untyped_storage().data_ptr()


class Addresses(TorchDispatchMode):
    """Collects the memory that operations read and none of them made.

    Attributes:
        read: the addresses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()
        self._made: dict[int, torch.Tensor] = {}  # kept, so that no address is used twice

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor) and address(tensor) not in self._made:
                self.read.add(address(tensor))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor) and address(tensor) not in self.read:
                self._made[address(tensor)] = tensor
        return outputs
