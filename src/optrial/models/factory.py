"""Models of the user's own: ``module:function`` that returns a module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from optrial.code import call_problems, importable, load_code
from optrial.errors import Problem, StudyError

__all__ = ["build_from_factory", "check_factory"]


def check_factory(name: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a function or class and the arguments for it.

    `input_shape` and `classes` are given to it where it takes them.
    """
    if reason := importable(name):
        return [Problem("factory", reason)]
    function = load_code(name)
    given = {**arguments, **_from_data(function, (), 0)}
    return [problem.under("args") for problem in call_problems(function, given)]


def build_from_factory(
    name: str, arguments: Mapping[str, Any], input_shape: tuple[int, ...], classes: int
) -> nn.Module:
    """Call a factory.

    Raises:
        StudyError: it raised, or returned something other than a module.
    """
    function = load_code(name)
    try:
        model = function(**arguments, **_from_data(function, input_shape, classes))
    except Exception as error:
        reason = f"'{name}' raised {type(error).__name__}: {error}."
        raise StudyError([Problem("factory", reason)], "the model") from error
    if not isinstance(model, nn.Module):
        reason = f"'{name}' returned {type(model).__name__}; it must return a torch.nn.Module."
        raise StudyError([Problem("factory", reason)], "the model")
    return model.train()


def _from_data(function: Any, input_shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """What the data knows and the function asks for by name."""
    try:
        wanted = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    known = {"input_shape": input_shape, "classes": classes}
    return {name: value for name, value in known.items() if name in wanted}
