"""The objective of a problem: the loss that is trained and the metrics that are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from optrial.code import is_code, load_code
from optrial.models.objective.losses import LOSSES
from optrial.models.objective.metrics import Score, batch_metric, needs_whole_split, split_metric

__all__ = ["Objective", "build_objective", "widened"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Objective:
    """A loss and metrics, as functions of outputs and targets.

    Attributes:
        loss: (outputs, targets) of a batch -> mean over the batch, ().
        metrics: metrics that are means over samples; each maps (outputs, targets) of a batch to the
            sum over the batch, ().
        split_metrics: metrics that need all outputs of a split, by their place among all metrics.
        loss_of_split: whether the loss is not a mean over samples, such as a loss weighted by
            class. The loss of a split is then computed from all its outputs.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Sequence[Callable[[Tensor, Tensor], Tensor]]
    split_metrics: Mapping[int, Callable[[Tensor, Tensor], Score]] = field(default_factory=dict)
    loss_of_split: bool = False

    @property
    def needs_outputs(self) -> bool:
        """True if the loss or a metric is computed from all outputs of a split at once."""
        return self.loss_of_split or bool(self.split_metrics)

    def measure(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, (), and the sums of `metrics`, (metrics,), float64.

        Outputs of lower precision are brought to float32 first.
        """
        outputs = widened(outputs)
        return self.loss(outputs, targets), self._sums(outputs.detach(), targets)

    def measure_part(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contributions of a part of a split to its summed loss and metrics, float64.

        A loss that needs the whole split adds 0.
        """
        outputs = widened(outputs)
        count = outputs.new_tensor(len(targets), dtype=torch.float64)
        loss = 0 * count if self.loss_of_split else self.loss(outputs, targets).double() * count
        return loss, self._sums(outputs, targets)

    def _sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        sums = [metric(outputs, targets).double() for metric in self.metrics]
        return torch.stack(sums) if sums else outputs.new_zeros(0, dtype=torch.float64)


def widened(outputs: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; return other types unchanged."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def build_objective(
    loss: str,
    arguments: Mapping[str, object],
    metrics: Sequence[str],
    whole_split: Collection[str] = (),
) -> Objective:
    """Return the objective of a loss and metrics that `check_loss` and `check_metric` accept.

    Args:
        loss: name.
        arguments: arguments of the loss.
        metrics: names.
        whole_split: user functions that are not means over samples: names of metrics, or "loss".
    """
    function = load_code(loss) if is_code(loss) else LOSSES[loss]
    whole = [name for name in metrics if needs_whole_split(name, whole_split)]
    axis = None if is_code(loss) else arguments.get("class_axis")
    assert axis is None or isinstance(axis, int)
    return Objective(
        partial(function, **arguments),
        [_classes_last(batch_metric, name, axis) for name in metrics if name not in whole],
        {metrics.index(name): _classes_last(split_metric, name, axis) for name in whole},
        loss_of_split="loss" in whole_split,
    )


def _classes_last(
    build: Callable[[str], Callable[[Tensor, Tensor], Value]], name: str, class_axis: int | None
) -> Callable[[Tensor, Tensor], Value]:
    """Build a metric; move the classes to the last axis for a built-in one."""
    metric = build(name)
    if class_axis is None or is_code(name):
        return metric
    return lambda outputs, targets: metric(outputs.movedim(class_axis, -1), targets)
