"""Averages of the weights of a training, at which the model is evaluated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optrial.spec import Average

__all__ = ["average_shares"]


def average_shares(
    average: Average | None, total: int, first: int, count: int
) -> NDArray[np.float64]:
    """Return the shares of the weights in their average after each of some steps, (count,).

    The average a of weights w becomes a + share (w - a). Shares are those of
    `torch.optim.swa_utils.AveragedModel`: an exponential average starts at the weights after the
    first step; the average of the tail is the mean over the last steps, and the weights before.

    Args:
        average: kind of average; None for the weights themselves.
        total: number of steps of the run.
        first: number of the first step, from 1.
        count: number of steps.
    """
    steps = np.arange(first, first + count)
    if average is None:
        return np.ones(count)
    if average.kind == "ema":
        return np.where(steps == 1, 1.0, 1.0 - average.value)
    before = total - max(1, round(average.value * total))
    return 1.0 / np.maximum(1, steps - before)
