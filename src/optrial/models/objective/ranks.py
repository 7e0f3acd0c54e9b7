"""Scores that order samples, for metrics of ranks: log odds, with samples tied up to rounding.

Outputs that are equal in exact arithmetic, such as those of samples for which the same units are
dead, differ in their last digits, in another way in each engine. Ranks would count these digits.
"""

from __future__ import annotations

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import NDArray

__all__ = ["log_odds", "tied"]

Array = NDArray[np.float64]

_ROUNDINGS = 64
"""Roundings by which two equal scores may differ: those of a sum of a few thousand terms."""

_LARGEST = float(np.finfo(np.float64).max)


def log_odds(logits: Array) -> Array:
    """Return the log odds of each class against the rest, (samples, classes), of logits.

    They order the samples of a class as its probability does, which rounds to 1 for many.
    """
    rows, likeliest = np.arange(len(logits)), logits.argmax(axis=1)
    logs = scipy.special.log_softmax(logits, axis=1)
    odds: Array = logs - np.log1p(-np.exp(np.minimum(logs, -np.log(2))))  # at most 1/2, but one
    others = logits.copy()
    others[rows, likeliest] = -np.inf
    odds[rows, likeliest] = logits[rows, likeliest] - scipy.special.logsumexp(others, axis=1)
    return odds.clip(-_LARGEST, _LARGEST)  # a logit of -inf rules a class out


def tied(scores: Array, outputs: Array, rounding: float) -> Array:
    """Make scores equal that rounding alone may tell apart, and keep the order of the others.

    In ascending order, scores closer to the next than the error of rounding form a group. All of a
    group get its smallest score, or, in a group wider than the error, the nearest multiple of the
    error below, counted from there. So no score changes by more than the error.

    Args:
        scores: (samples,) or (samples, n); each column is ordered by itself.
        outputs: the outputs that they come from, (samples, ...). The scale of the error of a sample
            is its largest magnitude, or the median of those of all samples if that is larger.
        rounding: relative error of one rounding of the outputs; 0 leaves the scores as they are.
    """
    if not (rounding and np.isfinite(scores).all()):
        return scores
    finite = np.abs(np.where(np.isfinite(outputs), outputs, 0))
    largest = finite.reshape(len(outputs), -1).max(axis=1)
    columns = scores.reshape(len(scores), -1)
    order = columns.argsort(axis=0)
    ascending = np.take_along_axis(columns, order, axis=0)
    error = (_ROUNDINGS * rounding * np.maximum(largest, np.median(largest)))[order]
    error = np.maximum(error, np.finfo(np.float64).tiny)
    apart = np.ones_like(order, dtype=bool)
    apart[1:] = np.diff(ascending, axis=0) > np.minimum(error[1:], error[:-1])
    places = np.where(apart, np.arange(len(order))[:, None], 0)
    start = np.maximum.accumulate(places, axis=0)
    first, error = (np.take_along_axis(array, start, axis=0) for array in (ascending, error))
    result = np.empty_like(columns)
    steps = np.floor((ascending - first) / error)
    np.put_along_axis(result, order, first + error * steps, axis=0)
    return result.reshape(scores.shape)
