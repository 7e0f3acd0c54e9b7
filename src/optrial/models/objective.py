"""What a model is trained for and judged by: a loss by name, with metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from optrial.code import call_problems, importable, is_code, load_code
from optrial.errors import Problem, suggest
from optrial.models.metrics import (
    Score,
    as_values,
    batch_metric,
    needs_whole_split,
    split_metric,
)

__all__ = [
    "LOSSES",
    "Objective",
    "build_objective",
    "check_loss",
    "class_axes",
    "widened",
]


Value = TypeVar("Value")


@dataclass(frozen=True)
class Objective:
    """A loss and metrics, as functions of outputs and targets.

    Attributes:
        loss: of a batch: (outputs, targets) -> mean over the batch, ().
        metrics: those that are means over samples, of a batch: (outputs, targets) -> sum over the
            batch, ().
        split_metrics: those that need all outputs of a split, by their place among all metrics.
        loss_of_split: whether the loss is not a mean over samples, such as one weighted by class;
            then that of a split is computed from all its outputs.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Sequence[Callable[[Tensor, Tensor], Tensor]]
    split_metrics: Mapping[int, Callable[[Tensor, Tensor], Score]] = field(default_factory=dict)
    loss_of_split: bool = False

    @property
    def needs_outputs(self) -> bool:
        """Whether anything is computed from all outputs of a split at once."""
        return self.loss_of_split or bool(self.split_metrics)

    def measure(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, (), and the sum of each of `metrics`, float64.

        Outputs of lower precision are first brought to float32.
        """
        outputs = widened(outputs)
        loss = self.loss(outputs, targets)
        detached = outputs.detach()
        sums = [metric(detached, targets).double() for metric in self.metrics]
        return loss, torch.stack(sums) if sums else loss.new_zeros(0, dtype=torch.float64)

    def measure_part(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a part of a split adds to its loss, (), and to `metrics`, float64.

        A loss that needs the whole split adds 0.
        """
        outputs = widened(outputs)
        count = outputs.new_tensor(len(targets), dtype=torch.float64)
        loss = 0 * count if self.loss_of_split else self.loss(outputs, targets).double() * count
        sums = [metric(outputs, targets).double() for metric in self.metrics]
        return loss, torch.stack(sums) if sums else loss.new_zeros(0)


def widened(outputs: Tensor) -> Tensor:
    """Bring outputs of lower precision to float32."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def cross_entropy(
    outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0, class_axis: int | None = None
) -> Tensor:
    """Mean cross entropy of (batch, classes) logits with labels (batch,).

    Labels per position, (batch, positions...), take logits (batch, positions..., classes), or
    (batch, classes, positions...) as in PyTorch; the mean is over batch and positions. Label
    smoothing mixes each label with the uniform distribution: Szegedy et al. 2016, section 7.

    Args:
        outputs: logits.
        targets: labels.
        label_smoothing: share of the uniform distribution.
        class_axis: axis of the classes, -1 or 1; by default told by the shapes.
    """
    axis = class_axis or (class_axes(outputs.shape, targets.shape) or (1,))[0]
    return functional.cross_entropy(
        outputs.movedim(axis, 1), targets, label_smoothing=label_smoothing
    )


def class_axes(outputs: Sequence[int], targets: Sequence[int]) -> list[int]:
    """Return the axes of logits of a shape on which the classes of labels may lie.

    Args:
        outputs: shape of logits, (batch, positions..., classes) or (batch, classes, positions...).
        targets: shape of labels, (batch, positions...).
    """
    outputs, targets = tuple(outputs), tuple(targets)
    axes = [-1, 1] if len(targets) > 1 else [1]
    left = {-1: outputs[:-1], 1: (*outputs[:1], *outputs[2:])}
    return [axis for axis in axes if len(outputs) > 1 and left[axis] == targets]


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of logits with 0 and 1, or probabilities, over batch and outputs.

    A single logit, (batch,) or (batch, 1), takes labels (batch,); several take targets of their own
    shape.
    """
    wanted = targets.to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, wanted.reshape(outputs.shape))


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over batch and outputs; labels (batch,) count as one-hot vectors."""
    return ((outputs - as_values(outputs, targets)) ** 2).mean()


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of what the model returns: for models that compute their own loss."""
    del targets
    return outputs.mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "bce": bce,
    "mse": mse,
    "mean_output": mean_output,
}


def check_loss(name: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a loss."""
    if is_code(name):
        reason = importable(name)
        reason = reason or _why_no_function(name)
        return [Problem("name", reason)] if reason else call_problems(load_code(name), arguments, 2)
    if name not in LOSSES:
        return [Problem("", f"'{name}' is not a loss. {suggest(name, LOSSES)} Or module:function.")]
    problems = call_problems(LOSSES[name], arguments, 2)
    share = arguments.get("label_smoothing", 0.0)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share < 1:
        problems.append(Problem("label_smoothing", f"{share!r}: must be a number, 0 ≤ it < 1."))
    axis = arguments.get("class_axis")
    if axis not in (None, -1, 1) or isinstance(axis, bool):
        problems.append(Problem("class_axis", f"{axis!r}: must be -1 or 1."))
    return problems


def _why_no_function(name: str) -> str:
    if not isinstance(load_code(name), type):
        return ""
    return (
        f"'{name}' is a class; name a function of (outputs, targets), such as "
        "torch.nn.functional:cross_entropy, or an instance of the class."
    )


def build_objective(
    loss: str,
    arguments: Mapping[str, Any],
    metrics: Sequence[str],
    whole_split: Collection[str] = (),
) -> Objective:
    """Return a loss and metrics by name, as `check_loss` and `check_metric` allow them.

    Args:
        loss: its name.
        arguments: of the loss.
        metrics: their names.
        whole_split: user functions that are not means over samples: names of metrics, "loss".
    """
    function = load_code(loss) if is_code(loss) else LOSSES[loss]
    whole = [name for name in metrics if needs_whole_split(name, whole_split)]
    axis = None if is_code(loss) else arguments.get("class_axis")
    return Objective(
        partial(function, **arguments),
        [_classes_last(batch_metric, name, axis) for name in metrics if name not in whole],
        {metrics.index(name): _classes_last(split_metric, name, axis) for name in whole},
        loss_of_split="loss" in whole_split,
    )


def _classes_last(
    build: Callable[[str], Callable[[Tensor, Tensor], Value]], name: str, class_axis: int | None
) -> Callable[[Tensor, Tensor], Value]:
    """Build a metric; one of the catalogue gets the classes last where the loss says their axis."""
    metric = build(name)
    if class_axis is None or is_code(name):
        return metric
    return lambda outputs, targets: metric(outputs.movedim(class_axis, -1), targets)
