"""Metrics by name: sums over batches, or values computed from all outputs of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from optrial.code import importable, is_code, load_code
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.models.objective.losses import as_values
from optrial.models.objective.split_metrics import Score, score_of
from optrial.spec import METRICS, PER_TOKEN, catalogued, top_count
from optrial.target_kinds import IGNORE_INDEX

__all__ = [
    "Score",
    "batch_metric",
    "check_metric",
    "finished",
    "mean_value",
    "needs_whole_split",
    "split_metric",
]


UserFunction = Callable[[Tensor, Tensor], object]
FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])


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


def batch_metric(name: str, ignored: int | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of outputs and targets that sums a mean metric over the samples, ().

    Args:
        name: name of the metric.
        ignored: label of positions that do not count, if targets hold it. A metric of the catalogue
            then adds up over the samples the share of all positions that are right and count.
    """
    if is_code(name):
        function = load_code(name)
        return lambda outputs, targets: mean_value(function, outputs, targets) * len(targets)
    if top := top_count(name):
        return partial(top_k, k=top, ignored=ignored)
    if function := _BY_POSITION.get(name):
        return partial(function, ignored=ignored)
    return _SUMS[name]


def split_metric(name: str, ignored: int | None = None) -> Callable[[Tensor, Tensor], Score]:
    """Return a function of all outputs and targets of a split, (samples, ...)."""
    if is_code(name):
        return partial(_user_score, name, load_code(name))

    def score(outputs: Tensor, targets: Tensor) -> Score:
        if ignored is not None:
            counted = targets != ignored
            outputs, targets = _classes_last(outputs, targets)[counted], targets[counted]
        rounding = torch.finfo(outputs.dtype).eps / 2
        return score_of(name, outputs.double().cpu().numpy(), targets.cpu().numpy(), rounding)

    return score


def finished(name: str, mean: FloatOrArray, bytes_per_token: float | None) -> FloatOrArray:
    """Return a metric from its mean over positions.

    The means of `PER_TOKEN` are cross entropies in nats, so that they add up over batches.

    Args:
        name: name of the metric.
        mean: its mean.
        bytes_per_token: mean length of the tokens of the split in bytes.
    """
    match name:
        case "perplexity":
            with np.errstate(over="ignore"):  # infinite beyond float64, and reported as such
                perplexity: FloatOrArray = np.exp(mean)
            return perplexity
        case "bits_per_token":
            return mean / math.log(2)
        case "bits_per_byte":
            return mean / (math.log(2) * (bytes_per_token or math.nan))
    return mean


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


def accuracy(outputs: Tensor, targets: Tensor, ignored: int | None = None) -> Tensor:
    """Count the samples whose class is predicted: the largest output, or the sign of a single one.

    A sample of several positions counts by its share of right positions; a sample of several labels
    counts if all are right. Positions with the label `ignored` are never right.
    """
    if outputs.numel() == targets.numel():
        right = (outputs.reshape(targets.shape) > 0) == (targets > 0.5)
        return right.reshape(len(right), -1).all(dim=-1).sum()
    # Like `argmax`, `max` returns the first of equal values; it is ten times as fast where the
    # outputs of a stack are not contiguous.
    right = _classes_last(outputs, targets).max(dim=-1).indices == targets
    return _count(right if ignored is None else right & (targets != ignored))


def top_k(outputs: Tensor, targets: Tensor, k: int, ignored: int | None = None) -> Tensor:
    """Count the samples whose label is among the k largest outputs, of equal ones the first."""
    outputs, labels = _classes_last(outputs, targets), targets
    if ignored is not None:
        labels = torch.where(targets == ignored, 0, targets)
    labels = labels.unsqueeze(-1)
    of_label = outputs.gather(-1, labels)
    earlier = torch.arange(outputs.shape[-1], device=outputs.device) < labels
    ahead = torch.where(outputs == of_label, earlier, ~(outputs < of_label))  # as NaN is, too
    right = ahead.sum(dim=-1) < k
    return _count(right if ignored is None else right & (targets != ignored))


def cross_entropies(outputs: Tensor, targets: Tensor, ignored: int | None = None) -> Tensor:
    """Sum over samples of the cross entropy in nats, averaged over all positions."""
    outputs = _classes_last(outputs, targets)
    entropies = functional.cross_entropy(
        outputs.flatten(0, -2),
        targets.flatten(),
        reduction="none",
        ignore_index=IGNORE_INDEX if ignored is None else ignored,
    )
    return _per_sample(entropies.double().reshape(targets.shape)).sum()


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the squared error, averaged over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)) ** 2).sum()


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Sum over samples of the absolute error, averaged over the outputs."""
    return _per_sample((outputs - as_values(outputs, targets)).abs()).sum()


_BY_POSITION: Mapping[str, Callable[..., Tensor]] = {
    "accuracy": accuracy,
    **dict.fromkeys(PER_TOKEN, cross_entropies),
}
_SUMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
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
