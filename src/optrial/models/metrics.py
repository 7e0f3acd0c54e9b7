"""Metrics by name: as sums over batches, or from all outputs of a split."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from optrial.code import importable, is_code, load_code
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.models.split_metrics import guarded, split_metrics
from optrial.spec import METRICS, catalogued

__all__ = [
    "Score",
    "as_values",
    "batch_metric",
    "check_metric",
    "needs_whole_split",
    "own_value",
    "split_metric",
]

_TOP = re.compile(r"top_([1-9]\d*)_accuracy")


class Score(NamedTuple):
    """A value of a metric; where it is not finite, the reason in one line."""

    value: float
    reason: str = ""


def check_metric(name: str) -> str | None:
    """Return what is wrong with the name of a metric, or None."""
    if is_code(name):
        return importable(name)
    if catalogued(name):
        return None
    return f"'{name}' is not a metric. {suggest(name, [*METRICS, 'top_5_accuracy'])}"


def needs_whole_split(name: str, whole_split: Collection[str]) -> bool:
    """Return whether a metric is computed from all outputs of a split at once.

    Args:
        name: of the metric.
        whole_split: user functions that are not means over samples.
    """
    metric = None if is_code(name) else catalogued(name)
    return metric.whole_split if metric else name in whole_split


def batch_metric(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of outputs and targets that sums a mean metric over the samples, ()."""
    if is_code(name):
        return partial(_summed, load_code(name))
    if top := _TOP.fullmatch(name):
        return partial(top_k, k=int(top[1]))
    return _SUMS[name]


def split_metric(name: str) -> Callable[[Tensor, Tensor], Score]:
    """Return a function of all outputs and targets of a split, (samples, ...)."""
    if is_code(name):
        return partial(_own, name, load_code(name))
    metric = split_metrics()[name]

    def score(outputs: Tensor, targets: Tensor) -> Score:
        predicted, true = outputs.double().cpu().numpy(), targets.cpu().numpy()
        return Score(*guarded(metric, predicted, true))

    return score


def own_value(function: Callable[..., Any], outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the value, (), of a user's function, which may return one value per sample."""
    value = function(outputs, targets)
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.asarray(value, np.float64)).to(outputs.device)
    value = value.detach()
    return value.double().mean() if value.ndim else value.double()


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count the samples whose class is predicted: by the largest output, a single one by its sign.

    The positions of a sequence count as parts of a sample; of several labels all must be right.
    """
    if outputs.numel() == targets.numel():
        right = (outputs.reshape(targets.shape) > 0) == (targets > 0.5)
        return right.reshape(len(right), -1).all(dim=-1).sum()
    # `max` gives the first of equals, as `argmax` does, ten times as fast where a stack's outputs
    # are not contiguous.
    return _count(_classes_last(outputs, targets).max(dim=-1).indices == targets)


def top_k(outputs: Tensor, targets: Tensor, k: int) -> Tensor:
    """Count the samples whose label is among the k largest outputs."""
    outputs = _classes_last(outputs, targets)
    own = outputs.gather(-1, targets.unsqueeze(-1))
    return _count((outputs > own).sum(dim=-1) < k)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the squared error, a mean over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)) ** 2).sum()


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the absolute error, a mean over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)).abs()).sum()


_SUMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy,
    "mse": squared_error,
    "mae": absolute_error,
}


def as_values(outputs: Tensor, targets: Tensor) -> Tensor:
    """Turn labels (batch,) into one-hot vectors in the precision of the outputs."""
    if targets.is_floating_point():
        return targets.to(outputs.dtype)
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    return (targets.unsqueeze(-1) == classes).to(outputs.dtype)


def _count(right: Tensor) -> Tensor:
    """Count the samples that are right, (batch,); of positions, add up the share of each sample."""
    return right.sum() if right.ndim == 1 else _per_sample(right.double()).sum()


def _per_sample(values: Tensor) -> Tensor:
    """Average over all but the first dimension."""
    return values.reshape(len(values), -1).mean(dim=-1)


def _classes_last(outputs: Tensor, targets: Tensor) -> Tensor:
    """Bring logits from PyTorch's order, (batch, classes, positions), to (..., classes)."""
    if outputs.shape[:-1] == targets.shape:
        return outputs
    return outputs.movedim(1, -1)


def _summed(function: Callable[..., Any], outputs: Tensor, targets: Tensor) -> Tensor:
    """Turn a user's function, one value per sample or their mean, into a sum over the samples."""
    return own_value(function, outputs, targets) * len(targets)


def _own(name: str, function: Callable[..., Any], outputs: Tensor, targets: Tensor) -> Score:
    """Return the value of a user's function; what it raises is the reason why there is none."""
    try:
        value = float(own_value(function, outputs, targets))
    except USER_CODE_ERRORS as error:  # whatever the user's code raises
        reason = one_line(error)
        return Score(float("nan"), f"'{name}' raised {reason}")
    finite = torch.isfinite(torch.tensor(value))
    return Score(value, "" if finite else f"'{name}' returned {value}")
