"""Activation memory and compute cost of a model, measured on samples of zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from optrial.errors import USER_CODE_ERRORS
from optrial.models.arguments import Shape
from optrial.models.parameters import spare_copy

__all__ = [
    "SampleCost",
    "activation_count",
    "call_count",
    "linear_rows",
    "output_count",
    "sample_cost",
]

Worth = Callable[[str, Sequence[Any], object], int]
"""Maps the name, the arguments and the result of a torch function to a number that is added up."""


@torch.no_grad()
def activation_count(
    model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32
) -> int:
    """Return the number of values that the layers of a model output for one sample.

    The inputs are included. A model that does not take a sample of zeros counts as its inputs.
    """
    counted, model = torch.Size(input_shape).numel(), spare_copy(model)
    leaves = [
        module
        for module in model.modules()
        if not (list(module.children()) or isinstance(module, torch.jit.ScriptModule))
    ]

    def count(_module: nn.Module, _inputs: object, outputs: object) -> None:
        nonlocal counted
        if isinstance(outputs, Tensor):
            counted += outputs.numel()

    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        _evaluated_zeros(model, input_shape, dtype)
    finally:
        for hook in hooks:
            hook.remove()
    return counted


@torch.no_grad()
def linear_rows(
    model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32
) -> dict[str, int]:
    """Return how many rows each linear layer multiplies per sample, by name of the layer.

    A transformer multiplies a row per position. Layers that a sample of zeros does not reach count
    as one row.
    """
    model = spare_copy(model)
    rows: dict[str, int] = {}
    hooks = []

    def watch(name: str, layer: nn.Linear) -> None:
        def count(_module: nn.Module, _inputs: object, outputs: object) -> None:
            if isinstance(outputs, Tensor):
                rows[name] = max(rows[name], outputs.numel() // layer.out_features)

        rows[name] = 1
        hooks.append(layer.register_forward_hook(count))

    for name, layer in model.named_modules():
        if type(layer) is nn.Linear:
            watch(name, layer)
    try:
        _evaluated_zeros(model, input_shape, dtype)
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def output_count(model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32) -> int:
    """Return the number of outputs of a model for one sample, 1 or more.

    A model that does not take a sample of zeros counts as 1.
    """
    outputs = _evaluated_zeros(spare_copy(model), input_shape, dtype)
    return max(1, outputs.numel()) if isinstance(outputs, Tensor) else 1


@torch.no_grad()
def _evaluated_zeros(model: nn.Module, input_shape: Shape, dtype: torch.dtype) -> object:
    """Return the outputs for one sample of zeros in evaluation mode, or None if it raises."""
    parameter = next(model.parameters(), torch.zeros(()))
    inputs = torch.zeros((1, *input_shape), device=parameter.device, dtype=dtype)
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            outputs: object = model(inputs)
    except USER_CODE_ERRORS:  # training reports what is wrong
        outputs = None
    finally:
        model.train(was_training)
    return outputs


class SampleCost(NamedTuple):
    """Cost of one training sample.

    Attributes:
        saved: numbers kept for the backward pass, without the inputs of the model.
        operations: multiplications and additions in the matrix products of the forward pass.
    """

    saved: int
    operations: int


def sample_cost(
    model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32
) -> SampleCost:
    """Measure the cost of one sample in training mode.

    A model that does not take zeros counts as one product with each of its weights. The buffers of
    the model may change: pass a copy, or a model that is not trained afterwards.
    """
    inputs = _two_zeros(input_shape, dtype)
    known = {tensor.data_ptr() for tensor in (inputs, *model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}  # by address; holding the tensors keeps addresses distinct

    def save(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            saved[tensor.data_ptr()] = tensor
        return tensor

    products = _Counter(_multiplications)
    keep = torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor)
    if not _runs(model, inputs, keep, products):
        return SampleCost(0, 2 * sum(parameter.numel() for parameter in model.parameters()))
    return SampleCost(
        sum(tensor.numel() for tensor in saved.values()) // 2,
        products.total,  # two samples, and one addition per multiplication
    )


def call_count(model: nn.Module, input_shape: Shape, dtype: torch.dtype = torch.float32) -> int:
    """Return the approximate number of kernels that a forward pass in training mode launches.

    It predicts how long compilation takes. A model that does not take zeros counts as 0. The
    buffers of the model may change.
    """
    counter = _Counter(_kernels)
    return counter.total if _runs(model, _two_zeros(input_shape, dtype), counter) else 0


def _two_zeros(input_shape: Shape, dtype: torch.dtype) -> Tensor:
    """Return a batch of two samples, because batch norm refuses a single one."""
    return torch.zeros((2, *input_shape), dtype=dtype)


def _runs(model: nn.Module, inputs: Tensor, *watches: AbstractContextManager[object]) -> bool:
    """Run a forward pass in training mode within contexts; return whether it succeeded."""
    try:
        with torch.random.fork_rng(devices=[]), ExitStack() as stack:
            for watch in watches:
                stack.enter_context(watch)
            model.train()
            model(inputs)
    except USER_CODE_ERRORS:  # training reports what is wrong
        return False
    return True


class _Counter(TorchFunctionMode):
    """Adds up a number for each torch function that a forward pass calls.

    PyTorch's own counter of operations would first import its compiler, which takes seconds.
    """

    def __init__(self, worth: Worth) -> None:
        self.worth = worth
        self.total = 0

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        self.total += self.worth(getattr(func, "__name__", ""), args, result)
        return result


def _kernels(name: str, args: Sequence[object], result: object) -> int:
    """Return the approximate number of kernels behind a function; 0 if it makes no tensor."""
    del args
    made = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(made, Tensor) or name == "__get__":
        return 0
    return {"multi_head_attention_forward": 25, "scaled_dot_product_attention": 10}.get(name, 1)


def _multiplications(name: str, args: Sequence[Any], result: Any) -> int:
    """Return the multiplications of products, convolutions, recurrent layers and attention."""
    match name:
        case "linear" | "matmul" | "__matmul__" | "mm" | "bmm" | "mv":
            count = result.numel() * args[0].shape[-1]
        case "addmm" | "baddbmm":
            count = result.numel() * args[1].shape[-1]
        case "conv1d" | "conv2d" | "conv3d":
            count = result.numel() * args[1][0].numel()
        case "rnn_tanh" | "rnn_relu" | "gru" | "lstm":
            (weights,) = (value for value in args if isinstance(value, list))
            matrices = sum(weight.numel() for weight in weights if weight.ndim == 2)
            count = args[0].numel() // args[0].shape[-1] * matrices
        case "scaled_dot_product_attention":
            count = (args[0].numel() + result.numel()) * args[1].shape[-2]
        case "multi_head_attention_forward":
            query, key, value, width, *_ = args
            projected = sum(tensor.numel() for tensor in (query, key, value, result[0]))
            count = projected * width + 2 * query.numel() * len(key)
        case _:
            count = 0
    return int(count)
