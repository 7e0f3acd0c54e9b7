"""Dots and intervals on a common scale, drawn in the cells of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from optrial.report.drawing import Span, Tick, log_ticks, ticks

__all__ = ["WIDTH", "Scale", "Strip"]

WIDTH = 240.0
MARGIN = 12.0
MOST_DOTS = 250


@dataclass(frozen=True)
class Strip:
    """One row, in pixels.

    Attributes:
        at: position of the dot; None for no dot.
        low: left end of the line; None for no line.
        high: right end of the line.
        cut_low: whether the line continues to the left.
        cut_high: whether the line continues to the right.
        others: positions of small dots.
    """

    at: float | None
    low: float | None
    high: float | None
    cut_low: bool = False
    cut_high: bool = False
    others: Sequence[float] = ()

    @property
    def beyond(self) -> int:
        """-1 or 1 if the dot and the line lie left or right of the scale, else 0."""
        if self.at is not None or self.low is None or self.low != self.high:
            return 0
        return self.cut_high - self.cut_low


@dataclass(frozen=True)
class Scale:
    """The common scale of all rows of a table.

    Attributes:
        span: map from data to pixels.
        ticks: ticks of the axis.
    """

    span: Span
    ticks: Sequence[Tick]

    @classmethod
    def of(
        cls, values: Iterable[float], include: float | None = None, width: float = WIDTH
    ) -> Scale:
        """Return a scale that contains all finite values, and `include` unless it is None."""
        finite = [value for value in values if math.isfinite(value)]
        finite += [] if include is None else [include]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if low == high:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        span = Span(low, high, MARGIN, width - MARGIN)
        return cls(span, ticks(span, 6))

    @classmethod
    def of_logarithms(cls, values: Iterable[float]) -> Scale:
        """Return a scale of decimal logarithms that ends at powers of ten."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = math.floor(min(finite)), math.ceil(max(finite))
        span = Span(low, max(high, low + 1), 2 * MARGIN, WIDTH - MARGIN)
        return cls(span, log_ticks(span, 6))

    def at(self, value: float) -> float:
        """Return the pixel of a value, within the frame."""
        clipped = min(max(value, self.span.low), self.span.high)
        return float(self.span.pixels(np.asarray(clipped)).round(1))

    def _holds(self, value: float) -> bool:
        """Return whether a value lies on the scale, up to rounding; NaN does not."""
        rounding = 1e-9 * (self.span.high - self.span.low)
        return self.span.low - rounding <= value <= self.span.high + rounding

    def strip(
        self, estimate: float, low: float, high: float, others: Iterable[float] = ()
    ) -> Strip:
        """Return the row of an estimate and its interval; NaN is not drawn.

        A line beyond the scale is cut, and small dots beyond it are left out.
        """
        known = not (math.isnan(low) or math.isnan(high))
        if not known and math.isfinite(estimate) and not self._holds(estimate):
            low, high, known = estimate, estimate, True  # an arrow at the edge
        return Strip(
            at=self.at(estimate) if self._holds(estimate) else None,
            low=self.at(low) if known else None,
            high=self.at(high) if known else None,
            cut_low=known and low < self.span.low and not self._holds(low),
            cut_high=known and high > self.span.high and not self._holds(high),
            others=_places([self.at(value) for value in others if self._holds(value)]),
        )


def _places(dots: Sequence[float]) -> Sequence[float]:
    """Return the positions of dots; of very many, one per pixel."""
    if len(dots) <= MOST_DOTS:
        return dots
    return sorted({float(round(dot)) for dot in dots})
