"""Transformations of optax, as certificates take optimizers; imported only where JAX is needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch import Tensor

from optrial.certifying.signature import RATE, as_of_pytorch, renamed

__all__ = ["OptaxOptimizer", "adapted", "is_factory"]

Factory = Callable[..., optax.GradientTransformation]
_LONG = 20
"""Steps after which compiling takes less time than it saves."""


class OptaxOptimizer:
    """A transformation that moves PyTorch tensors by their gradients.

    A tensor without a gradient has a gradient of 0, because optax has no other. Steps are in the
    precision of the tensors; JAX compiles those of a long training.

    Args:
        parameters: the tensors.
        transformation: what turns gradients into changes.
    """

    def __init__(
        self, parameters: Sequence[Tensor], transformation: optax.GradientTransformation
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters)}]
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._parameters = list(parameters)
        self._update, self._steps = transformation.update, 0
        with jax.enable_x64(True):
            self._state = transformation.init([_array(p) for p in self._parameters])

    def step(self) -> None:
        """Take one step."""
        self._steps += 1
        if self._steps == _LONG:
            self._update = jax.jit(self._update)
        with jax.enable_x64(True), torch.no_grad():
            weights = [_array(p) for p in self._parameters]
            gradients = [
                _array(torch.zeros_like(p) if p.grad is None else p.grad) for p in self._parameters
            ]
            changes, self._state = self._update(gradients, self._state, weights)
            for parameter, weight in zip(
                self._parameters, optax.apply_updates(weights, changes), strict=True
            ):
                parameter.copy_(_tensor(weight))


def _array(tensor: Tensor) -> jax.Array:
    values = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type
        return jax.numpy.asarray(values.float().numpy(), dtype=jax.numpy.bfloat16)
    return jax.numpy.asarray(np.array(values.numpy()))


def _tensor(array: jax.Array) -> Tensor:
    if array.dtype == jax.numpy.bfloat16:
        return torch.tensor(np.asarray(array, dtype=np.float32)).bfloat16()
    return torch.tensor(np.asarray(array))


def adapted(factory: Factory) -> Callable[..., OptaxOptimizer]:
    """Return a function that makes an optimizer of a transformation from tensors and `lr`.

        optimizer = adapted(optax.adam)([w], lr=0.1)

    Args:
        factory: returns a transformation; called with `learning_rate` and its other arguments.
    """

    def make(params: Sequence[Tensor], **arguments: Any) -> OptaxOptimizer:
        return OptaxOptimizer(params, factory(**renamed(arguments)))

    as_of_pytorch(make, factory)
    return make


def is_factory(thing: Callable[..., object]) -> bool:
    """Return whether a function, called with a learning rate, returns a transformation."""
    try:
        if RATE not in inspect.signature(thing).parameters:
            return False
        result = thing(**{RATE: 0.1})
    except (TypeError, ValueError):
        return False
    return callable(getattr(result, "init", None)) and callable(getattr(result, "update", None))
