"""Parts that figures share: axes of a metric, rows with labels, intervals and legends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import count
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.view import StudyView
from optrial.spec import Directions
from optrial.style import COLOURED, COLOURS, WIDTHS, LineStyle, Theme, line_styles, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "Stacks",
    "behind",
    "draw_interval",
    "grow_for_legend",
    "is_near_best",
    "legend",
    "log_axis",
    "metric_axis",
    "metric_is_logarithmic",
    "optimizer_styles",
    "row_axis",
]

LABEL = 28
"""Characters per line in the label of a row; longer lines would leave no room for the plot."""
NEAR = 5.0
"""Largest distance from the best value of what a figure shows, in distances of its best third."""
HANDLE, GAP, LEGEND_ROW = 0.33, 0.2, 0.125
"""Inches of a legend: width of a line beside its label, gap between columns, height of a row."""
AXIS = 0.62
"""Inches from the left edge of a figure to its axes at most, where the legend of axes begins."""
ROWS_AT_FIRST = 3
"""Rows of a legend for which every figure has room."""
MARK_SIZE, MARK_GAP = 7, 0.03
"""Size of the text of a mark in points, and the gap on either side of it in inches."""
NARROW = 12
"""Most entries of a legend for which a figure stays as narrow as one column of a journal."""

Floats = NDArray[np.float64]


def optimizer_styles(*views: StudyView) -> dict[str, LineStyle]:
    """Return the style of every optimizer of some studies; the best of each differ in colour."""
    names = dict.fromkeys(name for view in views for name in view.optimizer_names)
    if len(names) <= COLOURS:  # ranking takes time
        return line_styles(names)
    return line_styles(names, [n for view in views for n in view.ranked_optimizers[:COLOURED]])


def behind(theme: Theme) -> dict[str, Any]:
    """Return the keyword arguments of `Axes.plot` for a line that is not among the best of many."""
    return {"color": theme.grey, "zorder": 1.5, "linewidth": 0.7, "markersize": 3.0}


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


def is_near_best(values: Floats, *, higher: bool, logarithmic: bool) -> NDArray[np.bool_]:
    """Return which values are near the best one; NaN is not.

    Near are those within `NEAR` times the distance of the best third of the other values, so that
    a few that are far away do not squeeze the rest.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.log(values) if logarithmic else values
    known = scaled[np.isfinite(scaled)]
    if not len(known):
        return np.zeros(values.shape, bool)
    distances = np.abs(scaled - (known.max() if higher else known.min()))
    apart = np.sort(distances[np.isfinite(distances) & (distances > 0)])
    limit = NEAR * apart[len(apart) // 3] if len(apart) else math.inf
    near: NDArray[np.bool_] = np.isfinite(distances) & (distances <= limit)
    return near


def metric_is_logarithmic(metric: str, directions: Directions, values: Floats) -> bool:
    """Return whether the axis of a metric is logarithmic: that of a loss without values below 0."""
    known = values[np.isfinite(values)]
    return directions.parse(metric).is_loss and bool(len(known)) and bool(known.min() > 0)


def metric_axis(
    axes: Axes,
    metric: str,
    directions: Directions,
    values: Floats | None = None,
    *,
    linear: bool = False,
) -> None:
    """Label the axis of a metric, logarithmic for a positive loss.

    Args:
        axes: to draw on.
        metric: name of the metric.
        directions: directions of the metrics.
        values: those that decide the range; by default, all that are drawn.
        linear: whether the axis is linear whatever the metric.
    """
    if values is None:
        lines = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
        values = np.concatenate([curve for curve in lines if len(curve)] or [np.empty(0)])
    known = values[np.isfinite(values)]
    if not linear and metric_is_logarithmic(metric, directions, known):
        low, high = float(known.min()), float(known.max())
        margin = max(1.05, (high / low) ** 0.06)
        axes.set_yscale("log")
        axes.set_ylim(low / margin, high * margin)
        log_axis(axes.yaxis, low / margin, high * margin, 8)
    elif len(known):
        low, high = float(known.min()), float(known.max())
        margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
        least, greatest = directions.bounds(metric)
        axes.set_ylim(max(low - margin, least - 0.02), min(high + margin, greatest + 0.02))
    if directions.percent(metric):
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    axes.set_ylabel(literal(directions.heading(metric)))
    axes.grid(axis="y")


def log_axis(axis: Axis, low: float, high: float, most: int) -> None:
    """Put plain numbers on a logarithmic axis: 1, 2, 5 of each power of ten, at least three.

    Args:
        axis: a logarithmic axis.
        low: lower end of its range.
        high: upper end.
        most: number of labels for which there is room; beyond, only powers of ten are labelled.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator  # heavy  # noqa: PLC0415

    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = sum(low <= factor * 10.0**power <= high for power in powers for factor in (1, 2, 5))
    coarse = sum(low <= 10.0**power <= high for power in powers)
    if fine < 3:
        locators = [MaxNLocator(count, steps=[1, 2, 5, 10]) for count in (4, 6, 9, 14)]
        labels = [np.asarray(locator.tick_values(low, high)) for locator in locators]
        enough = [int(((low <= at) & (at <= high)).sum()) >= 3 for at in labels]
        axis.set_major_locator(locators[enough.index(True) if True in enough else -1])
    else:
        factors = (1.0,) if fine > most and coarse >= 3 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=factors, numticks=most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: _plain(value))


def _plain(value: float) -> str:
    """Return a number without exponent, or a power of ten if it is very small or large."""
    if 1e-4 <= value < 1e6:
        return f"{value:.6g}"
    factor, exponent = f"{value:.3e}".split("e")
    times = "" if float(factor) == 1 else rf"{float(factor):g}\cdot"
    return f"${times}10^{{{int(exponent)}}}$"


class Stacks:
    """Marks at the edges of axes for values outside their range, stacked where they would overlap.

    Args:
        axes: to draw on; its range is settled.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self._taken: dict[tuple[int, bool], list[tuple[float, float]]] = {}
        figure = axes.get_figure(root=True)
        self._inches = axes.get_position().width * (figure.get_figwidth() if figure else 1.0)

    def add(self, x: float, text: str, color: Any, *, below: bool) -> None:
        """Draw a text at the lower or upper edge, in the first row with room for it."""
        place = self._share(x) * self._inches
        half = _inches(text, MARK_SIZE) / 2 + MARK_GAP
        centre = max(half, min(place, self._inches - half))  # the labels of ticks stay free
        row = next(row for row in count() if self._is_free(row, centre, half, below=below))
        self._taken.setdefault((row, below), []).append((centre, half))
        offset = 1 + 7.5 * row
        self.axes.annotate(
            text,
            (x, 0.0 if below else 1.0),
            xycoords=self.axes.get_xaxis_transform(),
            xytext=(72 * (centre - place), offset if below else -offset),
            textcoords="offset points",
            ha="center",
            va="bottom" if below else "top",
            fontsize=MARK_SIZE,
            color=color,
            annotation_clip=False,
            bbox={
                "boxstyle": "square,pad=0.1",
                "facecolor": self.axes.get_facecolor(),
                "edgecolor": "none",
                "alpha": 0.85,
            },
        ).set_in_layout(False)

    def _share(self, x: float) -> float:
        """Return how far a value lies from the left end of the axes, as a share of their width."""
        share, _ = (self.axes.transScale + self.axes.transLimits).transform((x, 1.0))
        return float(share)

    def _is_free(self, row: int, centre: float, half: float, *, below: bool) -> bool:
        taken = self._taken.get((row, below), ())
        return all(abs(centre - other) >= half + width for other, width in taken)


def row_axis(axes: Axes, names: Iterable[str]) -> None:
    """Label rows from the top, and leave half a row above and below."""
    labels = [literal(fill(name, LABEL)) for name in names]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6 if axes.get_ylim()[0] > -0.6 else axes.get_ylim()[0])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def legend(axes: Axes, title: str = "") -> None:
    """Draw a legend above the axes, in columns of equal length; long labels have several lines."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    if handles and figure:
        width = figure.get_figwidth() / _panels(figure) - AXIS
        layout = _layout(labels, literal(title), width)
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), **layout)


def grow_for_legend(axes: Axes) -> None:
    """Make the figure of axes wider, then taller, for a legend of many entries.

    The legend of one of several panels side by side gets the width of the figure.
    """
    figure, box = axes.get_figure(root=True), axes.get_legend()
    if figure is None or box is None:
        return
    handles, labels = axes.get_legend_handles_labels()
    several = _panels(figure) > 1
    is_wide = figure.get_figwidth() >= WIDTHS["page"]
    if several or (len(labels) > NARROW and not is_wide):
        figure.set_figwidth(WIDTHS["page"])
        width = WIDTHS["page"] - (0 if several else AXIS)
        layout = _layout(labels, box.get_title().get_text(), width)
        box.remove()
        if several:
            box = figure.legend(handles=handles, loc="outside upper left", **layout)
        else:
            box = axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), **layout)
    columns: int = box._ncols  # type: ignore[attr-defined]
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * max(0, rows - ROWS_AT_FIRST))


def _panels(figure: Figure) -> int:
    """Return the number of axes side by side."""
    return len({round(axes.get_position().x0, 2) for axes in figure.axes})


def _inches(text: str, size: float) -> float:
    """Return the width of a text of some size in points."""
    from matplotlib.font_manager import FontProperties  # heavy  # noqa: PLC0415
    from matplotlib.textpath import text_to_path  # heavy  # noqa: PLC0415

    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)
    return float(width) / 72


def _layout(labels: Sequence[str], title: str, width: float) -> dict[str, Any]:
    """Return the keyword arguments of a legend for its layout.

    Args:
        labels: its entries.
        title: its title, or "".
        width: of the axes or the figure, in inches.
    """
    from matplotlib import rcParams  # heavy  # noqa: PLC0415

    size: float = rcParams["legend.fontsize"]
    widths = [_inches(label, size) for label in labels]
    character = max(width / len(label) for width, label in zip(widths, labels, strict=True))
    most = 3 if len(labels) <= NARROW else 6
    fitting = int((width + GAP) / (HANDLE + GAP + max(widths)))
    rows = math.ceil(len(labels) / max(1, min(most, fitting)))
    longest = max(10, int((width - HANDLE) / character))
    return {
        "labels": [fill(label, longest) for label in labels],
        "ncols": math.ceil(len(labels) / rows),
        "borderpad": 0,
        "title": fill(title, longest),
        "alignment": "left",
    }
