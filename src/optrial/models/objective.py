"""What a model is trained for and judged by: losses and metrics, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from optrial.code import call_problems, importable, is_code, load_code
from optrial.errors import Problem, suggest

__all__ = [
    "LOSSES",
    "METRICS",
    "Objective",
    "build_objective",
    "check_loss",
    "check_metric",
]

_TOP = re.compile(r"top_([1-9]\d*)_accuracy")


@dataclass(frozen=True)
class Objective:
    """A loss and metrics, as functions of one batch's outputs and targets.

    Attributes:
        loss: (outputs, targets) -> mean over the batch, ().
        metrics: each (outputs, targets) -> sum over the batch, ().
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    metrics: Sequence[Callable[[Tensor, Tensor], Tensor]]

    def measure(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss, (), and the sum of each metric, (metrics,), float64.

        Outputs of lower precision are first brought to float32.
        """
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        loss = self.loss(outputs, targets)
        detached = outputs.detach()
        sums = [metric(detached, targets).double() for metric in self.metrics]
        return loss, torch.stack(sums) if sums else loss.new_zeros(0, dtype=torch.float64)


def cross_entropy(outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of (batch, classes) logits with labels (batch,).

    Label smoothing mixes each label with the uniform distribution: Szegedy et al. 2016, section 7.
    """
    return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over batch and outputs; labels count as one-hot vectors."""
    return _squared_errors(outputs, targets).mean()


def mean_output(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean of what the model returns: for models that compute their own loss."""
    del targets
    return outputs.mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "mean_output": mean_output,
}


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """How many samples have the largest output at their label."""
    # `max` gives the first of equals, as `argmax` does, ten times as fast where a stack's outputs
    # are not contiguous.
    return (outputs.max(dim=-1).indices == targets).sum()


def top_k(outputs: Tensor, targets: Tensor, k: int) -> Tensor:
    """How many samples have their label among the k largest outputs."""
    own = outputs.gather(-1, targets.unsqueeze(-1))
    return ((outputs > own).sum(dim=-1) < k).sum()


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the squared error, a mean over the outputs."""
    return _squared_errors(outputs, targets).mean(dim=-1).sum()


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the absolute error, a mean over the outputs."""
    return (outputs - _as_values(outputs, targets)).abs().mean(dim=-1).sum()


METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy,
    "mse": squared_error,
    "mae": absolute_error,
}
"""Besides these, ``top_5_accuracy`` and the like for any number, and ``module:function``."""


def check_loss(name: str, arguments: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a loss."""
    if is_code(name):
        reason = importable(name)
        return [Problem("name", reason)] if reason else call_problems(load_code(name), arguments, 2)
    if name not in LOSSES:
        return [Problem("", f"'{name}' is not a loss. {suggest(name, LOSSES)} Or module:function.")]
    problems = call_problems(LOSSES[name], arguments, 2)
    share = arguments.get("label_smoothing", 0.0)
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share < 1:
        problems.append(Problem("label_smoothing", f"{share!r}: must be a number, 0 ≤ it < 1."))
    return problems


def check_metric(name: str) -> str | None:
    """Return what is wrong with the name of a metric, or None."""
    if is_code(name):
        return importable(name)
    if name in METRICS or _TOP.fullmatch(name):
        return None
    return f"'{name}' is not a metric. {suggest(name, [*METRICS, 'top_5_accuracy'])}"


def build_objective(loss: str, arguments: Mapping[str, Any], metrics: Sequence[str]) -> Objective:
    """Return a loss and metrics by name, as `check_loss` and `check_metric` allow them."""
    function = load_code(loss) if is_code(loss) else LOSSES[loss]
    return Objective(partial(function, **arguments), [_metric(name) for name in metrics])


def _metric(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if is_code(name):
        return _summed(load_code(name))
    if match := _TOP.fullmatch(name):
        return partial(top_k, k=int(match[1]))
    return METRICS[name]


def _summed(metric: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Turn a user's metric, one value a sample or a mean over the batch, into a sum."""

    def total(outputs: Tensor, targets: Tensor) -> Tensor:
        value = torch.as_tensor(metric(outputs, targets))
        return value.sum() if value.ndim else value * len(targets)

    return total


def _squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - _as_values(outputs, targets)) ** 2


def _as_values(outputs: Tensor, targets: Tensor) -> Tensor:
    """Turn labels (batch,) into one-hot vectors in the precision of the outputs."""
    if targets.is_floating_point():
        return targets.to(outputs.dtype)
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    return (targets.unsqueeze(-1) == classes).to(outputs.dtype)
