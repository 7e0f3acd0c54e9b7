"""Parts that figures share: axes of a metric, rows with labels, intervals and legends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from optrial.spec import Directions
from optrial.style import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_interval", "legend", "metric_axis", "row_axis"]

LABEL = 28
"""Characters per line in the label of a row; longer lines would leave no room for the plot."""
PLAIN_RANGE = 200.0
"""Ratio of the ends of a logarithmic axis below which its ticks are plain numbers."""
FINE, COARSE = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0)
"""Ticks of a decade."""
TWO_COLUMNS = 18
"""Characters in the longest label of a legend that still has two columns."""


def draw_interval(axes: Axes, row: int, values: tuple[float, float, float], **style: Any) -> None:
    """Draw a dot and a line in a row; values that are not finite are left out.

    Args:
        axes: to draw on.
        row: its height.
        values: estimate, low and high end.
        style: keyword arguments of `Axes.plot`, a color among them.
    """
    estimate, low, high = (value if math.isfinite(value) else math.nan for value in values)
    axes.hlines(row, low, high, color=style["color"], linewidth=0.9)
    axes.plot([estimate], [row], **style | {"linestyle": ""})


def metric_axis(axes: Axes, metric: str, directions: Directions) -> None:
    """Label the axis of a metric, logarithmic for a positive loss."""
    values = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
    known = np.concatenate([curve[np.isfinite(curve)] for curve in values] or [np.empty(0)])
    if directions.parse(metric).is_loss and len(known) and known.min() > 0:
        _log_axis(axes, float(known.min()), float(known.max()))
    elif directions.percent(metric):
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.02))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    axes.set_ylabel(literal(directions.heading(metric)))
    axes.grid(axis="y")


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the vertical axis logarithmic, with plain numbers on a range of few decades."""
    from matplotlib.ticker import LogLocator, NullFormatter  # heavy  # noqa: PLC0415

    axes.set_yscale("log")
    margin = max(1.05, (high / low) ** 0.06)
    axes.set_ylim(low / margin, high * margin)
    if high / low < PLAIN_RANGE:
        axes.yaxis.set_major_locator(LogLocator(subs=FINE if high / low < 8 else COARSE))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def row_axis(axes: Axes, names: Iterable[str]) -> None:
    """Label rows from the top, and leave half a row above and below."""
    labels = [literal(fill(name, LABEL)) for name in names]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6 if axes.get_ylim()[0] > -0.6 else axes.get_ylim()[0])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def legend(axes: Axes) -> None:
    """Draw a legend above the axes, in two columns if its labels are short."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 2 if max(map(len, labels)) <= TWO_COLUMNS else 1
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderpad=0
        )
