"""Losses by name: means over a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.nn import functional

from optrial.code import call_problems, importable, is_code, load_code
from optrial.errors import Problem, suggest
from optrial.target_kinds import IGNORE_INDEX

__all__ = [
    "BALANCED",
    "LOSSES",
    "as_values",
    "check_loss",
    "class_axes",
    "outputs_per_value",
    "prediction_of",
]

BALANCED = "balanced"
"""Value of a weight that is computed from the training split; see `optrial.plan`."""

Weights = Sequence[float]

_VECTOR = 16
"""Float32 numbers in the widest vectors of a CPU."""


def cross_entropy(
    outputs: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    class_axis: int | None = None,
    ignore_index: int = IGNORE_INDEX,
    weight: Weights | None = None,
) -> Tensor:
    """Mean cross entropy of (batch, classes) logits with labels (batch,).

    Labels per position, (batch, positions...), take logits (batch, positions..., classes), or
    (batch, classes, positions...) as in PyTorch; the mean is over all positions that count.

    Args:
        outputs: logits.
        targets: labels, int64.
        label_smoothing: weight of the uniform distribution that is mixed with each label, in
            [0, 1): Szegedy et al. 2016, section 7.
        class_axis: axis of the classes, -1 or 1; by default inferred from the shapes.
        ignore_index: label of positions that do not count.
        weight: weight of each class, (classes,); the sum is divided by the weights of all labels.
    """
    axis = _class_axis(outputs, targets, class_axis)
    if axis == -1 and outputs.shape[:-1] == targets.shape:  # twice as fast as classes in the middle
        outputs, targets, axis = outputs.flatten(0, -2), targets.flatten(), 1
    if outputs.ndim == 2 and _few_classes_of_many_runs(outputs):
        outputs, targets = outputs.mT[None], targets[None]
    weights = None if weight is None else outputs.new_tensor(weight)
    smoothed_and_weighted = weights is not None and label_smoothing > 0
    loss = functional.cross_entropy(
        outputs.movedim(axis, 1),
        targets,
        weight=weights,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction="sum" if smoothed_and_weighted else "mean",
    )
    if not smoothed_and_weighted:
        return loss
    # PyTorch's mean selects the labels that count, as no function of many runs at once can.
    return loss / _weights_of(targets, outputs.new_tensor(weight), ignore_index).sum()


def _few_classes_of_many_runs(outputs: Tensor) -> bool:
    """Return whether the logits of many runs, each (batch, classes), are faster transposed.

    Few classes do not fill a vector of a CPU, but the samples of a batch do: 135 runs with a batch
    of 100 and 10 classes take 0.8 instead of 4.9 ms forward and backward.
    """
    few = outputs.shape[1] < _VECTOR and outputs.device.type == "cpu"
    return few and not torch.compiler.is_compiling() and is_batchedtensor(outputs)


def _weights_of(targets: Tensor, weights: Tensor, ignore_index: int) -> Tensor:
    """Return the weight of each label; 0 where it does not count."""
    counted = targets != ignore_index
    return torch.where(counted, weights[torch.where(counted, targets, 0)], 0.0)


def focal(
    outputs: Tensor,
    targets: Tensor,
    gamma: float = 2.0,
    alpha: float | Weights | None = None,
    class_axis: int | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Mean cross entropy times (1 - p)^gamma, p the probability of the label: Lin et al. 2017.

    Args:
        outputs: logits, as for cross_entropy.
        targets: labels, int64.
        gamma: exponent of at least 0; 0 gives the cross entropy.
        alpha: weight of each class, (classes,); for two classes, the weight of class 1, that of
            class 0 being 1 - alpha. The mean is over all labels that count.
        class_axis: axis of the classes, -1 or 1; by default inferred from the shapes.
        ignore_index: label of positions that do not count.
    """
    logits = outputs.movedim(_class_axis(outputs, targets, class_axis), -1)
    counted = targets != ignore_index
    labels = torch.where(counted, targets, 0)
    log_p = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    # The power of 0 has no finite gradient for gamma below 1.
    wrong = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    losses = -(wrong**gamma) * log_p
    if alpha is not None:
        weights = (1 - alpha, alpha) if isinstance(alpha, int | float) else alpha
        losses = losses * losses.new_tensor(weights)[labels]
    return torch.where(counted, losses, 0.0).sum() / counted.sum()


