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

__all__ = ["NothingFromHost", "moved"]

ELSEWHERE = torch.device("meta")


class NothingFromHost(TorchDispatchMode):
    """Refuses operations on tensors of the host."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor) and value.device != ELSEWHERE:
                raise AssertionError(f"{func} takes a tensor of the host, {tuple(value.shape)}")
        return func(*args, **(kwargs or {}))


def moved(thing: Any) -> Any:
    """Return a structure, or one of the engine's objects, with all its tensors without data."""
    if isinstance(thing, torch.Tensor):
        return thing.to(ELSEWHERE)
    if isinstance(thing, torch.device):
        return ELSEWHERE
    if isinstance(thing, dict):
        return {key: moved(value) for key, value in thing.items()}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*map(moved, thing))
    if isinstance(thing, list | tuple):
        return type(thing)(map(moved, thing))
    if type(thing).__module__.startswith("optrial.engine"):
        for name, value in vars(thing).items():
            object.__setattr__(thing, name, moved(value))
    return thing
