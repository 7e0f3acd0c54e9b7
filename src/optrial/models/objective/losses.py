"""Losses by name: means over a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from optrial.code import call_problems, importable, is_code, load_code
from optrial.errors import Problem, suggest
from optrial.target_kinds import IGNORE_INDEX

__all__ = ["LOSSES", "as_values", "check_loss", "class_axes"]


def cross_entropy(
    outputs: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    class_axis: int | None = None,
    ignore_index: int = IGNORE_INDEX,
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
    """
    axis = class_axis or (class_axes(outputs.shape, targets.shape) or (1,))[0]
    return functional.cross_entropy(
        outputs.movedim(axis, 1),
        targets,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
    )


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of logits with 0 and 1, or probabilities, over batch and outputs.

    A single logit, (batch,) or (batch, 1), takes labels (batch,); several logits take targets of
    the same shape.
    """
    wanted = targets.to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, wanted.reshape(outputs.shape))


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over batch and outputs; labels (batch,) count as one-hot vectors."""
    return ((outputs - as_values(outputs, targets)) ** 2).mean()


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of the model's outputs, for models that compute their loss themselves."""
    del targets
    return outputs.mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bce": bce,
    "mse": mse,
    "mean_output": mean_output,
}


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
    share = arguments.get("label_smoothing", 0.0)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share < 1:
        problems.append(
            Problem("label_smoothing", f"{share!r}: must be at least 0 and less than 1.")
        )
    axis = arguments.get("class_axis")
    if axis not in (None, -1, 1) or isinstance(axis, bool):
        problems.append(Problem("class_axis", f"{axis!r}: must be -1 or 1."))
    index = arguments.get("ignore_index", IGNORE_INDEX)
    if not isinstance(index, int) or isinstance(index, bool):
        problems.append(
            Problem("ignore_index", f"{index!r}: must be a whole number, such as -100.")
        )
    return problems


def _not_a_function(name: str) -> str:
    if not isinstance(load_code(name), type):
        return ""
    return (
        f"'{name}' is a class; name a function of (outputs, targets), such as "
        "torch.nn.functional:cross_entropy, or an instance of the class."
    )
