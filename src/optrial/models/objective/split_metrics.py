"""Built-in metrics that need all outputs of a split at once, computed by scikit-learn.

Each maps outputs, float64 of shape (samples, ...), and targets to a float. Outputs for class labels
are logits: one per class, or a single one, which means class 1 if it is above 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

__all__ = ["Score", "score_of", "split_metrics"]

Array = NDArray[np.float64]
Targets = NDArray[np.number[Any]]
SplitMetric = Callable[[Array, Targets], float]


class Score(NamedTuple):
    """A value of a metric and, if it is not finite, the reason in one line."""

    value: float
    reason: str = ""


def score_of(metric: SplitMetric, outputs: Array, targets: Targets) -> Score:
    """Compute a metric; a value that is not finite comes with the error or the last warning."""
    with warnings.catch_warnings(record=True) as raised, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            value = float(metric(outputs, targets))
        except ValueError as error:  # NaN among the outputs, or a class without samples
            return Score(math.nan, _first_line(error))
    if math.isfinite(value):
        return Score(value)
    return Score(value, _first_line(raised[-1].message) if raised else f"it is {value}")


def _first_line(error: Exception | str) -> str:
    return str(error).partition("\n")[0]


def _labelled(metric: Callable[..., float], outputs: Array, targets: Targets) -> float:
    """Compare predicted with true labels."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:  # one decision per output, single or multi-label
        return metric(targets > 0, outputs > 0)
    return metric(targets, outputs.argmax(axis=1))


def _scored(metric: Callable[..., float], outputs: Array, targets: Targets) -> float:
    """Compare true labels with scores that order the samples."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:
        return metric(targets > 0, outputs)
    if outputs.shape[1] == 2:
        return metric(targets, outputs[:, 1] - outputs[:, 0])
    return metric(targets, softmax(outputs, axis=1))


def _probable(metric: Callable[..., float], outputs: Array, targets: Targets) -> float:
    """Compare true labels with predicted probabilities of all classes."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:
        positive = expit(outputs).ravel()
        outputs, targets = np.stack([1 - positive, positive], axis=1), 1 * (targets.ravel() > 0)
    else:
        outputs = softmax(outputs, axis=1)
    return metric(targets, outputs, labels=np.arange(outputs.shape[1]))


def _valued(metric: Callable[..., float], outputs: Array, targets: Targets) -> float:
    """Compare predicted with true values, (samples, outputs)."""
    return metric(targets.reshape(len(targets), -1), outputs.reshape(len(outputs), -1))


def _largest(metric: Callable[..., float], outputs: Array, targets: Targets) -> float:
    """Compare predicted with true values, all outputs taken together."""
    return metric(targets.ravel(), outputs.ravel())


def _rows(outputs: Array, targets: Targets) -> tuple[Array, Targets]:
    """Return logits (samples, classes) with labels (samples,), or both of one shape.

    The positions of a sequence count as samples.
    """
    if outputs.size == targets.size:
        return outputs.reshape(targets.shape), targets
    if outputs.ndim > 2 and outputs.shape[:-1] != targets.shape:
        outputs = np.moveaxis(outputs, 1, -1)  # PyTorch's order: classes before positions
    return outputs.reshape(-1, outputs.shape[-1]), targets.ravel()


@cache
def split_metrics() -> Mapping[str, SplitMetric]:
    """Return the metrics by name; see `optrial.spec.METRICS`."""
    from sklearn import metrics  # noqa: PLC0415  (a second to import)

    f1 = partial(metrics.f1_score, zero_division=0)
    precision = partial(metrics.precision_score, zero_division=0)
    recall = partial(metrics.recall_score, zero_division=0)
    return {
        "balanced_accuracy": partial(_labelled, metrics.balanced_accuracy_score),
        "f1": partial(_labelled, f1),
        "f1_macro": partial(_labelled, partial(f1, average="macro")),
        "f1_micro": partial(_labelled, partial(f1, average="micro")),
        "f1_weighted": partial(_labelled, partial(f1, average="weighted")),
        "precision": partial(_labelled, precision),
        "precision_macro": partial(_labelled, partial(precision, average="macro")),
        "recall": partial(_labelled, recall),
        "recall_macro": partial(_labelled, partial(recall, average="macro")),
        "matthews": partial(_labelled, metrics.matthews_corrcoef),
        "cohen_kappa": partial(_labelled, metrics.cohen_kappa_score),
        "roc_auc": partial(_scored, partial(metrics.roc_auc_score, multi_class="ovr")),
        "average_precision": partial(_scored, metrics.average_precision_score),
        "log_loss": partial(_probable, metrics.log_loss),
        "brier": partial(_probable, metrics.brier_score_loss),
        "rmse": partial(_valued, metrics.root_mean_squared_error),
        "r2": partial(_valued, metrics.r2_score),
        "explained_variance": partial(_valued, metrics.explained_variance_score),
        "mape": partial(_valued, metrics.mean_absolute_percentage_error),
        "msle": partial(_valued, metrics.mean_squared_log_error),
        "rmsle": partial(_valued, metrics.root_mean_squared_log_error),
        "median_absolute_error": partial(_valued, metrics.median_absolute_error),
        "max_error": partial(_largest, metrics.max_error),
    }
