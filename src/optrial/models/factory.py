"""User-defined models: ``module:function``, a function or class that returns a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from optrial.code import call_problems, importable, load_code
from optrial.errors import USER_CODE_ERRORS, Problem, StudyError, one_line
from optrial.input_parts import InputPart, PackedShape, parts_of
from optrial.models.arguments import Shape, input_dtype
from optrial.models.parameters import trained_parameters

__all__ = ["build_from_factory", "check_factory"]


def check_factory(name: str, arguments: Mapping[str, object]) -> list[Problem]:
    """Return everything that is wrong with a factory and its arguments.

    A factory that has parameters called `input_shape`, `classes` or `vocabulary` gets them from the
    data.
    """
    if reason := importable(name):
        return [Problem("factory", reason)]
    function = load_code(name)
    complete = {**arguments, **_from_data(function, arguments, (), 0, 0)}
    return [problem.under("args") for problem in call_problems(function, complete)]


def build_from_factory(
    name: str,
    arguments: Mapping[str, object],
    input_shape: Shape,
    classes: int,
    vocabulary: int | None = None,
) -> nn.Module:
    """Call a factory; lazy layers take their sizes from two samples of zeros.

    The inputs of the returned model are copied before each forward pass, so that it may change them
    in place. Several inputs, packed into one array, become a mapping from names to tensors.

    Raises:
        StudyError: the factory raised an error, or did not return a module with parameters to
            train.
    """
    function = load_code(name)
    try:
        facts = _from_data(function, arguments, input_shape, classes, vocabulary)
        model = function(**arguments, **facts)
        if isinstance(model, nn.Module):
            _prepare_inputs(model, input_shape)
            _initialise_lazy_layers(model, input_shape, input_dtype(vocabulary))
    except USER_CODE_ERRORS as error:
        raised = f"'{name}' raised {one_line(error).rstrip('.')}"
        if isinstance(input_shape, PackedShape):
            raised += f"; its forward gets {input_shape.as_received}"
        raise _factory_error(f"{raised}.") from error
    if not isinstance(model, nn.Module):
        returned = type(model).__name__
        raise _factory_error(f"'{name}' returned {returned}; it must return a torch.nn.Module.")
    if not trained_parameters(model):
        way_out = "set requires_grad for at least one."
        raise _factory_error(f"'{name}' returned a module without parameters to train; {way_out}")
    if any(tensor.is_meta for tensor in chain(model.parameters(), model.buffers())):
        way_out = "make them on a device that has memory, or on the default one."
        raise _factory_error(f"'{name}' returned a module with tensors on 'meta'; {way_out}")
    model.train()
    return model


def _prepare_inputs(model: nn.Module, input_shape: Shape) -> None:
    """Copy the inputs of each forward pass, and unpack several of them.

    Raises:
        TypeError: a compiled module, which has no hooks, cannot take several inputs.
    """
    parts = parts_of(input_shape)
    if not isinstance(model, torch.jit.ScriptModule):
        model.register_forward_pre_hook(_copied)
        if parts:
            model.register_forward_pre_hook(partial(_unpacked, parts))
    elif parts:
        raise TypeError("a module of torch.jit takes one input, and samples have several")


def _copied(_model: nn.Module, inputs: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _unpacked(
    parts: Sequence[InputPart], _model: nn.Module, inputs: tuple[object, ...]
) -> tuple[object, ...]:
    """Return the inputs that a tensor (batch, values) holds, by name; a mapping stays as it is."""
    (values,) = inputs
    if not isinstance(values, Tensor):
        return inputs
    named, start = {}, 0
    for part in parts:
        value = values[:, start : start + part.size].reshape(len(values), *part.shape)
        named[part.name] = value.long() if part.whole else value
        start += part.size
    return (named,)


def _initialise_lazy_layers(model: nn.Module, input_shape: Shape, dtype: torch.dtype) -> None:
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        with torch.no_grad():
            model.eval()
            # Two samples: batch norm without running statistics refuses a single one.
            model(torch.zeros((2, *input_shape), dtype=dtype))


def _factory_error(reason: str) -> StudyError:
    return StudyError([Problem("factory", reason)], "the model")


def _from_data(
    function: Callable[..., object],
    arguments: Mapping[str, object],
    input_shape: Shape,
    classes: int,
    vocabulary: int | None,
) -> dict[str, object]:
    """Return the facts about the data that a factory asks for by parameter name.

    The vocabulary is left to the arguments of a study, which came before it.
    """
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    parts = parts_of(input_shape)
    shape = {part.name: part.shape for part in parts} if parts else input_shape
    facts: dict[str, object] = {"input_shape": shape, "classes": classes}
    if vocabulary is not None and "vocabulary" not in arguments:
        facts["vocabulary"] = vocabulary
    return {name: value for name, value in facts.items() if name in names}
