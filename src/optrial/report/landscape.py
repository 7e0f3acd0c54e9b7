"""Draws a function of two variables and the paths of optimizers on it: a figure and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.report.drawing import Span, Tick, Track, log_ticks, outline, polyline, ticks, track
from optrial.report.pages import embedded_json, render_page
from optrial.report.style import (
    LIGHT,
    WIDTHS,
    LineStyle,
    Theme,
    blend,
    figure_style,
    line_styles,
    literal,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Landscape",
    "OptimizerPath",
    "Scene",
    "draw_scene",
    "landscape_figure",
    "landscape_page",
]

Array = NDArray[np.float64]

LEVELS = 14
DEEPEST = 0.02
"""Share of the picture that lies below the lowest contour."""
LEAST_HEIGHT = 1e-12
"""Heights below are drawn as this one, on logarithmic axes."""


@dataclass(frozen=True, eq=False)
class OptimizerPath:
    """Where an optimizer went.

    Attributes:
        name: of the optimizer, which decides its colour; unlike in every path of a landscape.
        label: its name and what is to be known of its hyperparameters.
        points: (steps + 1, 2), the start first.
        values: (steps + 1,), of the function at the points.
        left_at: the step at which it went far away or stopped being finite, whose point is the
            first that is missing; None where it did not.
    """

    name: str
    label: str
    points: Array
    values: Array
    left_at: int | None = None


@dataclass(frozen=True, eq=False)
class Landscape:
    """A function of two variables with the paths of optimizers.

    Attributes:
        title: name of the function.
        formula_latex: its value.
        note: one sentence on what was run.
        source: where the function comes from.
        x: (columns,), from the left.
        y: (rows,), from below.
        heights: (rows, columns), values above the minimum.
        minimum: the least value.
        minima: where it is.
        start: where the paths begin.
        steps: how many each takes.
        paths: of the optimizers.
    """

    title: str
    formula_latex: str
    note: str
    source: str
    x: Array
    y: Array
    heights: Array
    minimum: float
    minima: Sequence[tuple[float, float]]
    start: tuple[float, float]
    steps: int
    paths: Sequence[OptimizerPath]

    @property
    def levels(self) -> Array:
        """Heights of the contours, (LEVELS,), at equal ratios."""
        lowest = np.quantile(self.heights, DEEPEST)
        return np.geomspace(lowest, self.heights.max(), LEVELS + 1)[:-1]

    @property
    def styles(self) -> dict[str, LineStyle]:
        """How each path is drawn, by its name."""
        return line_styles(path.name for path in self.paths)


def landscape_figure(landscape: Landscape, theme: Theme = LIGHT) -> Figure:
    """Return a figure for print: filled contours at equal ratios, paths, start, minima, legend."""
    from matplotlib.figure import Figure  # heavy  # noqa: PLC0415

    with figure_style(theme):
        width, aspect = WIDTHS["column"], _aspect(landscape)
        around = 0.75 + 0.14 * len(landscape.paths)  # inches for title, labels and legend
        figure = Figure(figsize=(width, 0.87 * width * aspect + around))
        axes = figure.add_subplot()
        _draw_surface(axes, landscape, theme)
        handles = [_draw_path(axes, path, landscape, theme) for path in landscape.paths]
        labels = [literal(f"{path.label}: {fate(path)}") for path in landscape.paths]
        axes.set(xlabel="x", ylabel="y", title=literal(landscape.title))
        axes.set(xlim=landscape.x[[0, -1]], ylim=landscape.y[[0, -1]])
        axes.set_box_aspect(aspect)
        figure.legend(
            handles, labels, title="final value", loc="outside lower left", alignment="left"
        )
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def landscape_page(landscape: Landscape) -> str:
    """Return a self-contained HTML page on which the paths can be played."""
    return render_page(
        "landscape.html",
        landscape=landscape,
        scene=draw_scene(landscape),
        chart=draw_chart(landscape),
        values=embedded_json(
            [[float(f"{value:.4g}") for value in path.values] for path in landscape.paths]
        ),
    )


@dataclass(frozen=True)
class Plot:
    """Lines in a frame with two axes, in pixels."""

    x: Span
    y: Span
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    tracks: Sequence[Track]


@dataclass(frozen=True)
class Scene(Plot):
    """Contours with paths, in pixels.

    Attributes:
        id: of what it clips, unlike in every scene of a page.
        contours: (share in % of the greatest shade, outline of the region above), from below.
        start: where the paths begin.
        minima: where the function is least.
    """

    id: str
    contours: Sequence[tuple[float, str]]
    start: tuple[float, float]
    minima: Sequence[tuple[float, float]]


def draw_scene(landscape: Landscape, scene_id: str = "scene") -> Scene:
    """Return the picture of a landscape for a page, 640 pixels wide."""
    x = Span(landscape.x[0], landscape.x[-1], 44.0, 628.0)
    bottom = 8.0 + (x.last - x.first) * _aspect(landscape)
    y = Span(landscape.y[0], landscape.y[-1], bottom, 8.0)
    columns, rows = x.pixels(landscape.x), y.pixels(landscape.y)
    points = np.asarray([landscape.start, *landscape.minima])
    start, *minima = zip(
        x.pixels(points[:, 0]).round(1).tolist(),
        y.pixels(points[:, 1]).round(1).tolist(),
        strict=True,
    )
    return Scene(
        id=scene_id,
        x=x,
        y=y,
        x_ticks=ticks(x, 7),
        y_ticks=ticks(y, 6),
        contours=[
            (round(100 * (index + 1) / LEVELS, 1), outline(columns, rows, landscape.heights, level))
            for index, level in enumerate(landscape.levels)
        ],
        start=start,
        minima=minima,
        tracks=[
            track(
                path.label,
                fate(path),
                path.values,
                landscape.styles[path.name],
                polyline(x.pixels(path.points[:, 0]), y.pixels(path.points[:, 1])),
            )
            for path in landscape.paths
        ],
    )


def draw_chart(landscape: Landscape) -> Plot:
    """Return the heights of the paths by step, logarithmic, for a page, 420 pixels wide."""
    heights = [
        np.log10(np.maximum(path.values - landscape.minimum, LEAST_HEIGHT))
        for path in landscape.paths
    ]
    lowest = min(float(own.min()) for own in heights)
    highest = max(float(own.max()) for own in heights)
    x = Span(0, landscape.steps, 48.0, 406.0)
    y = Span(np.floor(lowest), np.ceil(highest + 1e-9), 232.0, 10.0)
    return Plot(
        x=x,
        y=y,
        x_ticks=ticks(x, 5),
        y_ticks=log_ticks(y, 6),
        tracks=[
            track(
                path.label,
                fate(path),
                path.values,
                landscape.styles[path.name],
                polyline(x.pixels(np.arange(len(own), dtype=np.float64)), y.pixels(own)),
            )
            for path, own in zip(landscape.paths, heights, strict=True)
        ],
    )


def fate(path: OptimizerPath) -> str:
    """Return the final value of a path, or the step at which it left."""
    if path.left_at is not None:
        return f"left at step {path.left_at}"
    return f"{path.values[-1]:.4g}"


def _aspect(landscape: Landscape) -> float:
    """Height of the picture in its widths: true to scale unless that would be flat or tall."""
    return float(np.clip(np.ptp(landscape.y) / np.ptp(landscape.x), 0.5, 0.9))


def _draw_surface(axes: Axes, landscape: Landscape, theme: Theme) -> None:
    levels = [0.0, *landscape.levels, float(landscape.heights.max())]
    shares = np.linspace(0, 1, len(levels) - 1)
    fills = [blend(theme.low, theme.high, share) for share in shares]
    axes.contourf(landscape.x, landscape.y, landscape.heights, levels, colors=fills)
    axes.contour(
        landscape.x,
        landscape.y,
        landscape.heights,
        levels[1:-1],
        colors=theme.contour,
        linewidths=0.3,
    )
    minima = np.asarray(landscape.minima)
    axes.plot(*minima.T, linestyle="", marker="+", color=theme.text, markersize=6, zorder=3)
    axes.plot(
        *landscape.start,
        linestyle="",
        marker="o",
        color=theme.text,
        markerfacecolor="none",
        markersize=5,
        markeredgewidth=0.8,
        zorder=5,
    )


def _draw_path(axes: Axes, path: OptimizerPath, landscape: Landscape, theme: Theme) -> Any:
    """Draw one path, on a casing of the background's colour, its marker at its end."""
    from matplotlib.patheffects import Normal, Stroke  # heavy  # noqa: PLC0415

    style = landscape.styles[path.name].matplotlib(theme)
    casing = [Stroke(linewidth=2.2, foreground=theme.background), Normal()]
    (line,) = axes.plot(
        *path.points.T, **style, markevery=[len(path.points) - 1], path_effects=casing, zorder=4
    )
    return line
