"""A landscape as an animated picture, which plays wherever pictures are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from optrial.explain.figure import landscape_figure
from optrial.explain.landscape import Landscape
from optrial.files import replacing
from optrial.style import LIGHT, Theme, figure_style

__all__ = ["write_animation"]

FRAMES = 80
"""Most frames of the paths."""
MILLISECONDS = 70
"""Time of a frame."""
REST = 2500
"""Time of the last frame, in milliseconds, before the paths start again."""
DOTS_PER_INCH = 160
COLOURS = 64


def write_animation(landscape: Landscape, file: Path, theme: Theme = LIGHT) -> None:
    """Write a GIF in which the paths grow step by step, again and again.

    Raises:
        OSError: the file cannot be written.
    """
    frames = _frames(landscape, theme)
    palette = frames[-1].quantize(COLOURS)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    durations = [MILLISECONDS] * len(others) + [REST]
    with replacing(file) as partial:
        first.save(partial, "GIF", save_all=True, append_images=others, duration=durations, loop=0)


def _frames(landscape: Landscape, theme: Theme) -> list[Image.Image]:
    """Draw the frames: contours and legend once, the paths on top of them."""
    figure = landscape_figure(landscape, theme)
    (axes,) = figure.axes
    lines = axes.lines[-len(landscape.paths) :]
    for line in lines:
        line.set_animated(True)
    with figure_style(theme):
        figure.set_dpi(DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        background = canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
        frames = []
        for step in np.linspace(0, landscape.steps, min(FRAMES, landscape.steps) + 1).astype(int):
            canvas.restore_region(background)  # type: ignore[no-untyped-call]
            for line, path in zip(lines, landscape.paths, strict=True):
                points = path.points[: step + 1]
                line.set_data(*points.T)
                line.set_markevery([len(points) - 1])
                axes.draw_artist(line)
            pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
            frames.append(Image.fromarray(pixels.copy()).convert("RGB"))
    return frames
