"""Second derivatives: products of a Hessian with vectors, and estimates of its diagonal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from optrial.keyed import signs
from optrial.models.parameters import as_real

__all__ = ["backward_twice", "drawn_signs", "hessian_products", "twice_differentiable"]


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Choose kernels that can be differentiated twice: attention as products, and on CUDA plain
    recurrent layers.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn.enabled and not recurrent
    with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=cudnn):
        yield


def drawn_signs(
    values: Mapping[str, Tensor], key: int | Tensor, lead: int = 0
) -> dict[str, Tensor]:
    """Return the signs z with which curvature is estimated, by parameter.

    Args:
        values: parameters by name, (*runs, *shape); complex ones as real pairs.
        key: `mask_key` of seed and step, or an int64 tensor of one per seed, (seeds,).
        lead: number of run axes; with keys of several seeds, the first is that of seeds.

    Returns:
        Name -> signs, of the parameter's shape for one run, (seeds, 1, *shape) in a stack.
    """
    drawn = {}
    for name, value in values.items():
        shape = value.shape[lead:]
        positions = torch.arange(shape.numel(), device=value.device).view(shape)
        keys = key.view(-1, 1, *[1] * len(shape)) if isinstance(key, Tensor) else key
        drawn[name] = signs(keys, name, positions).to(value.dtype)
    return drawn


def hessian_products(
    gradients: Sequence[Tensor | None], leaves: Sequence[Tensor], directions: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Return the product of a Hessian with a vector, in parts, one per leaf.

    Args:
        gradients: gradients at the leaves, computed with ``create_graph=True``; None for 0.
        leaves: tensors at which they were taken.
        directions: parts of the vector.
    """
    pairs = [
        (gradient, direction)
        for gradient, direction in zip(gradients, directions, strict=True)
        if gradient is not None and gradient.requires_grad
    ]
    if not pairs:  # of a loss that is linear in them
        return [torch.zeros_like(leaf) for leaf in leaves]
    outputs, vectors = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, list(leaves), vectors, materialize_grads=True)


def backward_twice(
    loss: Tensor, parameters: Mapping[str, nn.Parameter], directions: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Add the gradients of a loss to `grad`, and return estimates of the Hessian's diagonal.

    Args:
        loss: the loss, a scalar.
        parameters: all trained parameters by name.
        directions: signs z for some of them, complex ones as real pairs; the Hessian is that of
            these.

    Returns:
        Name of a parameter with signs -> z·Hz, complex ones as real pairs; without those that do
        not affect the loss.
    """
    gradients = dict(
        zip(
            parameters,
            torch.autograd.grad(
                loss, list(parameters.values()), create_graph=True, allow_unused=True
            ),
            strict=True,
        )
    )
    names = [name for name in directions if gradients[name] is not None]
    leaves = [parameters[name] for name in names]
    vectors = [
        torch.view_as_complex(directions[n]) if parameters[n].is_complex() else directions[n]
        for n in names
    ]
    products = hessian_products([gradients[name] for name in names], leaves, vectors)
    for name, gradient in gradients.items():
        if gradient is not None:
            parameter, value = parameters[name], gradient.detach()
            parameter.grad = value if parameter.grad is None else parameter.grad + value
    return {
        name: directions[name] * as_real(product.detach())
        for name, product in zip(names, products, strict=True)
    }
