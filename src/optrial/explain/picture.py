"""Landscapes as vector drawings for HTML pages, and the animated page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from optrial.explain.landscape import LEVELS, Landscape, OptimizerPath
from optrial.explain.mathml import mathml
from optrial.functions import Point
from optrial.report.drawing import Span, Tick, Track, log_ticks, polyline, ticks, track
from optrial.report.pages import embedded_json, render_page

__all__ = ["Scene", "aspect_of", "draw_scene", "fate", "landscape_page", "outline"]

Array = NDArray[np.float64]

LEAST_HEIGHT = 1e-12
"""Smaller heights are drawn as this one, on logarithmic axes."""


def landscape_page(landscape: Landscape) -> str:
    """Return a self-contained HTML page that plays the paths."""
    return render_page(
        "landscape.html",
        mathml=mathml,
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
        id: of its clip path, unique within a page.
        contours: (shade in %, outline of the region above a level), from the lowest.
        start: first point of the paths.
        minima: minima of the function.
    """

    id: str
    contours: Sequence[tuple[float, str]]
    start: Point
    minima: Sequence[Point]


def draw_scene(landscape: Landscape, scene_id: str = "scene") -> Scene:
    """Return contours and paths, 640 pixels wide."""
    x = Span(landscape.x[0], landscape.x[-1], 44.0, 628.0)
    bottom = 8.0 + (x.last - x.first) * aspect_of(landscape)
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
    """Return heights along the paths by step, on a logarithmic axis, 420 pixels wide."""
    heights = [
        np.log10(np.maximum(path.values - landscape.minimum, LEAST_HEIGHT))
        for path in landscape.paths
    ]
    lowest = min(float(curve.min()) for curve in heights)
    highest = max(float(curve.max()) for curve in heights)
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
                polyline(x.pixels(np.arange(len(curve), dtype=np.float64)), y.pixels(curve)),
            )
            for path, curve in zip(landscape.paths, heights, strict=True)
        ],
    )


def fate(path: OptimizerPath) -> str:
    """Return the final value of a path, or the step at which it left."""
    if path.left_at is not None:
        return f"left at step {path.left_at}"
    return f"{path.values[-1]:.4g}"


def aspect_of(landscape: Landscape) -> float:
    """Return height / width of the picture: true to scale unless too flat or too tall."""
    return float(np.clip(np.ptp(landscape.y) / np.ptp(landscape.x), 0.5, 0.9))


def outline(
    x: NDArray[np.float64], y: NDArray[np.float64], heights: NDArray[np.float64], level: float
) -> str:
    """Return the region above a level as the ``d`` of an SVG path, to be filled even-odd.

    Args:
        x: pixels of the columns, (columns,).
        y: pixels of the rows, (rows,).
        heights: (rows, columns).
        level: a height.
    """
    generator = contour_generator(x, y, heights, fill_type=FillType.OuterOffset)
    filled: Any = generator.filled(level, np.inf)  # its form depends on the type of filling
    polygons, offsets = filled
    rings = [
        points[first:last]
        for points, ends in zip(polygons, offsets, strict=True)
        for first, last in pairwise(ends)
    ]
    return "".join(f"M{polyline(*ring[:-1].T)}Z" for ring in rings)
