"""Models of the user's own: ``module:function`` that returns a module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from optrial.code import call_problems, importable, load_code
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, one_line
from optrial.models.trained import trained_parameters

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
    """Call a factory; lazy layers of what it returns take their sizes from two samples of zeros.

    Its inputs are copied for each forward pass.

    Raises:
        StudyError: it raised, or returned something other than a module with parameters to train.
    """
    function = load_code(name)
    try:
        model = function(**arguments, **_from_data(function, input_shape, classes))
        if isinstance(model, nn.Module):
            _give_lazy_layers_sizes(model, input_shape)
    except USER_CODE_ERRORS as error:
        raise _wrong(f"'{name}' raised {one_line(error).rstrip('.')}.") from error
    if not isinstance(model, nn.Module):
        returned = type(model).__name__
        raise _wrong(f"'{name}' returned {returned}; it must return a torch.nn.Module.")
    if not trained_parameters(model):
        way_out = "set requires_grad for at least one."
        raise _wrong(f"'{name}' returned a module without parameters to train; {way_out}")
    model.train()
    if not isinstance(model, torch.jit.ScriptModule):  # which takes no hooks
        model.register_forward_pre_hook(_copied)
    return model


def _copied(_model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy the inputs of a forward pass, so that a model may change its own in place."""
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in inputs)


def _give_lazy_layers_sizes(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        with torch.no_grad():
            model.eval()
            # Not one, on which batch norm without running statistics would fail.
            model(torch.zeros((2, *input_shape)))


def _wrong(reason: str) -> StudyError:
    return StudyError([Problem("factory", reason)], "the model")


def _from_data(function: Any, input_shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """What the data knows and the function asks for by name."""
    try:
        wanted = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    known = {"input_shape": input_shape, "classes": classes}
    return {name: value for name, value in known.items() if name in wanted}
