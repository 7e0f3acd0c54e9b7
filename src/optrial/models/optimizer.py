"""Building and stepping user-defined optimizers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optrial.code import load_code
from optrial.models.precision import as_real

__all__ = [
    "backward",
    "build_optimizer",
    "clip_gradients",
    "forget_gradients",
    "needs_closure",
    "step_optimizer",
]


def build_optimizer(
    name: str, arguments: Mapping[str, Any], parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Call the class or function ``module:name`` with parameters and arguments.

    Raises:
        TypeError: what it returned is not an optimizer.
    """
    built = load_code(name)(list(parameters), **arguments)
    if isinstance(built, list | tuple):
        raise TypeError(
            f"it returned a {type(built).__name__} of {len(built)}; return one optimizer, such as "
            "a torch.optim.Optimizer that holds several and steps each of them"
        )
    if not all(hasattr(built, name) for name in ("step", "zero_grad", "param_groups")):
        raise TypeError(f"it returned {type(built).__name__}; return a torch.optim.Optimizer")
    return built  # type: ignore[no-any-return]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer.step` requires a function that computes the loss, as LBFGS."""
    # Wrappers that PyTorch puts around `step` keep the signature of what they wrap.
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def backward(loss: Tensor, *, create_graph: bool) -> None:
    """Compute gradients; with `create_graph`, ones that can be differentiated."""
    if not create_graph:
        loss.backward()  # type: ignore[no-untyped-call]
        return
    with warnings.catch_warnings():  # of a reference cycle, which `forget_gradients` breaks
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        loss.backward(create_graph=True)  # type: ignore[no-untyped-call]


@torch.no_grad()
def clip_gradients(model: nn.Module, norm: float | None, limit: float | None) -> None:
    """Clip to a norm of all gradients together, then each coordinate; None leaves them.

    Complex gradients are clipped by real and imaginary part.
    """
    if norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), norm)
    if limit is not None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                as_real(parameter.grad).clamp_(-limit, limit)


def forget_gradients(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Drop all gradients, including those of parameters that the optimizer was not given."""
    optimizer.zero_grad()
    for parameter in model.parameters():
        parameter.grad = None


def step_optimizer(
    optimizer: torch.optim.Optimizer,
    differentiate: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    *,
    closure: bool,
) -> None:
    """Compute loss and gradients and take a step.

    With `closure`, `step` is passed a function that computes both again. Gradients are computed
    before `step` because some optimizers (two-pass SAM) start from them. Others first call the
    closure; as long as nothing has changed, it returns the loss that is known.
    """
    loss = differentiate()
    if not closure:
        optimizer.step()
        return
    unchanged = _Unchanged(parameters)

    def again() -> Tensor:
        if unchanged():
            return loss
        with torch.enable_grad():  # most optimizers turn it off within `step`
            return differentiate()

    optimizer.step(again)  # type: ignore[arg-type]  # PyTorch's stub is narrow


class _Unchanged:
    """Tells once whether parameters and gradients are still as they were at the start."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._start = [
            (p, p.detach().clone(), p.grad, None if p.grad is None else p.grad.detach().clone())
            for p in parameters
        ]

    def __call__(self) -> bool:
        """Compare bit by bit, since changes through `.data` leave no trace."""
        start, self._start = self._start, []
        return bool(start) and all(
            torch.equal(p, value) and p.grad is grad and (grad is None or _equal(grad, kept))
            for p, value, grad, kept in start
        )


def _equal(gradient: Tensor, kept: Tensor | None) -> bool:
    strided = gradient.layout == torch.strided
    return strided and kept is not None and torch.equal(gradient, kept)
