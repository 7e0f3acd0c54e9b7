"""Signatures of other libraries' optimizers, as classes of PyTorch have them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["RATE", "as_of_pytorch", "renamed"]

RATE = "learning_rate"


def renamed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class of PyTorch, with `lr` as `learning_rate`."""
    return {RATE if name == "lr" else name: value for name, value in arguments.items()}


def as_of_pytorch(make: Callable[..., Any], source: Callable[..., Any]) -> None:
    """Give `make(params, **arguments)` the arguments and the text of `source`, with `lr`."""
    first = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    others = [
        p.replace(
            name="lr" if p.name == RATE else p.name,
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=inspect.Parameter.empty,
        )
        for p in inspect.signature(source).parameters.values()
        if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    ]
    make.__signature__ = inspect.Signature([first, *others])  # type: ignore[attr-defined]
    make.__doc__ = (inspect.getdoc(source) or "").replace(RATE, "lr")
