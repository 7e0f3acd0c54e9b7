"""Optimizers whose steps ask for more than gradients: a closure, or second derivatives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["hessian_diagonal", "requires_closure", "supplied"]

_MIDDLE, _SPREAD = 2.0, 1.5
"""Curvature is 10^(2 ± 1.5) times the gradient, so that neither it nor epsilon decides alone."""


def requires_closure(kind: type[torch.optim.Optimizer]) -> bool:
    """Return whether `step` of a class has a closure without a default, as that of LBFGS."""
    parameters = list(inspect.signature(kind.step).parameters.values())[1:]
    return bool(parameters) and parameters[0].default is inspect.Parameter.empty


def hessian_diagonal(gradient: Tensor) -> Tensor:
    """Return the diagonal of the Hessian where a drawn gradient is taken.

    Every product with signs z then gives z·Hz, the diagonal, whatever the signs. It depends on the
    size of the gradient alone, in an irregular way, and two thirds of it are positive.

    Args:
        gradient: of any shape; real.
    """
    size = gradient.detach().to(torch.float64).abs()
    digits, _ = torch.frexp(size)  # 0.5 to 1
    scale = 10 ** (_MIDDLE + _SPREAD * torch.cos(20 * digits))
    signs = torch.where(torch.cos(50 * digits) > -0.5, 1.0, -1.0)
    return (signs * scale * size).to(gradient.dtype)


def supplied(optimizer: torch.optim.Optimizer, *, curvature: bool = False) -> torch.optim.Optimizer:
    """Let `optimizer.step()` find a closure if it requires one, and second derivatives.

    The loss that it finds is linear in the weights, with the gradients that they have in `grad`,
    or quadratic with `hessian_diagonal` as curvature.

    Args:
        optimizer: an optimizer; its class becomes a subclass.
        curvature: whether gradients can be differentiated, as after `backward(create_graph=True)`.
    """
    kind = type(optimizer)
    if curvature or requires_closure(kind):
        optimizer.__class__ = _class_with(kind, curvature)  # type: ignore[arg-type]  # hashable
    return optimizer


@cache
def _class_with(kind: type[torch.optim.Optimizer], curvature: bool) -> type[torch.optim.Optimizer]:
    """Return a subclass that supplies what a step asks for."""
    is_required = requires_closure(kind)

    class Supplied(kind):  # type: ignore[misc, valid-type]  # a class of a user
        is_supplied = True

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            weights = [p for group in self.param_groups for p in group["params"]]
            problem = _Problem(weights, curvature=curvature)
            try:
                if closure is None and not is_required:
                    problem.show()
                    return super().step()
                return super().step(lambda: problem.evaluated(closure))
            finally:
                problem.hide()

    Supplied.__name__, Supplied.__qualname__ = kind.__name__, kind.__qualname__
    return Supplied


class _Problem:
    """The loss of one step, which has the gradients that the weights have in `grad`."""

    def __init__(self, weights: Sequence[Tensor], *, curvature: bool) -> None:
        self._weights, self._curvature = weights, curvature
        self._start = [weight.detach().clone() for weight in weights]
        self._given: list[Tensor | None] = [weight.grad for weight in weights]
        self._values = [None if grad is None else grad.detach().clone() for grad in self._given]

    def evaluated(self, closure: Callable[[], Any] | None) -> Any:
        """Return the loss of a closure, or the linear or quadratic one, with its gradients."""
        if closure is None:
            self.show()
            return self._loss()
        result = closure()
        self._given = [weight.grad for weight in self._weights]
        self._values = [None if grad is None else grad.detach().clone() for grad in self._given]
        self._start = [weight.detach().clone() for weight in self._weights]
        if self._curvature:
            self.show()
        return result

    @torch.enable_grad()
    def show(self) -> None:
        """Put the gradients at the weights into `grad`."""
        for weight, start, value in zip(self._weights, self._start, self._values, strict=True):
            if value is None or value.is_sparse or value.is_complex():
                continue
            gradient = value.clone()
            if self._curvature:
                gradient = gradient + hessian_diagonal(value) * (weight - start)
            weight.grad = gradient

    def hide(self) -> None:
        """Put the given gradients back, with what the step wrote into them."""
        for weight, given in zip(self._weights, self._given, strict=True):
            left = weight.grad
            if left is None or given is None or left is given:
                continue
            given.copy_(left.detach())
            weight.grad = given

    def _loss(self) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for weight, start, value in zip(self._weights, self._start, self._values, strict=True):
            if value is None or not value.numel():
                continue
            change = (weight.detach() - start).to(torch.float64)
            curve = hessian_diagonal(value) if self._curvature else torch.zeros_like(value)
            total = total + (change * (value + 0.5 * curve * change)).sum()
        return total
