"""User-defined optimizers: building them and taking steps with them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from optrial.code import load_code
from optrial.models.parameters import as_real

__all__ = [
    "backward",
    "build_optimizer",
    "clip_gradients",
    "forget_gradients",
    "known_values",
    "needs_closure",
    "requires_closure",
    "set_values",
    "step_optimizer",
]


def build_optimizer(
    name: str,
    arguments: Mapping[str, object],
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
) -> torch.optim.Optimizer:
    """Call the class or function ``module:name`` with a list of parameters and with arguments.

    Groups of parameters are dictionaries, as in `torch.optim`.

    Raises:
        TypeError: it did not return a single optimizer.
    """
    built = load_code(name)(list(parameters), **arguments)
    if isinstance(built, list | tuple):
        raise TypeError(
            f"it returned a {type(built).__name__} of {len(built)}; return one optimizer, such as "
            "a torch.optim.Optimizer that holds several and steps each of them"
        )
    if not all(hasattr(built, name) for name in ("step", "zero_grad", "param_groups")):
        raise TypeError(f"it returned {type(built).__name__}; return a torch.optim.Optimizer")
    return cast("torch.optim.Optimizer", built)


def known_values(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a group of parameters by name; those of `betas` as beta1, beta2, ..."""
    values = dict(group)
    betas = values.pop("betas", ())
    values |= {f"beta{place}": beta for place, beta in enumerate(betas, start=1)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def set_values(group: dict[str, Any], values: Mapping[str, float]) -> None:
    """Set some of the numbers that `known_values` returns."""
    if "betas" in group:
        betas = (
            values.get(f"beta{place}", beta) for place, beta in enumerate(group["betas"], start=1)
        )
        group["betas"] = tuple(betas)
        values = {name: value for name, value in values.items() if name in group}
    group.update(values)


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether `optimizer.step` requires a closure that computes the loss, as LBFGS does."""
    return requires_closure(type(optimizer))


def requires_closure(kind: object) -> bool:
    """Return whether `step` of a class requires a closure; False for what has no `step`."""
    step = getattr(kind, "step", None)
    if step is None:
        return False
    # The wrappers that PyTorch puts around `step` keep its signature.
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def backward(loss: Tensor, *, create_graph: bool) -> None:
    """Compute gradients, which can themselves be differentiated if `create_graph` is true."""
    if not create_graph:
        loss.backward()  # type: ignore[no-untyped-call]
        return
    with warnings.catch_warnings():  # about a reference cycle, which `forget_gradients` breaks
        warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
        loss.backward(create_graph=True)  # type: ignore[no-untyped-call]


@torch.no_grad()
def clip_gradients(model: nn.Module, norm: float | None, limit: float | None) -> None:
    """Clip the global norm of the gradients, then each coordinate, in place.

    Args:
        model: the model whose gradients are clipped.
        norm: largest norm of all gradients together, or None.
        limit: largest magnitude of a coordinate, of real and imaginary parts separately, or None.
    """
    if norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), norm)
    if limit is not None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                as_real(parameter.grad).clamp_(-limit, limit)


def forget_gradients(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Drop all gradients, including those of parameters that the optimizer does not hold."""
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

    Gradients are computed before `step`, because some optimizers (two-pass SAM) start from them.
    Others call the closure first: as long as parameters and gradients have not changed, it returns
    the known loss.

    Args:
        optimizer: the optimizer.
        differentiate: computes the gradients of all parameters and returns the loss.
        parameters: the trained parameters.
        closure: whether `step` is called with a closure that computes loss and gradients again.
    """
    loss = differentiate()
    if not closure:
        optimizer.step()
        return
    unchanged = _Unchanged(parameters)

    def again() -> Tensor:
        if unchanged():
            return loss
        with torch.enable_grad():  # most optimizers disable gradients within `step`
            return differentiate()

    optimizer.step(again)  # type: ignore[arg-type]  # PyTorch's stub is narrow


class _Unchanged:
    """Tells, once, whether parameters and gradients still have their values of the start."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._start = [
            (p, p.detach().clone(), p.grad, None if p.grad is None else p.grad.detach().clone())
            for p in parameters
        ]

    def __call__(self) -> bool:
        """Compare bit by bit, because changes through `.data` leave no trace."""
        start, self._start = self._start, []
        return bool(start) and all(
            torch.equal(p, value) and p.grad is grad and (grad is None or _equal(grad, kept))
            for p, value, grad, kept in start
        )


def _equal(gradient: Tensor, kept: Tensor | None) -> bool:
    strided = gradient.layout == torch.strided
    return strided and kept is not None and torch.equal(gradient, kept)
