"""A landscape as a figure for print."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke

from optrial.explain.landscape import Landscape, OptimizerPath
from optrial.explain.picture import aspect_of, fate
from optrial.style import LIGHT, WIDTHS, Theme, blend, figure_style, literal

__all__ = ["landscape_figure"]

BELOW = 8
"""Most paths whose legend stands below the surface; a longer one stands on its right."""
ROW = 0.14
"""Inches of a row of the legend."""


def landscape_figure(landscape: Landscape, theme: Theme = LIGHT) -> Figure:
    """Return filled contours at equal ratios, with paths, start, minima and legend."""
    with figure_style(theme):
        figure = Figure(figsize=_size(landscape))
        axes = figure.add_subplot()
        _draw_surface(axes, landscape, theme)
        handles = [_draw_path(axes, path, landscape, theme) for path in landscape.paths]
        labels = [literal(f"{path.label}: {fate(path)}") for path in landscape.paths]
        axes.set(xlabel="x", ylabel="y", title=literal(landscape.title))
        axes.set(xlim=landscape.x[[0, -1]], ylim=landscape.y[[0, -1]])
        axes.set_box_aspect(aspect_of(landscape))
        title: dict[str, Any] = {"title": "final value", "alignment": "left"}
        if len(labels) > BELOW:
            figure.legend(handles, labels, loc="outside right upper", **title)
        else:
            figure.legend(handles, labels, loc="outside lower left", **title)
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _size(landscape: Landscape) -> tuple[float, float]:
    """Return width and height in inches, with room for the legend below or on the right."""
    width, paths = WIDTHS["column"], len(landscape.paths)
    surface, legend = 0.87 * width * aspect_of(landscape), ROW * paths
    if paths > BELOW:
        return WIDTHS["page"], max(surface + 0.6, legend + 0.4)
    return width, surface + 0.75 + legend


def _draw_surface(axes: Axes, landscape: Landscape, theme: Theme) -> None:
    levels = [0.0, *landscape.levels, float(landscape.heights.max())]
    shares = np.linspace(0, 1, len(levels) - 1)
    fills = [blend(theme.low, theme.high, share) for share in shares]
    surface = landscape.x, landscape.y, landscape.heights
    axes.contourf(*surface, levels, colors=fills)
    axes.contour(*surface, levels[1:-1], colors=theme.contour, linewidths=0.3)
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


def _draw_path(axes: Axes, path: OptimizerPath, landscape: Landscape, theme: Theme) -> Line2D:
    """Draw one path, on a casing in the background's colour, with its marker at the end."""
    style = landscape.styles[path.name].matplotlib(theme)
    casing = [Stroke(linewidth=2.2, foreground=theme.background), Normal()]
    (line,) = axes.plot(
        *path.points.T, **style, markevery=[len(path.points) - 1], path_effects=casing, zorder=4
    )
    return line
