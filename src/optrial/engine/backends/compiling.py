"""Compilation of a stack's step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from optrial.rules import compute_once

__all__ = ["can_compile", "compiled_program", "traced_program"]

_numbers = count()


def can_compile() -> bool:
    """Return whether PyTorch can compile for the CPU here: it needs a C++ compiler."""
    return shutil.which("c++") is not None


def compiled_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for the shapes of one stack.

    The compiler caches by code object, and gives up on one after eight shapes. So each stack
    compiles its own code object, which is released with it. Arguments other than tensors are the
    same objects at every call, so only tensors are checked before a call.
    """

    def program(*arguments: Any) -> Any:
        return function(*arguments)

    private = FunctionType(
        program.__code__.replace(co_name=f"program_{next(_numbers)}"),
        program.__globals__,
        closure=program.__closure__,
    )
    # Off by default because of fused recurrent kernels, which a stack replaces by products.
    torch._dynamo.config.allow_rnn = True
    guards = torch.compiler.keep_tensor_guards_unsafe
    return torch.compile(private, dynamic=False, options={"guard_filter_fn": guards})


def traced_program(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that calls autograd, which the compiler itself cannot follow.

    Its operations are recorded at the first call, those of the backward pass included.
    """
    programs: list[Callable[..., Any]] = []

    def unbound(*arguments: Any) -> Any:
        return function(*arguments)

    def program(*arguments: Any) -> Any:
        if not programs:
            recorded = make_fx(unbound, tracing_mode="fake")(*arguments)
            programs.append(compiled_program(recorded))
        return programs[0](*arguments)

    return program


def _computed_once(coefficient: Tensor) -> Tensor:
    """Return a coefficient of each run such that the compiler computes it once per step.

    Otherwise it is recomputed for every few elements of the parameter: two powers in Adam, half the
    time of its step. A strided view, which changes nothing, makes the compiler store the
    coefficient first, without splitting the update into several kernels.
    """
    return coefficient.as_strided(coefficient.shape, coefficient.stride())


compute_once[Tensor] = _computed_once
