"""Matrix products of stacks that PyTorch's default library does not compute fastest.

PyTorch multiplies float32 matrices by MKL, which leaves the widest vectors of some processors
unused; oneDNN, which PyTorch has for convolutions, uses them. In bfloat16, one product of all runs
that share a matrix is faster than one per run. Which is faster depends on processor and shapes, so
steps of a stack are timed both ways. The choice is part of the name of the engine, and so of every
stack in the store: "stacked+onednn", "compiled+onednn".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["has_onednn", "is_large", "products"]

_WORTH_CALLING = 4e6
"""Operations of a float32 product from which oneDNN is faster although a call takes 15 us."""
_LINEAR = "_linear_pointwise"
_ROUNDING = 1e-5  # relative to the largest element
_FEW_OUTPUTS = 16  # such layers are multiplied with samples side by side


@cache
def has_onednn() -> bool:
    """Return whether PyTorch has oneDNN's products here, and they are right."""
    if not (torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, _LINEAR)):
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, 300, generator=generator) for size in (70, 50))
    exact = left.double() @ right.double().mT
    return bool((exact - _onednn(left, right.mT)).abs().max() <= _ROUNDING * exact.abs().max())


def is_large(layer: nn.Linear, rows: int) -> bool:
    """Return whether the products of a layer with the rows of all runs are worth oneDNN."""
    operations = 2 * rows * layer.weight.numel()
    return layer.out_features >= _FEW_OUTPUTS and operations >= _WORTH_CALLING


# Defined without `torch.library.custom_op`, whose first call imports PyTorch's compiler: a second.
_NAME = "optrial::products"
torch.library.define(_NAME, "(Tensor left, Tensor right) -> Tensor")


def products(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices of several runs by oneDNN.

    Runs that share the right matrix are one product.

    Args:
        left: (*runs, rows, inner).
        right: (*runs, inner, columns). An axis of runs has length 1 where runs share a matrix.

    Returns:
        (*runs, rows, columns), contiguous.
    """
    result: Tensor = torch.ops.optrial.products.default(left, right)
    return result


@torch.library.impl(_NAME, "CPU")
def _(left: Tensor, right: Tensor) -> Tensor:
    runs = _runs(left, right)
    apart = len(runs)  # leading axes of runs whose products are computed apart
    while apart and right.shape[apart - 1] == 1:
        apart -= 1
    (rows, inner), columns = left.shape[-2:], right.shape[-1]
    count = math.prod(runs[:apart])
    lefts = left.expand(*runs, -1, -1).reshape(count, -1, inner)
    rights = right.expand(*runs[:apart], *right.shape[apart:]).reshape(count, inner, columns)
    return _multiplied(lefts, rights).view(*runs, rows, columns)


def _runs(left: Tensor, right: Tensor) -> tuple[int, ...]:
    """Return the lengths of the axes of runs."""
    return tuple(map(max, left.shape[:-2], right.shape[:-2]))


def _multiplied(lefts: Tensor, rights: Tensor) -> Tensor:
    """Multiply pairs of matrices, (count, rows, inner) and (count, inner, columns)."""
    operations = 2 * lefts[0].numel() * rights.shape[2]
    default = lefts.dtype != torch.float32 or operations < _WORTH_CALLING
    if len(lefts) == 1:
        return lefts[0] @ rights[0] if default else _onednn(lefts[0], rights[0])
    if default:
        return lefts @ rights
    result = lefts.new_empty(len(lefts), lefts.shape[1], rights.shape[2])
    for left, right, product in zip(lefts, rights, result, strict=True):
        product.copy_(_onednn(left, right))
    return result


def _onednn(left: Tensor, right: Tensor) -> Tensor:
    """Multiply two float32 matrices; PyTorch has this product as that of a linear layer."""
    product: Tensor = getattr(torch.ops.mkldnn, _LINEAR)(left, right.mT, None, "none", [], "")
    return product


def _shaped(left: Tensor, right: Tensor) -> Tensor:
    """Return a tensor like the product, for tracing."""
    return left.new_empty(*_runs(left, right), left.shape[-2], right.shape[-1])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of both factors; weights, the larger one, are never transposed."""
    left, right = ctx.saved_tensors
    of_left = of_right = None
    if ctx.needs_input_grad[0]:
        of_left = products(gradient, right.mT).sum_to_size(left.shape)
    if ctx.needs_input_grad[1]:
        of_right = products(gradient.mT, left).mT.sum_to_size(right.shape)
    return of_left, of_right


def _mapped(
    info: Any, in_dims: Sequence[int | None], left: Tensor, right: Tensor
) -> tuple[Tensor, int]:
    """Move the axis of runs of both factors to the front."""
    del info
    factors = (
        value.unsqueeze(0) if dim is None else value.movedim(dim, 0)
        for value, dim in zip((left, right), in_dims, strict=True)
    )
    return products(*factors), 0


torch.library.register_fake(_NAME, _shaped)
torch.library.register_autograd(_NAME, _gradients, setup_context=_keep)
torch.library.register_vmap(_NAME, _mapped)