def bce(outputs: Tensor, targets: Tensor, pos_weight: float | Weights | None = None) -> Tensor:
    """Mean binary cross entropy of logits with 0 and 1, or probabilities, over batch and outputs.

    A single logit, (batch,) or (batch, 1), takes labels (batch,); several logits take targets of
    the same shape.

    Args:
        outputs: logits.
        targets: numbers from 0 to 1.
        pos_weight: factor of the loss of a 1: one number, or one per logit of a sample.
    """
    wanted = targets.to(outputs.dtype).reshape(outputs.shape)
    if pos_weight is None:
        return functional.binary_cross_entropy_with_logits(outputs, wanted)
    weight = outputs.new_tensor(pos_weight)
    if weight.ndim and outputs.ndim > 1:
        weight = weight.reshape(outputs.shape[1:])
    return functional.binary_cross_entropy_with_logits(outputs, wanted, pos_weight=weight)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over batch and outputs; labels (batch,) count as one-hot vectors."""
    return ((outputs - as_values(outputs, targets)) ** 2).mean()


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error over batch and outputs; labels (batch,) count as one-hot vectors."""
    return (outputs - as_values(outputs, targets)).abs().mean()


def huber(outputs: Tensor, targets: Tensor, delta: float = 1.0) -> Tensor:
    """Mean of e^2 / 2 for errors e up to `delta`, and of delta (|e| - delta / 2) beyond.

    Args:
        outputs: values.
        targets: values of the same shape, or labels as for mse.
        delta: error above 0 from which the loss is linear.
    """
    error = (outputs - as_values(outputs, targets)).abs()
    return torch.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean()


def poisson(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of exp(z) - y z for outputs z, logarithms of the expected counts y of at least 0."""
    return (outputs.exp() - as_values(outputs, targets) * outputs).mean()


def quantile(outputs: Tensor, targets: Tensor, q: float | Weights = 0.5) -> Tensor:
    """Mean pinball loss: q e for errors e = y - z of at least 0, and (q - 1) e below.

    Args:
        outputs: estimated quantiles, in the shape of the values; for several q (batch, values x q),
            the quantiles of one value side by side.
        targets: values.
        q: level of the quantile between 0 and 1, or several.
    """
    levels = outputs.new_tensor(_several(q))
    estimates = outputs.reshape(len(outputs), -1, len(levels))
    error = targets.to(outputs.dtype).reshape(len(outputs), -1, 1) - estimates
    return torch.where(error >= 0, levels * error, (levels - 1) * error).mean()


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of the model's outputs, for models that compute their loss themselves."""
    del targets
    return outputs.mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "bce": bce,
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "poisson": poisson,
    "quantile": quantile,
    "mean_output": mean_output,
}


def outputs_per_value(loss: str, arguments: Mapping[str, object]) -> int:
    """Return the number of outputs of a model for each value to predict."""
    return len(_several(arguments.get("q", 0.5))) if loss == "quantile" else 1


def prediction_of(loss: str, arguments: Mapping[str, object]) -> Callable[[Tensor], Tensor] | None:
    """Return a function from outputs to predicted values; None for outputs that are these.

    Of several quantiles, the median predicts.
    """
    if loss == "poisson":
        return torch.exp
    if outputs_per_value(loss, arguments) > 1:
        return partial(_median, levels=_several(arguments["q"]))
    return None


def _median(outputs: Tensor, levels: Weights) -> Tensor:
    return outputs.reshape(*outputs.shape[:-1], -1, len(levels))[..., levels.index(0.5)]


def _several(value: object) -> Weights:
    return value if isinstance(value, list | tuple) else (value,)


def _class_axis(outputs: Tensor, targets: Tensor, class_axis: int | None) -> int:
    return class_axis or (class_axes(outputs.shape, targets.shape) or (1,))[0]


