"""Recorded points of the curves of all runs of a training, and means over an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.engine.learner import Floats, Steps
from optrial.models import finished, needs_whole_split
from optrial.records import Curve
from optrial.spec import PROBES, MetricName, RunSpec, metric_label

__all__ = ["Curves", "Epoch", "EpochSums"]


class _Points(NamedTuple):
    steps: NDArray[np.int64]  # (points,)
    values: Floats  # (points, runs)
    measured: NDArray[np.bool_]  # (points, runs)


class Curves:
    """Points of all runs, by metric."""

    def __init__(self) -> None:
        self._points: dict[MetricName, list[_Points]] = defaultdict(list)

    def add(
        self,
        metric: MetricName,
        steps: int | NDArray[np.int64],
        values: Floats,
        measured: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add points of all runs; `measured` defaults to the finite values."""
        rows = np.atleast_2d(values)
        known = np.isfinite(rows) if measured is None else np.atleast_2d(measured)
        self._points[metric].append(_Points(np.atleast_1d(steps), rows, known))

    def of(self, run: int) -> dict[str, Curve]:
        """Return the curves of one run."""
        curves: dict[str, Curve] = {}
        for metric, parts in self._points.items():
            steps = np.concatenate([part.steps for part in parts])
            values = np.concatenate([part.values[:, run] for part in parts])
            measured = np.concatenate([part.measured[:, run] for part in parts])
            if measured.any():
                curves[str(metric)] = Curve(steps[measured], values[measured])
        return curves

    def clear(self) -> None:
        """Remove all points."""
        self._points.clear()


class Epoch(NamedTuple):
    """Means and sums over an epoch, (runs,) each.

    Attributes:
        step: last step of the epoch.
        loss: mean loss.
        metrics: means by label.
        probes: sums by name.
    """

    step: int
    loss: Floats
    metrics: dict[str, Floats]
    probes: dict[str, Floats]


class EpochSums:
    """Sums over the current epoch of all runs.

    Args:
        spec: one of the runs.
        runs: number of runs.
        bytes_per_token: of the training split of a text.

    Attributes:
        names: names of the metrics that are means over samples; others need a whole split.
        labels: labels of these metrics.
        probes: names of the probes that are summed.
        sums: samples, loss x samples, metrics and probes, (2 + metrics + probes, runs).
    """

    def __init__(self, spec: RunSpec, runs: int, bytes_per_token: float | None = None) -> None:
        self.names = [
            name for name in spec.metrics if not needs_whole_split(name, spec.whole_split)
        ]
        self.labels = [metric_label(name) for name in self.names]
        self._bytes_per_token = bytes_per_token
        measured = spec.probes.measure if spec.probes else ()
        self.probes = [name for name in measured if PROBES[name].summed]
        self.sums = np.zeros((2 + len(self.labels) + len(self.probes), runs))
        self._steps_per_epoch = spec.steps_per_epoch

    def finished(self, means: Sequence[Floats]) -> list[Floats]:
        """Return the metrics from their means over samples, in the order of `labels`."""
        pairs = zip(self.names, means, strict=True)
        return [finished(name, mean, self._bytes_per_token) for name, mean in pairs]

    def add(self, first_step: int, steps: Steps, probes: Mapping[str, Floats]) -> Iterator[Epoch]:
        """Add some steps and yield the epochs that they complete."""
        samples = np.broadcast_to(steps.weights, steps.losses.shape)
        metrics = np.moveaxis(steps.metrics, 2, 0)
        summed = [probes.get(name, np.full_like(samples, np.nan)) for name in self.probes]
        rows = np.stack([samples, steps.losses * samples, *metrics, *summed], axis=1)
        for step, row in enumerate(rows, start=first_step):
            self.sums += row
            if step % self._steps_per_epoch == 0:
                yield self._epoch(step)
                self.sums[:] = 0

    def _epoch(self, step: int) -> Epoch:
        split = 2 + len(self.labels)
        loss, *means = self.sums[1:split] / self.sums[0]
        return Epoch(
            step,
            loss,
            dict(zip(self.labels, self.finished(means), strict=True)),
            dict(zip(self.probes, self.sums[split:].copy(), strict=True)),
        )
