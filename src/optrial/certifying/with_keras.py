"""Optimizers of Keras, as certificates take optimizers; imported only where Keras is needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("KERAS_HOME", tempfile.gettempdir())  # otherwise a file in the home folder

import keras
import torch
from torch import Tensor

from optrial.certifying.signature import as_of_pytorch, renamed
from optrial.errors import Problem, StudyError

__all__ = ["KerasOptimizer", "adapted", "is_class"]


class KerasOptimizer:
    """An optimizer of Keras that moves PyTorch tensors by their gradients.

    Args:
        parameters: the tensors.
        make: makes the optimizer.
    """

    def __init__(
        self, parameters: Sequence[Tensor], make: Callable[[], keras.optimizers.Optimizer]
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters)}]
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._parameters = list(parameters)
        with _default_type():
            self._variables = [
                keras.Variable(p.detach().clone(), dtype=_name(p.dtype)) for p in parameters
            ]
            self._optimizer = make()
            self._optimizer.build(self._variables)

    def step(self) -> None:
        """Take one step."""
        gradients = [None if p.grad is None else p.grad.clone() for p in self._parameters]
        if all(gradient is None for gradient in gradients):
            return
        with torch.no_grad(), _default_type():
            for parameter, variable in zip(self._parameters, self._variables, strict=True):
                variable.assign(parameter.detach().clone())
            self._optimizer.apply(gradients, self._variables)
            for parameter, variable in zip(self._parameters, self._variables, strict=True):
                parameter.copy_(keras.ops.convert_to_tensor(variable).detach().cpu())


@contextmanager
def _default_type() -> Iterator[None]:
    """Let Keras keep its own numbers in PyTorch's default type."""
    before = keras.config.floatx()
    keras.config.set_floatx(_name(torch.get_default_dtype()))
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def adapted(optimizer: type[keras.optimizers.Optimizer]) -> Callable[..., KerasOptimizer]:
    """Return a function that makes an optimizer from tensors and `lr`.

        optimizer = adapted(keras.optimizers.Adam)([w], lr=0.1)

    Args:
        optimizer: the class; called with `learning_rate` and its other arguments.

    Raises:
        StudyError: Keras computes with another library than PyTorch.
    """
    if (backend := keras.backend.backend()) != "torch":
        message = (
            f"keras.optimizers:{optimizer.__name__}: Keras computes with {backend} here, and must "
            "with PyTorch; set the environment variable KERAS_BACKEND=torch before Keras is "
            "imported."
        )
        raise StudyError([Problem("target", message)], "the certificate")

    def make(params: Sequence[Tensor], **arguments: Any) -> KerasOptimizer:
        return KerasOptimizer(params, lambda: optimizer(**renamed(arguments)))

    as_of_pytorch(make, optimizer)
    return make


def is_class(thing: object) -> bool:
    """Return whether something is a class of Keras optimizers."""
    return isinstance(thing, type) and issubclass(thing, keras.optimizers.Optimizer)
