"""A GPU where there is none: tensors that have a device and a shape, and no data.

An operation that mixes devices fails on them, and so does one that needs to know a value, for
which the host would have to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ELSEWHERE", "Transfers"]

ELSEWHERE = torch.device("meta")

WRAPPING = (torch.ops.aten.lift_fresh.default, torch.ops.aten.detach.default)
"""Operations that make a tensor of an array, without computing."""


class Transfers(TorchDispatchMode):
    """Counts copies between the host and the device without data; those to the host are zeros.

    Args:
        strict: refuse all other operations on tensors of the host until something is fetched.
            Otherwise values that are asked for are 1.

    Attributes:
        sent: number of tensors copied to the device.
        fetched: number of tensors copied to the host.
    """

    def __init__(self, *, strict: bool) -> None:
        super().__init__()
        self.strict, self.sent, self.fetched = strict, 0, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        tensors = [x for x in tree_leaves((args, options)) if isinstance(x, torch.Tensor)]
        on_host = [tensor for tensor in tensors if tensor.device != ELSEWHERE]
        if func is torch.ops.aten._to_copy.default and options.get("device") is not None:
            target = torch.device(options["device"])
            if target != ELSEWHERE and not on_host:
                self.fetched += 1
                return torch.zeros(tensors[0].shape, dtype=options.get("dtype") or tensors[0].dtype)
            self.sent += target == ELSEWHERE and bool(on_host)
        elif func is torch.ops.aten._local_scalar_dense.default and not self.strict:
            return 1
        elif self.strict and not self.fetched and on_host and func not in WRAPPING:
            raise AssertionError(f"{func} takes a tensor of the host, {tuple(on_host[0].shape)}")
        return func(*args, **options)
