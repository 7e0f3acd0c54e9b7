"""Built-in metrics that need all outputs of a split at once, computed by scikit-learn.

Each maps outputs, float64 of shape (samples, ...), and targets to a float. Outputs for class labels
are logits: one per class, or a single one, which means class 1 if it is above 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import NDArray

from optrial.models.objective.ranks import log_odds, tied

__all__ = ["Score", "score_of"]

Array = NDArray[np.float64]
Targets = NDArray[np.number[Any]]
Function = Callable[..., float]


class Score(NamedTuple):
    """A value of a metric and, if it is not finite, the reason in one line."""

    value: float
    reason: str = ""


def score_of(name: str, outputs: Array, targets: Targets, rounding: float = 0.0) -> Score:
    """Compute a metric by name; the reason is scikit-learn's error or its last warning.

    Args:
        name: name of the metric.
        outputs: (samples, ...).
        targets: (samples, ...).
        rounding: relative error of one rounding in the type that the outputs were computed in;
            metrics of ranks take scores as tied that rounding alone may tell apart.
    """
    entry = _METRICS[name]
    compare = partial(_scored, rounding=rounding) if entry.compare is _scored else entry.compare
    # Importing scikit-learn takes two seconds, so only these metrics import it.
    function = partial(getattr(import_module("sklearn.metrics"), entry.function), **entry.arguments)
    with warnings.catch_warnings(record=True) as raised, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            value = float(compare(function, outputs, targets))
        except ValueError as error:  # NaN among the outputs, or a class without samples
            return Score(math.nan, _first_line(error))
    if math.isfinite(value):
        return Score(value)
    return Score(value, _first_line(raised[-1].message) if raised else f"it is {value}")


def _first_line(error: Warning | Exception | str) -> str:
    return str(error).partition("\n")[0]


def _labelled(metric: Function, outputs: Array, targets: Targets) -> float:
    """Compare predicted with true labels."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:  # one decision per output, single or multi-label
        return metric(targets > 0, outputs > 0)
    return metric(targets, outputs.argmax(axis=1))


def _scored(metric: Function, outputs: Array, targets: Targets, rounding: float = 0.0) -> float:
    """Compare true labels with scores that order the samples."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:
        return metric(targets > 0, tied(outputs, outputs, rounding))
    if outputs.shape[1] == 2:
        return metric(targets, tied(outputs[:, 1] - outputs[:, 0], outputs, rounding))
    classes = targets[:, None] == np.arange(outputs.shape[1])
    if not classes.any(axis=0).all():
        raise ValueError(f"no sample of class {classes.any(axis=0).argmin()}")
    return metric(classes, tied(log_odds(outputs), outputs, rounding))


def _probable(metric: Function, outputs: Array, targets: Targets) -> float:
    """Compare true labels with predicted probabilities of all classes."""
    outputs, targets = _rows(outputs, targets)
    if outputs.shape == targets.shape:
        positive = scipy.special.expit(outputs).ravel()
        outputs, targets = np.stack([1 - positive, positive], axis=1), 1 * (targets.ravel() > 0)
    else:
        outputs = scipy.special.softmax(outputs, axis=1)
    return metric(targets, outputs, labels=np.arange(outputs.shape[1]))


def _valued(metric: Function, outputs: Array, targets: Targets) -> float:
    """Compare predicted with true values, (samples, outputs)."""
    return metric(targets.reshape(len(targets), -1), outputs.reshape(len(outputs), -1))


def _largest(metric: Function, outputs: Array, targets: Targets) -> float:
    """Compare predicted with true values, all outputs taken together."""
    return metric(targets.ravel(), outputs.ravel())


def _rows(outputs: Array, targets: Targets) -> tuple[Array, Targets]:
    """Return logits (samples, classes) with labels (samples,), or both (samples,) or (samples, n).

    The positions of a sequence count as samples, the pixels of a mask as several labels.
    """
    if outputs.size == targets.size:
        shape = targets.shape[:2] if targets.ndim < 3 else (len(targets), -1)
        return outputs.reshape(shape), targets.reshape(shape)
    if outputs.ndim > 2 and outputs.shape[:-1] != targets.shape:
        outputs = np.moveaxis(outputs, 1, -1)  # PyTorch's order: classes before positions
    return outputs.reshape(-1, outputs.shape[-1]), targets.ravel()


class _Metric(NamedTuple):
    """A function of `sklearn.metrics`, its arguments, and the comparison that calls it."""

    compare: Callable[[Function, Array, Targets], float]
    function: str
    arguments: Mapping[str, object] = {}


def _averaged(function: str, average: str = "binary") -> _Metric:
    return _Metric(_labelled, function, {"average": average, "zero_division": 0})


_METRICS: Mapping[str, _Metric] = {
    "balanced_accuracy": _Metric(_labelled, "balanced_accuracy_score"),
    "f1": _averaged("f1_score"),
    "f1_macro": _averaged("f1_score", "macro"),
    "f1_micro": _averaged("f1_score", "micro"),
    "f1_weighted": _averaged("f1_score", "weighted"),
    "precision": _averaged("precision_score"),
    "precision_macro": _averaged("precision_score", "macro"),
    "recall": _averaged("recall_score"),
    "recall_macro": _averaged("recall_score", "macro"),
    "matthews": _Metric(_labelled, "matthews_corrcoef"),
    "cohen_kappa": _Metric(_labelled, "cohen_kappa_score"),
    "roc_auc": _Metric(_scored, "roc_auc_score"),
    "average_precision": _Metric(_scored, "average_precision_score"),
    "log_loss": _Metric(_probable, "log_loss"),
    "brier": _Metric(_probable, "brier_score_loss"),
    "rmse": _Metric(_valued, "root_mean_squared_error"),
    "r2": _Metric(_valued, "r2_score"),
    "explained_variance": _Metric(_valued, "explained_variance_score"),
    "mape": _Metric(_valued, "mean_absolute_percentage_error"),
    "msle": _Metric(_valued, "mean_squared_log_error"),
    "rmsle": _Metric(_valued, "root_mean_squared_log_error"),
    "median_absolute_error": _Metric(_valued, "median_absolute_error"),
    "max_error": _Metric(_largest, "max_error"),
    "poisson_deviance": _Metric(_largest, "mean_poisson_deviance"),
}
