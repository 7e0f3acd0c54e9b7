"""What makes a step of a stack fast without changing what it computes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from optrial.rules import compute_once

__all__ = ["can_compile", "compiled_program"]

_numbers = count()


def can_compile() -> bool:
    """Whether PyTorch can compile for the CPU here: it needs a C++ compiler."""
    return shutil.which("c++") is not None


def compiled_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the shapes of one stack.

    The compiler keeps what it made by code object, and gives up on one that it has met in eight
    shapes; so each stack compiles a code object of its own, which is forgotten with it. All but
    tensors are the same objects at every call, so that only tensors are looked at before each.
    """

    def program(*arguments: Any) -> Any:
        return function(*arguments)

    own = FunctionType(
        program.__code__.replace(co_name=f"program_{next(_numbers)}"),
        program.__globals__,
        closure=program.__closure__,
    )
    looked_at = torch.compiler.keep_tensor_guards_unsafe
    # It is wary of the fused kernels of recurrent layers, which a stack has turned into products.
    torch._dynamo.config.allow_rnn = True
    return torch.compile(own, dynamic=False, options={"guard_filter_fn": looked_at})


def _computed_once(coefficient: Tensor) -> Tensor:
    """Return a coefficient of each run, which the compiler stores once a step.

    It would otherwise compute it again for every few elements of the parameter: two powers in
    Adam, half the time of its step. A view by strides, which changes nothing, makes it store the
    coefficient first, without a call that would part the update into several kernels.
    """
    return coefficient.as_strided(coefficient.shape, coefficient.stride())


compute_once[Tensor] = _computed_once
