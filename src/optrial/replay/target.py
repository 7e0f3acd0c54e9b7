"""The optimizer under test: made over tensors, stepped with given gradients, read."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from optrial.replay.binding import Binding
from optrial.replay.draws import Draw, Gradients, Setting
from optrial.replay.supplies import supplied

__all__ = [
    "Arguments",
    "Path",
    "Target",
    "change_groups",
    "float64_scalars",
    "no_rounding",
    "parameters_of",
    "quiet",
    "snapshot",
    "step_with",
    "train",
]

Arguments = Mapping[str, Any]
Path = list[dict[str, Tensor]]
"""Weights after each step, by name."""


@dataclass(frozen=True, eq=False)
class Target:
    """A class or function that makes an optimizer from parameters.

    Attributes:
        name: its name, as ``torch.optim:Adam``.
        make: called with a list of parameters or groups, and keyword arguments.
        always: arguments that are always given.
        adapter: module that adapts it to PyTorch's tensors; empty for an optimizer of PyTorch.
        takes_missing: whether its tensors may lack a gradient.
        is_curved: whether its steps differentiate the gradients.
        is_supplied: whether its steps ask for a closure, or differentiate the gradients.
    """

    name: str
    make: Callable[..., torch.optim.Optimizer]
    always: Arguments
    adapter: str = ""
    takes_missing: bool = True
    is_curved: bool = False
    is_supplied: bool = False

    @property
    def label(self) -> str:
        """The name without its module."""
        return self.name.rpartition(":")[2]

    @property
    def signature(self) -> Mapping[str, inspect.Parameter]:
        """Its parameters after the first one, by name."""
        several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        return {p.name: p for p in self._parameters()[1:] if p.kind not in several}

    @property
    def hides_arguments(self) -> bool:
        """True if it takes arguments that its signature does not name."""
        return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in self._parameters())

    def _parameters(self) -> list[inspect.Parameter]:
        try:
            return list(inspect.signature(self.make).parameters.values())
        except (TypeError, ValueError):  # some builtins have no signature
            return []

    def __call__(self, parameters: Sequence[Any], arguments: Arguments) -> torch.optim.Optimizer:
        """Make an optimizer over parameters or groups of parameters."""
        with quiet():
            optimizer = self.make(list(parameters), **{**self.always, **arguments})
            if not callable(getattr(optimizer, "step", None)):
                kind = type(optimizer).__name__
                raise TypeError(f"{self.label} returned {kind}, which has no step: no optimizer")
            switch = getattr(optimizer, "train", None)
            if callable(switch):  # schedule-free classes train at another point
                switch()
        return optimizer if self.adapter else supplied(optimizer, curvature=self.is_curved)

    def with_arguments(self, **arguments: Any) -> Target:
        """Return the same target with further arguments that are always given."""
        return replace(self, always={**self.always, **arguments})


def parameters_of(
    start: Mapping[str, Tensor], dtype: torch.dtype = torch.float64
) -> dict[str, nn.Parameter]:
    """Return leaf tensors with the values and the memory layout of `start`."""
    return {
        label: nn.Parameter(torch.empty_like(tensor, dtype=dtype).copy_(tensor))
        for label, tensor in start.items()
    }


def step_with(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    gradients: Gradients,
) -> None:
    """Take one step with the given gradients, copied."""
    with quiet():
        _set_gradients(parameters, gradients)
        optimizer.step()


def _set_gradients(parameters: Mapping[str, Tensor], gradients: Gradients) -> None:
    for label, parameter in parameters.items():
        gradient = gradients.get(label)
        copied = None if gradient is None else gradient.detach().to(parameter.dtype, copy=True)
        parameter.grad = copied


def train(
    target: Target,
    binding: Binding,
    draw: Draw,
    *,
    dtype: torch.dtype = torch.float64,
    arguments: Arguments | None = None,
    steps: int | None = None,
) -> Path:
    """Return the weights after each step of a drawn training.

    Args:
        target: the optimizer.
        binding: translates settings into its arguments.
        draw: weights, gradients and settings.
        dtype: type of the parameters.
        arguments: further arguments.
        steps: number of steps; None for all.
    """
    parameters = parameters_of(draw.start, dtype)
    before: Arguments = binding.arguments(draw.setting)
    optimizer = target(list(parameters.values()), {**before, **(arguments or {})})
    path: Path = []
    with quiet():
        for number, gradients in enumerate(draw.gradients[:steps], start=1):
            if number in draw.changes:
                before = change_groups(optimizer, binding, before, draw.changes[number])
            _set_gradients(parameters, gradients)
            optimizer.step()
            path.append(snapshot(parameters))
    return path


def change_groups(
    optimizer: torch.optim.Optimizer, binding: Binding, before: Arguments, setting: Setting
) -> Arguments:
    """Change in `param_groups` what a setting changes; return the new arguments."""
    after = binding.arguments(setting)
    for key, value in after.items():
        if value != before.get(key):
            for group in optimizer.param_groups:
                group[key] = value
    return after


def snapshot(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return copies of all weights."""
    return {label: parameter.detach().clone() for label, parameter in parameters.items()}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def float64_scalars() -> Iterator[None]:
    """Let numbers that an optimizer keeps in the default type be float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


_NARROW = {torch.bfloat16, torch.float16, torch.float32}
_ROUNDING = {
    torch.Tensor.bfloat16,
    torch.Tensor.half,
    torch.Tensor.float,
}


class _NoRounding(TorchFunctionMode):
    """Keeps tensors in float64 where code asks for a narrower type."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = dict(kwargs or {})
        is_wide = bool(args) and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
        if is_wide and func in _ROUNDING:
            return args[0].clone()
        if is_wide and func is torch.Tensor.to:
            args = tuple(torch.float64 if _is_narrow(value) else value for value in args)
        if _is_narrow(kwargs.get("dtype")):
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def _is_narrow(value: object) -> bool:
    return isinstance(value, torch.dtype) and value in _NARROW


def no_rounding() -> Any:
    """Return a context in which no tensor is rounded to a narrower type."""
    return _NoRounding()
