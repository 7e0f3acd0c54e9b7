"""How large a model is at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from optrial.errors import USER_CODE_ERRORS
from optrial.models.trained import spare_copy

__all__ = ["SampleCost", "activation_count", "call_count", "output_count", "sample_cost"]


@torch.no_grad()
def activation_count(
    model: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> int:
    """Return how many numbers a model's layers put out for one sample, its inputs included.

    It is measured with one sample of zeros of a type; a model that will not take them counts as its
    inputs.
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


def output_count(
    model: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> int:
    """Return how many numbers a model puts out for one sample, at least 1.

    It is measured with one sample of zeros of a type; a model that will not take them counts as 1.
    """
    outputs = _evaluated_zeros(spare_copy(model), input_shape, dtype)
    return max(1, outputs.numel()) if isinstance(outputs, Tensor) else 1


@torch.no_grad()
def _evaluated_zeros(model: nn.Module, input_shape: tuple[int, ...], dtype: torch.dtype) -> object:
    """Return what a model makes of one sample of zeros in evaluation mode; None if it raises."""
    parameter = next(model.parameters(), torch.zeros(()))
    inputs = torch.zeros((1, *input_shape), device=parameter.device, dtype=dtype)
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            outputs: object = model(inputs)
    except USER_CODE_ERRORS:  # the user's model; training will say what is wrong
        outputs = None
    finally:
        model.train(was_training)
    return outputs


class SampleCost(NamedTuple):
    """What one sample costs a model in training.

    Attributes:
        saved: numbers kept for the backward pass, its inputs left out.
        operations: multiplications and additions of the forward pass's products.
    """

    saved: int
    operations: int


def sample_cost(model: nn.Module, input_shape: tuple[int, ...]) -> SampleCost:
    """Measure a model in training mode with two samples of zeros, for batch norm takes no single.

    A model that will not take them counts as one product with each of its weights. The model's
    buffers may change: measure a copy, or one that nobody trains.
    """
    inputs = torch.zeros((2, *input_shape))
    known = {tensor.data_ptr() for tensor in (inputs, *model.parameters(), *model.buffers())}
    saved: dict[int, Tensor] = {}  # by address: held, so that none is given away again

    def save(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in known:
            saved[tensor.data_ptr()] = tensor
        return tensor

    products = _Counter(_multiplications)
    keep = torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor)
    try:
        with torch.random.fork_rng(devices=[]), keep, products:
            model.train()
            model(inputs)
    except USER_CODE_ERRORS:  #  the user's model; training will say what is wrong
        return SampleCost(0, 2 * sum(parameter.numel() for parameter in model.parameters()))
    return SampleCost(
        sum(tensor.numel() for tensor in saved.values()) // 2,
        products.total,  # of two samples; with each multiplication goes an addition
    )


def call_count(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return about how many kernels a training forward pass calls; 0 if it will not take zeros.

    It grows with what there is to compile. The model's buffers may change.
    """
    inputs, counter = torch.zeros((2, *input_shape)), _Counter(_kernels)
    try:
        with torch.random.fork_rng(devices=[]), counter:
            model.train()
            model(inputs)
    except USER_CODE_ERRORS:  #  the user's model; training will say what is wrong
        return 0
    return counter.total


class _Counter(TorchFunctionMode):
    """Adds up what the functions of a forward pass are worth, by name, arguments and result.

    PyTorch's own counter of operations would import its compiler first, which takes seconds.
    """

    def __init__(self, worth: Callable[[str, Sequence[Any], Any], int]) -> None:
        self.worth = worth
        self.total = 0

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += self.worth(getattr(func, "__name__", ""), args, result)
        return result


def _kernels(name: str, args: Sequence[Any], result: Any) -> int:
    """Return 1 for what makes tensors, and more for what makes them in many steps."""
    del args
    made = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(made, Tensor) or name == "__get__":
        return 0
    return {"multi_head_attention_forward": 25, "scaled_dot_product_attention": 10}.get(name, 1)


def _multiplications(  # noqa: PLR0911  one a kind
    name: str, args: Sequence[Any], result: Any
) -> int:
    """Return the multiplications of products, convolutions, recurrent layers and attention."""
    match name:
        case "linear" | "matmul" | "__matmul__" | "mm" | "bmm" | "mv":
            return int(result.numel() * args[0].shape[-1])
        case "addmm" | "baddbmm":
            return int(result.numel() * args[1].shape[-1])
        case "conv1d" | "conv2d" | "conv3d":
            return int(result.numel() * args[1][0].numel())
        case "rnn_tanh" | "rnn_relu" | "gru" | "lstm":
            (weights,) = (value for value in args if isinstance(value, list))
            each = sum(weight.numel() for weight in weights if weight.ndim == 2)
            return int(args[0].numel() // args[0].shape[-1] * each)
        case "scaled_dot_product_attention":
            return int((args[0].numel() + result.numel()) * args[1].shape[-2])
        case "multi_head_attention_forward":
            query, key, value, width, *_ = args
            projected = sum(each.numel() for each in (query, key, value, result[0]))
            return int(projected * width + 2 * query.numel() * len(key))
    return 0
