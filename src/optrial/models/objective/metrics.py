"""Metrics by name: sums over batches, or values computed from all outputs of a split."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from optrial.code import importable, is_code, load_code
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.models.objective.losses import as_values
from optrial.models.objective.split_metrics import Score, score_of
from optrial.spec import METRICS, catalogued

__all__ = [
    "Score",
    "batch_metric",
    "check_metric",
    "mean_value",
    "needs_whole_split",
    "split_metric",
]

_TOP = re.compile(r"top_([1-9]\d*)_accuracy")

UserFunction = Callable[[Tensor, Tensor], object]


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
        name: name of the metric.
        whole_split: user functions that are not means over samples.
    """
    metric = None if is_code(name) else catalogued(name)
    return metric.whole_split if metric else name in whole_split


def batch_metric(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of outputs and targets that sums a mean metric over the samples, ()."""
    if is_code(name):
        function = load_code(name)
        return lambda outputs, targets: mean_value(function, outputs, targets) * len(targets)
    if top := _TOP.fullmatch(name):
        return partial(top_k, k=int(top[1]))
    return _SUMS[name]


def split_metric(name: str) -> Callable[[Tensor, Tensor], Score]:
    """Return a function of all outputs and targets of a split, (samples, ...)."""
    if is_code(name):
        return partial(_user_score, name, load_code(name))
    return lambda outputs, targets: score_of(
        name, outputs.double().cpu().numpy(), targets.cpu().numpy()
    )


def mean_value(function: UserFunction, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the value of a user function, (), float64; one value per sample is averaged."""
    value = function(outputs, targets)
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.asarray(value, np.float64)).to(outputs.device)
    value = value.detach()
    return value.double().mean() if value.ndim else value.double()


def _user_score(name: str, function: UserFunction, outputs: Tensor, targets: Tensor) -> Score:
    """Return the value of a user function, or NaN with the error that it raised."""
    try:
        value = float(mean_value(function, outputs, targets))
    except USER_CODE_ERRORS as error:
        return Score(math.nan, f"'{name}' raised {one_line(error)}")
    return Score(value, "" if math.isfinite(value) else f"'{name}' returned {value}")


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Count the samples whose class is predicted: the largest output, or the sign of a single one.

    A sample of several positions counts by its share of right positions; a sample of several labels
    counts if all are right.
    """
    if outputs.numel() == targets.numel():
        right = (outputs.reshape(targets.shape) > 0) == (targets > 0.5)
        return right.reshape(len(right), -1).all(dim=-1).sum()
    # Like `argmax`, `max` returns the first of equal values; it is ten times as fast where the
    # outputs of a stack are not contiguous.
    return _count(_classes_last(outputs, targets).max(dim=-1).indices == targets)


def top_k(outputs: Tensor, targets: Tensor, k: int) -> Tensor:
    """Count the samples whose label is among the k largest outputs."""
    outputs = _classes_last(outputs, targets)
    of_label = outputs.gather(-1, targets.unsqueeze(-1))
    return _count((outputs > of_label).sum(dim=-1) < k)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the squared error, averaged over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)) ** 2).sum()


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the absolute error, averaged over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)).abs()).sum()


_SUMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy,
    "mse": squared_error,
    "mae": absolute_error,
}


def _count(right: Tensor) -> Tensor:
    """Count right samples, (batch,); add up the shares of right positions, (batch, ...)."""
    return right.sum() if right.ndim == 1 else _per_sample(right.double()).sum()


def _per_sample(values: Tensor) -> Tensor:
    """Average over all but the first dimension."""
    return values.reshape(len(values), -1).mean(dim=-1)


def _classes_last(outputs: Tensor, targets: Tensor) -> Tensor:
    """Bring logits from PyTorch's order, (batch, classes, positions), to (..., classes)."""
    if outputs.shape[:-1] == targets.shape:
        return outputs
    return outputs.movedim(1, -1)