def as_values(outputs: Tensor, targets: Tensor) -> Tensor:
    """Turn labels (batch,) into one-hot vectors, and all targets into the type of the outputs.

    As many values in another shape, such as those of an image, take the shape of the outputs.
    """
    if targets.is_floating_point():
        same = outputs.numel() == targets.numel() and outputs.shape[:1] == targets.shape[:1]
        return targets.to(outputs.dtype).reshape(outputs.shape if same else targets.shape)
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    return (targets.unsqueeze(-1) == classes).to(outputs.dtype)


def class_axes(outputs: Sequence[int], targets: Sequence[int]) -> list[int]:
    """Return the axes of logits that may hold the classes, -1 first.

    Args:
        outputs: shape of logits, (batch, positions..., classes) or (batch, classes, positions...).
        targets: shape of labels, (batch, positions...).
    """
    outputs, targets = tuple(outputs), tuple(targets)
    axes = [-1, 1] if len(targets) > 1 else [1]
    others = {-1: outputs[:-1], 1: (*outputs[:1], *outputs[2:])}
    return [axis for axis in axes if len(outputs) > 1 and others[axis] == targets]


def check_loss(name: str, arguments: Mapping[str, object]) -> list[Problem]:
    """Return everything that is wrong with a loss and its arguments."""
    if is_code(name):
        reason = importable(name) or _not_a_function(name)
        return [Problem("name", reason)] if reason else call_problems(load_code(name), arguments, 2)
    if name not in LOSSES:
        return [Problem("", f"'{name}' is not a loss. {suggest(name, LOSSES)} Or module:function.")]
    problems = call_problems(LOSSES[name], arguments, 2)
    for argument, value in arguments.items():
        if argument in _ARGUMENTS and not _ARGUMENTS[argument].takes(value):
            problems.append(Problem(argument, f"{value!r}: must be {_ARGUMENTS[argument].range}."))
    return problems


class _Argument(NamedTuple):
    """The values that an argument of a loss takes, as a predicate and in words."""

    takes: Callable[[object], bool]
    range: str


def _number(
    low: float, high: float = math.inf, *, closed: bool = False
) -> Callable[[object], bool]:
    """Return whether a value is a finite number above `low`, or of at least `low`, below `high`."""

    def takes(value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (low <= value if closed else low < value) and value < high

    return takes


_positive = _number(0)


def _weights(value: object, *, one: Callable[[object], bool] | None = None) -> bool:
    """Return whether a value is "balanced", a list of numbers above 0, or what `one` takes."""
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_positive, value))
    return value == BALANCED or (one is not None and one(value))


def _levels(value: object) -> bool:
    values = _several(value)
    is_share = _number(0, 1)
    return bool(values) and all(map(is_share, values)) and all(a < b for a, b in pairwise(values))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ARGUMENTS: Mapping[str, _Argument] = {
    "label_smoothing": _Argument(_number(0, 1, closed=True), "at least 0 and less than 1"),
    "class_axis": _Argument(
        lambda value: value in (None, -1, 1) and not isinstance(value, bool), "-1 or 1"
    ),
    "ignore_index": _Argument(_whole, "a whole number, such as -100"),
    "weight": _Argument(_weights, "balanced, or a list of one number above 0 per class"),
    "gamma": _Argument(_number(0, closed=True), "a finite number of 0 or more, such as 2"),
    "delta": _Argument(_positive, "a finite number above 0, such as 1"),
    "q": _Argument(_levels, "a number between 0 and 1, or a list of them in ascending order"),
    "pos_weight": _Argument(
        partial(_weights, one=_positive),
        "balanced, a finite number above 0, or a list of one per output",
    ),
    "alpha": _Argument(
        partial(_weights, one=_number(0, 1)),
        "balanced, a list of one number above 0 per class or, for two classes, the weight of "
        "class 1 between 0 and 1",
    ),
}


def _not_a_function(name: str) -> str:
    if not isinstance(load_code(name), type):
        return ""
    return (
        f"'{name}' is a class; name a function of (outputs, targets), such as "
        "torch.nn.functional:cross_entropy, or an instance of the class."
    )
