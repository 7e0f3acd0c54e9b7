"""What a finite test set can tell: noise that more seeds do not remove."""

from __future__ import annotations

import math

from scipy import special

__all__ = ["mcnemar_bound"]


def mcnemar_bound(
    first: float,
    second: float,
    images: int,
    *,
    disagreement: float | None = None,
    alpha: float = 0.05,
) -> float:
    """Return the difference of two accuracies above which McNemar's test finds it significant.

    With b and c images that only one of two classifiers has right, the test asks for
    (b - c)^2 / (b + c) > z^2, that is |difference| > z sqrt(disagreement / n), where disagreement
    is (b + c) / n. If this is not known, its largest value is taken, the sum of both error rates
    (at most 1): a difference above that bound is significant wherever the errors are.

    Args:
        first: accuracy of one classifier, a fraction.
        second: accuracy of the other, on the same images.
        images: number of independent test images.
        disagreement: share of the images that exactly one of the two has right.
        alpha: level of the two-sided test.

    Source: McNemar 1947; Dietterich 1998 for its use on classifiers.
    """
    if disagreement is None:
        disagreement = min(1.0, (1 - first) + (1 - second))
    return float(special.ndtri(1 - alpha / 2)) * math.sqrt(disagreement / images)
