"""Compilation of a stack's step."""

from __future__ import annotations

import shutil
import warnings
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
    return _quietly(torch.compile(private, dynamic=False, options={"guard_filter_fn": guards}))


def _quietly(program: Callable[..., Any]) -> Callable[..., Any]:
    """Hide the compiler's advice, which it gives in the first call, because users cannot act on it.

    Some kernels are not compiled, and some could be faster with TF32 or by another algorithm.
    """
    is_compiled = False

    def quiet(*arguments: Any) -> Any:
        nonlocal is_compiled
        if is_compiled:
            return program(*arguments)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\._inductor\.")
            result = program(*arguments)
        is_compiled = True
        return result

    return quiet


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
