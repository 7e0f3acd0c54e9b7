"""The figure of `optrial lr-range`: loss by learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optrial.lr_range.curves import LrRange, RateCurve
from optrial.report.axes import grow_for_legend, legend, log_axis
from optrial.style import LIGHT, MANY, WIDTHS, LineStyle, Theme, figure_style, line_styles, literal

__all__ = ["lr_range_figure"]

_SHOWN = 1.5
"""Height of the figure above the first loss, in distances from the least loss to the first."""


def lr_range_figure(test: LrRange, theme: Theme = LIGHT) -> Figure:
    """Return a figure with one line per optimizer and setting.

    Lines are moving averages of the losses, with a dot at the steepest fall; up to `MANY` lines
    have the losses themselves as faint points.
    """
    few = len(test.curves) <= MANY
    styles = line_styles(curve.label for curve in test.curves)
    with figure_style(theme):
        figure = Figure(figsize=(WIDTHS["page"], 3.0))
        axes = figure.subplots()
        for curve in test.curves:
            _draw(axes, curve, styles[curve.label], theme, points=few)
        axes.set_xscale("log")
        log_axis(axes.xaxis, *axes.get_xlim(), 9)
        axes.set_xlabel("learning rate (dot: where the loss falls fastest)")
        axes.set_ylabel("training loss (moving average)")
        known = [curve.smoothed for curve in test.curves if len(curve.smoothed)]
        if known:
            least, first = min(c.min() for c in known), max(c[0] for c in known)
            room = max(first - least, 1e-9)
            axes.set_ylim(least - 0.1 * room, first + _SHOWN * room)
        axes.grid(axis="both")
        figure.suptitle(
            literal(f"{test.study}: learning-rate range test"), fontsize=8, x=0.01, ha="left"
        )
        legend(axes)
        grow_for_legend(axes)
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _draw(axes: Axes, curve: RateCurve, style: LineStyle, theme: Theme, *, points: bool) -> None:
    rates = curve.rates[: len(curve.losses)]
    look = style.matplotlib(theme)
    color = look["color"]
    if points:
        faint: dict[str, Any] = {"linestyle": "", "marker": ".", "markersize": 2, "alpha": 0.3}
        axes.plot(rates, curve.losses, **faint, color=color)
    line = {name: value for name, value in look.items() if not name.startswith("mark")}
    axes.plot(rates, curve.smoothed, label=literal(curve.label), **line)
    if curve.steepest is not None:
        place = int(np.searchsorted(rates, curve.steepest))
        axes.plot(
            [rates[place]], [curve.smoothed[place]], **look | {"linestyle": "", "marker": "o"}
        )
