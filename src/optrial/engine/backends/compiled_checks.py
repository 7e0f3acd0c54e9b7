"""Compiled programs beside plain PyTorch at their first call, because compilers have faults.

PyTorch 2.13, for example, compiles the backward pass of a layer norm of width 8 before a head of 7
outputs to code that gives other gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["CheckedProgram", "CheckedUpdate", "agree"]

_TOLERANCE = {"float64": 0.02, "float32": 0.02, "bfloat16": 0.3}
"""Largest relative difference, by precision. Rounding takes a few units through the kink of a ReLU,
which changes a small part of a gradient; a wrong program changes most of it."""

_NEGLIGIBLE = 1e-3
"""Share of all tensors below which the difference of one of them is rounding."""

_MOST_BYTES = 2**30
"""Size of parameters and state above which an update is not checked, because it is copied."""


class CheckedProgram:
    """A compiled function that is replaced by the plain one if its first result differs.

    Args:
        program: the compiled function.
        plain: the function; it may change tensors of its second argument in place, as models do
            with buffers.
        tensors: gives the tensors of a result by name, (seeds, settings, ...) each.
        precision: that of the products.

    Attributes:
        is_right: whether the program gave the result of the function; None before the first call.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        plain: Callable[..., Any],
        tensors: Callable[[Any], Mapping[str, Tensor]],
        precision: str,
    ) -> None:
        self._program, self._plain = program, plain
        self._tensors, self._tolerance = tensors, _TOLERANCE[precision]
        self.is_right: bool | None = None

    def __call__(self, params: Any, buffers: Mapping[str, Tensor], *data: Any) -> Any:
        """Return the result of the compiled function, or that of the plain one if they differ."""
        if self.is_right is None:
            return self._checked(params, buffers, *data)
        return (self._program if self.is_right else self._plain)(params, buffers, *data)

    def _checked(self, params: Any, buffers: Mapping[str, Tensor], *data: Any) -> Any:
        """Call both with the same buffers, and keep the result and the buffers of one of them."""
        before = _copies(buffers)
        plain = self._plain(params, buffers, *data)
        theirs = _copies(buffers)
        _set(buffers, before)
        result = self._program(params, buffers, *data)
        self.is_right = agree(self._tensors(result), self._tensors(plain), self._tolerance)
        self.is_right &= all(  # one by one, as a counter may be far larger than an average
            agree({name: buffers[name]}, {name: value}, self._tolerance)
            for name, value in theirs.items()
        )
        if self.is_right:
            return result
        _set(buffers, theirs)
        return plain


class CheckedUpdate:
    """A compiled update in place that is replaced by the plain one if its first changes differ.

    Args:
        program: the compiled update.
        plain: the update.
        tensors: gives all tensors that it changes.

    Attributes:
        is_right: as that of `CheckedProgram`; True for an update that is too large to be checked.
    """

    def __init__(
        self,
        program: Callable[..., None],
        plain: Callable[..., None],
        tensors: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        self._program, self._plain, self._tensors = program, plain, tensors
        self.is_right: bool | None = None

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> None:
        """Update the tensors."""
        if self.is_right is None:
            self._check(arguments)
        elif self.is_right:
            self._program(*arguments)
        else:
            self._plain(*arguments)

    def _check(self, arguments: tuple[Any, ...]) -> None:
        tensors = self._tensors()
        if sum(value.nbytes for value in tensors.values()) > _MOST_BYTES:
            self.is_right = True
            self._program(*arguments)
            return
        before = _copies(tensors)
        self._plain(*arguments)
        plain = _copies(tensors)
        _set(tensors, before)
        self._program(*arguments)
        floating = [name for name, value in tensors.items() if value.is_floating_point()]
        ours, theirs = (
            {name: values[name] - before[name] for name in floating} for values in (tensors, plain)
        )
        self.is_right = agree(ours, theirs, _TOLERANCE["float32"])
        if not self.is_right:
            _set(tensors, plain)


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tensors.items()}


def _set(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)


@torch.no_grad()
def agree(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> bool:
    """Return whether tensors are equal up to rounding.

    Differences are norms over all runs, relative to that of each tensor. Runs that are not finite
    in `theirs` do not count.

    Args:
        ours: tensors by name, (seeds, settings, ...); those of other shapes count as a whole.
        theirs: the same.
        tolerance: largest relative difference.
    """
    finite = _finite(theirs.values())
    sizes = {name: _norm(value, finite) for name, value in theirs.items()}
    least = _NEGLIGIBLE * sum(size * size for size in sizes.values()) ** 0.5
    return all(
        _norm(ours[name].double() - value.double(), finite) <= tolerance * (sizes[name] + least)
        for name, value in theirs.items()
    )


def _finite(tensors: Iterable[Tensor]) -> Tensor:
    """Return which runs are finite in all tensors, (seeds, settings)."""
    runs = [value.isfinite() for value in tensors]
    shape = max((tuple(value.shape[:2]) for value in runs if value.ndim > 1), default=())
    runs = [value.reshape(*shape, -1).all(-1) for value in runs if value.shape[:2] == shape]
    return torch.stack(runs).all(0) if runs else torch.tensor(True)


def _norm(value: Tensor, finite: Tensor) -> float:
    kept = value[finite] if value.shape[:2] == finite.shape else value.nan_to_num()
    return float(torch.linalg.vector_norm(kept.double())) if kept.numel() else 0.0
