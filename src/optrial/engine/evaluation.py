"""Loss and metrics of a whole split, independent of the batches of its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optrial.models import Objective, widened

__all__ = ["Evaluation", "Extent", "Finish", "SplitTotals", "joined"]

Floats = NDArray[np.float64]
Finish = Callable[[Floats], Floats]
"""Turns means over a split, (runs, metrics), into metrics of these shapes."""


class Evaluation(NamedTuple):
    """Loss and metrics of some runs on a split.

    Attributes:
        losses: (runs,), mean over the split.
        metrics: (runs, metrics), in the order of the runs' metrics.
        reasons: why a metric is not finite, by (run, metric).
    """

    losses: Floats
    metrics: Floats
    reasons: Mapping[tuple[int, int], str] = {}


class Extent(NamedTuple):
    """Samples and runs that are evaluated at once; bounds memory and changes no value.

    Attributes:
        samples: samples per batch.
        runs: runs of a stack.
    """

    samples: int
    runs: int

    def batches(self, size: int) -> Iterator[slice]:
        """Yield the batches of a split."""
        return (slice(start, start + self.samples) for start in range(0, size, self.samples))

    def blocks(self, shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
        """Yield blocks of a grid of runs, (seeds, settings), in the order of the runs."""
        seeds, settings = shape
        rows = max(1, self.runs // settings)
        columns = min(settings, self.runs)
        for row in range(0, seeds, rows):
            for column in range(0, settings, columns):
                yield slice(row, row + rows), slice(column, column + columns)


class SplitTotals:
    """Sums over the batches of a split for some runs, and their outputs if needed.

    Args:
        objective: loss and metrics.
        targets: targets of the whole split.
        runs: number of runs.
    """

    def __init__(self, objective: Objective, targets: Tensor, runs: int) -> None:
        self._objective = objective
        self._targets = targets
        self._sums = torch.zeros(
            (runs, 1 + len(objective.metrics)), dtype=torch.float64, device=targets.device
        )
        self._outputs: Tensor | None = None

    def add(self, losses: Tensor, sums: Tensor, outputs: Tensor, batch: slice) -> None:
        """Add a batch.

        Args:
            losses: sum of the losses of its samples, (runs,).
            sums: sum of each metric that is a mean, (runs, metrics).
            outputs: (runs, batch, ...); ignored if not needed.
            batch: its place in the split.
        """
        self._sums += torch.cat([losses.unsqueeze(-1), sums], dim=-1)
        if not self._objective.needs_outputs:
            return
        outputs = widened(outputs)
        if self._outputs is None:
            shape = (len(outputs), len(self._targets), *outputs.shape[2:])
            self._outputs = outputs.new_empty(shape)
        self._outputs[:, batch] = outputs

    def result(
        self,
        draws: Sequence[Callable[[], AbstractContextManager[None]]],
        finish: Finish | None = None,
    ) -> Evaluation:
        """Return the evaluation.

        Args:
            draws: one per run; returns the context in which user functions may draw.
            finish: turns means into metrics, in the order of the objective's.
        """
        means = (self._sums / self._objective.weights(self._targets)).cpu().numpy()
        if finish is not None:
            means[:, 1:] = finish(means[:, 1:])
        losses = means[:, 0].copy()
        reasons: dict[tuple[int, int], str] = {}
        split_metrics = self._objective.split_metrics
        count = means.shape[1] - 1 + len(split_metrics)
        metrics = np.empty((len(means), count))
        metrics[:, [place for place in range(count) if place not in split_metrics]] = means[:, 1:]
        for run, outputs in enumerate(self._outputs if self._outputs is not None else ()):
            with draws[run]():
                if self._objective.loss_of_split:
                    losses[run] = float(self._objective.loss(outputs, self._targets))
                for place, metric in split_metrics.items():
                    metrics[run, place], reason = metric(outputs, self._targets)
                    reasons |= {(run, place): reason} if reason else {}
        for run, place in np.argwhere(~np.isfinite(metrics)).tolist():
            reasons.setdefault((run, place), f"it is {metrics[run, place]}")
        return Evaluation(losses, metrics, reasons)


def joined(parts: Sequence[tuple[NDArray[np.int64], Evaluation]], runs: int) -> Evaluation:
    """Join evaluations of parts of a stack.

    Args:
        parts: indices of some runs, (n,), and their evaluation.
        runs: number of runs in the stack.
    """
    count = parts[0][1].metrics.shape[1]
    losses, metrics = np.empty(runs), np.empty((runs, count))
    reasons: dict[tuple[int, int], str] = {}
    for places, part in parts:
        losses[places], metrics[places] = part.losses, part.metrics
        reasons |= {
            (int(places[run]), metric): reason for (run, metric), reason in part.reasons.items()
        }
    return Evaluation(losses, metrics, reasons)
