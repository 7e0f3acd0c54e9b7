"""The objective of a problem: the loss that is trained and the metrics that are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from optrial.code import is_code, load_code
from optrial.models.objective.losses import LOSSES, prediction_of
from optrial.models.objective.metrics import Score, batch_metric, needs_whole_split, split_metric
from optrial.spec import has_units

__all__ = ["Objective", "Units", "build_objective", "widened"]

Value = TypeVar("Value")


class Units(NamedTuple):
    """Shift and factor of standardized values, as numbers or nested lists that broadcast over a
    sample.
    """

    mean: Any
    std: Any

    def original(self, values: Tensor) -> Tensor:
        """Return values, (batch, ...), in their original units."""
        return values * values.new_tensor(self.std) + values.new_tensor(self.mean)


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
        ignored: label of positions that do not count, if targets hold it. A sample then counts by
            the share of its positions that do, for the loss and the metrics of the catalogue.
        by_sample: places, among `metrics`, of those for which each sample counts as one all the
            same: functions of the user.
        class_weights: weight of each class in the mean of the loss, if they differ.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Sequence[Callable[[Tensor, Tensor], Tensor]]
    split_metrics: Mapping[int, Callable[[Tensor, Tensor], Score]] = field(default_factory=dict)
    loss_of_split: bool = False
    ignored: int | None = None
    by_sample: Sequence[int] = ()
    class_weights: Sequence[float] | None = None

    @property
    def needs_outputs(self) -> bool:
        """True if the loss or a metric is computed from all outputs of a split at once."""
        return self.loss_of_split or bool(self.split_metrics)

    def measure(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, (), and the sums of `metrics`, (metrics,), float64.

        Divided by `weight` of the batch, the sums are means. Outputs of lower precision are brought
        to float32 first.
        """
        outputs = widened(outputs)
        sums = self._sums(outputs.detach(), targets)
        if self.ignored is not None and self.by_sample:
            share = self.weight(targets) / len(targets)
            sums = torch.where(self._is_by_sample(sums), share * sums, sums)
        return self.loss(outputs, targets), sums

    def weight(self, targets: Tensor, lead: int = 0) -> Tensor:
        """Return the number of samples of a batch, float64, each by its share of counted positions.

        Args:
            targets: (batch, ...), after further axes.
            lead: number of these axes, which the result has.
        """
        size = targets.shape[lead]
        if self.ignored is None:
            return targets.new_full(targets.shape[:lead], size, dtype=torch.float64)
        counted = (targets != self.ignored).flatten(lead).double().sum(-1)
        return counted / targets.shape[lead + 1 :].numel()

    def loss_weight(self, targets: Tensor) -> Tensor:
        """Return the weight of the mean loss of a batch in a mean over batches, (), float64.

        Args:
            targets: (batch, ...).
        """
        if self.class_weights is None:
            return self.weight(targets)
        counted = torch.ones_like(targets, dtype=torch.bool)
        if self.ignored is not None:
            counted = targets != self.ignored
        table = torch.tensor(self.class_weights, dtype=torch.float64, device=targets.device)
        return torch.where(counted, table[torch.where(counted, targets, 0)], 0.0).sum()

    def weights(self, targets: Tensor) -> Tensor:
        """Return the divisors of the sums of `measure_part` over a split, (1 + metrics,), float64.

        Args:
            targets: all targets of the split.
        """
        weights = self.weight(targets).expand(1 + len(self.metrics)).clone()
        weights[0] = self.loss_weight(targets)
        for place in self.by_sample:
            weights[1 + place] = len(targets)
        return weights

    def _is_by_sample(self, sums: Tensor) -> Tensor:
        places = set(self.by_sample)
        return torch.tensor([i in places for i in range(len(self.metrics))], device=sums.device)

    def measure_part(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contributions of a part of a split to its summed loss and metrics, float64.

        A loss that needs the whole split adds 0.
        """
        outputs = widened(outputs)
        count = self.loss_weight(targets)
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
    ignored: int | None = None,
    units: Units | None = None,
) -> Objective:
    """Return the objective of a loss and metrics that `check_loss` and `check_metric` accept.

    Args:
        loss: name.
        arguments: arguments of the loss.
        metrics: names.
        whole_split: user functions that are not means over samples: names of metrics, or "loss".
        ignored: label of positions that do not count, if targets hold it.
        units: units in which metrics of values are computed; None for those of the targets.
    """
    function = load_code(loss) if is_code(loss) else LOSSES[loss]
    whole = [name for name in metrics if needs_whole_split(name, whole_split)]
    axis = None if is_code(loss) else arguments.get("class_axis")
    assert axis is None or isinstance(axis, int)
    means = [name for name in metrics if name not in whole]
    weights = None if is_code(loss) else arguments.get("weight")
    assert weights is None or isinstance(weights, list | tuple)
    predict = None if is_code(loss) else prediction_of(loss, arguments)
    adapted = partial(_adapted, class_axis=axis, predict=predict, units=units)
    return Objective(
        partial(function, **arguments),
        [adapted(batch_metric(name, ignored), name) for name in means],
        {metrics.index(name): adapted(split_metric(name, ignored), name) for name in whole},
        loss_of_split="loss" in whole_split,
        ignored=ignored,
        by_sample=[place for place, name in enumerate(means) if is_code(name)],
        class_weights=weights,
    )


def _adapted(
    metric: Callable[[Tensor, Tensor], Value],
    name: str,
    class_axis: int | None,
    predict: Callable[[Tensor], Tensor] | None,
    units: Units | None,
) -> Callable[[Tensor, Tensor], Value]:
    """Give a built-in metric predicted values in some units, or logits with the classes last."""
    if is_code(name):
        return metric
    if class_axis is not None:
        return lambda outputs, targets: metric(outputs.movedim(class_axis, -1), targets)
    if units is None or not has_units(name):
        return metric if predict is None else lambda o, targets: metric(predict(o), targets)

    def in_units(outputs: Tensor, targets: Tensor) -> Value:
        values = outputs if predict is None else predict(outputs)
        values = values.reshape(targets.shape)
        return metric(units.original(values), units.original(targets.to(values.dtype)))

    return in_units
