"""The types of a model's numbers: which of them a study's precision changes, and complex ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["as_complex", "as_real", "foreign_types", "place_model"]

_DOUBLE: Mapping[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


def place_model(model: nn.Module, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """Move a model to a device, its ordinary numbers in a precision.

    In float64, float32 becomes float64 and complex64 becomes complex128. A model keeps every type
    that it chose for itself, such as float16 or integers, and in float32 it keeps all of them.

    Args:
        model: is changed in place.
        device: where to.
        dtype: float32 or float64, that of the inputs.
    """
    types = _DOUBLE if dtype == torch.float64 else {}

    def move(value: Tensor) -> Tensor:
        # NumPy, which writes weights to disk, has no lazily conjugated or negated arrays.
        own = value.resolve_conj().resolve_neg()
        return own.to(device, types.get(own.dtype, own.dtype))

    placed: nn.Module = model._apply(move)  # type: ignore[no-untyped-call]
    return placed


def foreign_types(model: nn.Module, dtype: torch.dtype) -> list[torch.dtype]:
    """Return the types of trained parameters that are neither `dtype` nor its complex twin."""
    types = {p.dtype for p in model.parameters() if p.requires_grad}
    return sorted(types - {dtype, dtype.to_complex()}, key=str)


def as_real(value: Tensor) -> Tensor:
    """View a complex tensor as pairs of real and imaginary part, (..., 2); return a real one."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def as_complex(values: Mapping[str, Tensor], names: frozenset[str]) -> dict[str, Tensor]:
    """View the named tensors, real and (..., 2), as complex ones."""
    return {n: torch.view_as_complex(v) if n in names else v for n, v in values.items()}
