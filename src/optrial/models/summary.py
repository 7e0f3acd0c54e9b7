"""Layers of a model: output shapes and parameters, measured on one sample of zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optrial.errors import USER_CODE_ERRORS
from optrial.models.arguments import Shape
from optrial.models.cost import sample_cost
from optrial.models.parameters import spare_copy, trained_parameters

__all__ = ["Layer", "ModelSummary", "summarize"]


@dataclass(frozen=True)
class Layer:
    """One call of a module without children, or parameters that belong to none.

    Attributes:
        name: name of the module in the model; "" for the model itself.
        kind: class of the module.
        output_shape: shape of its output for one sample; None if it was not called, or returns
            something else than a tensor.
        parameters: number of parameters that it holds; 0 at a second call.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...] | None
    parameters: int


@dataclass(frozen=True)
class ModelSummary:
    """Layers, parameters and cost of a model.

    Attributes:
        kind: name of the model in the study.
        arguments: its arguments, with defaults.
        input_shape: shape of one sample.
        layers: in the order in which they are called.
        parameters: number of parameters.
        trained_parameters: number of those that are trained.
        buffers: number of other values in the state of the model, such as averages of batch norm.
        saved_per_sample: number of values that one sample keeps for the backward pass.
        operations_per_sample: multiplications and additions of matrix products, forward.
    """

    kind: str
    arguments: Mapping[str, object]
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    parameters: int
    trained_parameters: int
    buffers: int
    saved_per_sample: int
    operations_per_sample: int


def summarize(
    model: nn.Module,
    kind: str,
    arguments: Mapping[str, object],
    input_shape: Shape,
    dtype: torch.dtype = torch.float32,
) -> ModelSummary:
    """Return the layers, parameters and cost of a model.

    Args:
        model: the model; it is not changed.
        kind: its name.
        arguments: its arguments.
        input_shape: shape of one sample.
        dtype: type of the inputs.
    """
    model = spare_copy(model)
    cost = sample_cost(model, input_shape, dtype)
    return ModelSummary(
        kind,
        dict(arguments),
        input_shape,
        _layers(model, input_shape, dtype),
        sum(parameter.numel() for parameter in model.parameters()),
        sum(parameter.numel() for parameter in trained_parameters(model).values()),
        sum(buffer.numel() for buffer in model.buffers()),
        cost.saved,
        cost.operations,
    )


def _layers(model: nn.Module, input_shape: Shape, dtype: torch.dtype) -> tuple[Layer, ...]:
    """Return the called modules, and the parameters that none of them holds."""
    calls: list[Layer] = []
    seen: set[int] = set()
    names = {module: name for name, module in model.named_modules()}
    hooks = [
        module.register_forward_hook(
            lambda module, _, outputs: calls.append(_layer(names[module], module, outputs, seen))
        )
        for module in names
        if not any(module.children()) and not isinstance(module, torch.jit.ScriptModule)
    ]
    model.eval()  # batch norm takes one sample only then
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(torch.zeros((1, *input_shape), dtype=dtype))
    except USER_CODE_ERRORS:  # shapes stay unknown; training reports what is wrong
        calls.clear()
        seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    rest = (_layer(name, module, None, seen) for module, name in names.items())
    return (*calls, *(layer for layer in rest if layer.parameters))


def _layer(name: str, module: nn.Module, outputs: object, seen: set[int]) -> Layer:
    """Return the layer of a module; count its parameters once."""
    own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
    seen.update(map(id, own))
    first = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
    shape = tuple(first.shape[1:]) if isinstance(first, Tensor) and first.ndim else None
    return Layer(name, type(module).__name__, shape, sum(p.numel() for p in own))
