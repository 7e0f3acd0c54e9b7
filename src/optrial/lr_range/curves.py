"""Curves of a range test, and the rates that they suggest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["LrRange", "RateCurve"]

Floats = NDArray[np.float64]

_DECAY = 0.9  # rate of the moving average of the losses
_BURST = 4.0  # times the least loss, beyond which a training has left its course
_LEAST_FALL = 1e-6  # relative to the first loss; smaller ones are roundings
_SKIPPED = 10  # first losses, whose average is of few values


@dataclass(frozen=True)
class RateCurve:
    """Losses of one optimizer, each at a larger learning rate than the one before.

    Attributes:
        optimizer: name of the entry.
        setting: values besides the rate that vary in the study.
        rates: (steps,), in ascending order.
        losses: loss of the batch at each rate before its update, up to the first that is not
            finite, (steps or fewer,).
    """

    optimizer: str
    setting: str
    rates: Floats
    losses: Floats

    @property
    def label(self) -> str:
        """Optimizer and setting."""
        return f"{self.optimizer} {self.setting}".strip()

    @cached_property
    def smoothed(self) -> Floats:
        """Moving average of the losses, corrected for its start at zero."""
        average, averages = 0.0, []
        for step, loss in enumerate(self.losses.tolist(), start=1):
            average = _DECAY * average + (1 - _DECAY) * loss
            averages.append(average / (1 - _DECAY**step))
        return np.array(averages)

    @property
    def lowest(self) -> float | None:
        """Rate at which the smoothed loss is least; None if the losses never fall."""
        place = self._lowest
        return None if place is None else float(self.rates[place])

    @property
    def steepest(self) -> float | None:
        """Rate at which the smoothed loss falls fastest per factor of the rate, before `lowest`."""
        last = self._lowest
        if last is None or last <= _SKIPPED:
            return None
        slopes = np.gradient(self.smoothed, np.log(self.rates[: len(self.losses)]))
        place = _SKIPPED + int(slopes[_SKIPPED : last + 1].argmin())
        return float(self.rates[place]) if slopes[place] < 0 else None

    @property
    def bursts(self) -> float | None:
        """Rate from which the smoothed loss is many times the least one or not finite, or None."""
        last = self._lowest
        if last is None:
            return None
        beyond = np.flatnonzero(self.smoothed[last:] > _BURST * abs(self.smoothed[last]))
        if len(beyond):
            return float(self.rates[last + beyond[0]])
        return float(self.rates[len(self.losses)]) if len(self.losses) < len(self.rates) else None

    @property
    def _lowest(self) -> int | None:
        if len(self.losses) <= _SKIPPED:
            return None
        place = _SKIPPED + int(self.smoothed[_SKIPPED:].argmin())
        fall = self.smoothed[0] - self.smoothed[place]
        return place if fall > _LEAST_FALL * abs(self.smoothed[0]) else None

    @property
    def suggestion(self) -> tuple[float, float] | None:
        """Ends of a range to tune the rate in: a third of `steepest` to `lowest`; None without."""
        if self.steepest is None or self.lowest is None:
            return None
        return self.steepest / 3, max(self.lowest, self.steepest)


@dataclass(frozen=True)
class LrRange:
    """Range test of all optimizers of a study on one problem.

    Attributes:
        study: name of the study.
        seed: seed of the runs, which the study does not use.
        curves: one per optimizer and setting.
    """

    study: str
    seed: int
    curves: Sequence[RateCurve]

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield one row per curve; rates have four digits, far finer than their steps."""
        for curve in self.curves:
            suggestion = curve.suggestion
            yield {
                "optimizer": curve.optimizer,
                "setting": curve.setting,
                "steepest": _four_digits(curve.steepest),
                "lowest": _four_digits(curve.lowest),
                "bursts": _four_digits(curve.bursts),
                "lr": None if suggestion is None else "{log: [%.2g, %.2g]}" % suggestion,  # noqa: UP031
            }


def _four_digits(rate: float | None) -> float | None:
    return None if rate is None else float(f"{rate:.4g}")
