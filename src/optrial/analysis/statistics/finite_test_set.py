"""Resolution of a finite test set: noise that more seeds do not remove."""

from __future__ import annotations

import math

import scipy  # imports its modules when they are first used

__all__ = ["mcnemar_bound"]


def mcnemar_bound(
    first: float,
    second: float,
    images: int,
    *,
    disagreement: float | None = None,
    alpha: float = 0.05,
) -> float:
    """Return the difference of two accuracies above which McNemar's test is significant.

    With b and c images that only the one or the other classifier gets right, the test asks for
    (b - c)^2 / (b + c) > z^2, that is |difference| > z sqrt(disagreement / n), where disagreement
    is (b + c) / n. If it is unknown, its largest possible value is used, the sum of both error
    rates (at most 1): a difference above that bound is significant wherever the errors are.

    Args:
        first: accuracy of one classifier, a fraction.
        second: accuracy of the other, on the same images.
        images: number of independent test images.
        disagreement: fraction of the images that exactly one of the two gets right.
        alpha: level of the two-sided test.

    Source: McNemar 1947; Dietterich 1998 for its use on classifiers.
    """
    if disagreement is None:
        disagreement = min(1.0, (1 - first) + (1 - second))
    return float(scipy.special.ndtri(1 - alpha / 2)) * math.sqrt(disagreement / images)
