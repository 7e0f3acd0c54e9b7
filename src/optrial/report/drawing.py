"""Parts of SVG drawings: data to pixels, ticks, contours and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optrial.style import LineStyle, marker_outline

__all__ = ["Span", "Tick", "Track", "log_ticks", "polyline", "ticks", "track"]

Array = NDArray[np.float64]

LINE_WIDTH = 2.0
MARKER_SIZE = 11.0
FAR = 1e4
"""Greatest pixel coordinate; points beyond are clipped, because renderers fail on huge numbers."""


@dataclass(frozen=True)
class Span:
    """An interval of data and of the pixels on which it is drawn."""

    low: float
    high: float
    first: float
    last: float

    def pixels(self, values: Array) -> Array:
        """Return the pixels of values, in the same shape."""
        share = (values - self.low) / (self.high - self.low)
        return np.clip(self.first + share * (self.last - self.first), -FAR, FAR)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its pixel and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Track:
    """A line and the marker at its end.

    Attributes:
        label: name of the line.
        fate: how the line ended, in a word or two.
        values: value that is shown for each point.
        colour: index into `Theme.lines`.
        dashes: dashes of the line, as in SVG.
        marker: outline of the marker around (0, 0).
        points: "x,y x,y ...".
        head: the last point.
    """

    label: str
    fate: str
    values: Sequence[float]
    colour: int
    dashes: str
    marker: str
    points: str
    head: str


def track(label: str, fate: str, values: Array, style: LineStyle, points: str) -> Track:
    """Return a line in an optimizer's style; `points` is a `polyline`."""
    return Track(
        label=label,
        fate=fate,
        values=[float(value) for value in values],
        colour=style.colour,
        dashes=" ".join(f"{LINE_WIDTH * length:g}" for length in style.dashes) or "none",
        marker=marker_outline(style.marker, MARKER_SIZE),
        points=points,
        head=points.rpartition(" ")[2],
    )


def polyline(x: Array, y: Array) -> str:
    """Return pixels (points,) and (points,) as "x,y x,y ..."."""
    return " ".join(f"{a:g},{b:g}" for a, b in zip(x.round(1), y.round(1), strict=True))


def ticks(span: Span, count: int) -> list[Tick]:
    """Return about `count` ticks at round numbers."""
    from matplotlib.ticker import MaxNLocator  # heavy  # noqa: PLC0415

    values = np.asarray(MaxNLocator(count, steps=[1, 2, 5, 10]).tick_values(span.low, span.high))
    within = values[(values >= span.low) & (values <= span.high)]
    return [
        Tick(float(at.round(1)), f"{value:g}".replace("-", "−"))
        for at, value in zip(span.pixels(within), within, strict=True)
    ]


def log_ticks(span: Span, count: int) -> list[Tick]:
    """Return at most `count` ticks at powers of ten; of two such powers, at 1, 2, 5 and 10.

    `span` holds decimal logarithms.
    """
    powers = np.arange(np.ceil(span.low), np.floor(span.high) + 1)
    chosen = powers[:: max(1, -(-len(powers) // count))]
    if len(powers) == 2:
        chosen = powers[0] + np.log10([1.0, 2.0, 5.0, 10.0])
    plain = bool(len(chosen)) and chosen[0] > -5 and chosen[-1] < 6
    return [
        Tick(float(at.round(1)), f"{10**power:.6g}" if plain else _power_text(power))
        for at, power in zip(span.pixels(chosen), chosen.tolist(), strict=True)
    ]


def _power_text(power: float) -> str:
    return "10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
