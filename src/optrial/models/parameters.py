"""Parameters of a model: which are trained, in which types, and complex ones as pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from optrial.errors import USER_CODE_ERRORS, one_line
from optrial.models.arguments import Shape

__all__ = [
    "as_complex",
    "as_real",
    "check_parameters",
    "foreign_types",
    "freeze",
    "freeze_unused",
    "place_model",
    "spare_copy",
    "trained_parameters",
]

_DOUBLE: Mapping[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}
_SAMPLES = 3


def place_model(model: nn.Module, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """Move a model to a device and convert its parameters to a precision, in place.

    In float64, float32 becomes float64 and complex64 becomes complex128. All other types, such as
    float16 or integers, stay as the model chose them; in float32 all types stay.

    Args:
        model: the model, which is changed.
        device: device to move to.
        dtype: float32 or float64, the type of the inputs.
    """
    types = _DOUBLE if dtype == torch.float64 else {}

    def move(value: Tensor) -> Tensor:
        # NumPy, which writes weights to disk, has no lazily conjugated or negated arrays.
        resolved = value.resolve_conj().resolve_neg()
        return resolved.to(device, types.get(resolved.dtype, resolved.dtype))

    placed: nn.Module = model._apply(move)  # type: ignore[no-untyped-call]
    return placed


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name; tied ones under their first name.

    Those without numbers, of shape (0, 5) for example, are left out: there is nothing to train.
    """
    return {
        name: value
        for name, value in model.named_parameters()
        if value.requires_grad and (is_lazy(value) or value.numel())
    }


def check_parameters(model: nn.Module, trained: Mapping[str, nn.Parameter]) -> None:
    """Check that a model has the trained parameters that its optimizer was given.

    Raises:
        ValueError: it replaced one, added one, or turned `requires_grad` of one on or off.
    """
    now = trained_parameters(model)
    for name in {**trained, **now}:
        if now.get(name) is not trained.get(name):
            raise ValueError(
                f"the model replaced its parameter '{name}', added it, or changed its "
                "requires_grad while it trained, and the optimizer still holds the original ones; "
                "build all parameters in the constructor and leave requires_grad as it is"
            )


def foreign_types(model: nn.Module, dtype: torch.dtype) -> list[torch.dtype]:
    """Return the types of trained parameters other than `dtype` and its complex counterpart."""
    types = {value.dtype for value in trained_parameters(model).values()}
    return sorted(types - {dtype, dtype.to_complex()}, key=str)


def as_real(value: Tensor) -> Tensor:
    """View a complex tensor as real and imaginary parts, (..., 2); return a real one unchanged."""
    return torch.view_as_real(value.resolve_conj()) if value.is_complex() else value


def as_complex(values: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """View the named tensors, real and (..., 2), as complex ones; return the others unchanged."""
    return {n: torch.view_as_complex(v) if n in names else v for n, v in values.items()}


def freeze(model: nn.Module, names: Iterable[str]) -> None:
    """Leave the named parameters at their values, in place: they get no gradient."""
    for name in names:
        model.get_parameter(name).requires_grad_(False)


def freeze_unused(model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32) -> None:
    """Freeze parameters that do not affect the outputs, in place.

    `torch.optim` does not change such parameters, because they have no gradient. Where the
    gradients of all parameters are computed at once, theirs would be zeros, and weight decay would
    shrink them. They are identified on a few samples of zeros, with copies of parameters and
    buffers.

    Raises:
        ValueError: the model does not take samples of zeros.
    """
    named = {name: value.detach().clone() for name, value in trained_parameters(model).items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    leaves = {name: value.requires_grad_() for name, value in named.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            spare = spare_copy(model)
            spare.train()
            inputs = torch.zeros((_SAMPLES, *input_shape), dtype=dtype)
            outputs = as_real(torch.func.functional_call(spare, leaves | buffers, (inputs,)))
            gradients = torch.autograd.grad(outputs.sum(), list(leaves.values()), allow_unused=True)
    except USER_CODE_ERRORS as error:
        reason = one_line(error)
        raise ValueError(
            f"it raised {reason} on inputs of zeros, which show which parameters it uses"
        ) from error
    for name, gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            model.get_parameter(name).requires_grad_(False)


def spare_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model to experiment on, or the model itself if it cannot be copied.

    A model with `nn.utils.weight_norm`, which holds a result of other parameters, is an example.
    """
    try:
        return deepcopy(model)
    except RuntimeError:
        return model
