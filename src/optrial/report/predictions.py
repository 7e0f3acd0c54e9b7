"""Figures of what trained models predict: confusion matrices and decision boundaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.report.samples import class_style
from optrial.style import LIGHT, WIDTHS, Theme, blend, figure_style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Boundary", "boundary_figure", "confusion_figure", "draw_boundary", "draw_confusion"]

NUMBERED = 12
"""Most classes whose shares are written into the cells."""
PALE = 0.82
"""Share of the background in the colour of a region."""
MOST_NAMED = 30
MOST_IN_PAIRS = 6
"""Most models that are drawn two side by side."""

Array = NDArray[Any]


class Boundary(NamedTuple):
    """Predictions of a model on a grid of the plane, and samples.

    Attributes:
        x: (columns,) of the grid.
        y: (rows,).
        classes: predicted class, (rows, columns).
        inputs: samples, (samples, 2).
        targets: their classes, (samples,).
        predicted: their predicted classes, (samples,).
    """

    x: Array
    y: Array
    classes: Array
    inputs: Array
    targets: Array
    predicted: Array


def confusion_figure(
    tables: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]], theme: Theme = LIGHT
) -> Figure:
    """Return a figure with the confusion matrix of each named model.

    Args:
        tables: name -> number of samples, (true classes, predicted classes), and the names of the
            classes.
        theme: colours.
    """
    with figure_style(theme):
        figure, panels = _panels(len(tables), 3.0)
        for axes, (name, (counts, names)) in zip(panels, tables.items(), strict=False):
            draw_confusion(axes, counts, names, theme)
            axes.set_title(literal(name))
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def boundary_figure(boundaries: Mapping[str, Boundary], theme: Theme = LIGHT) -> Figure:
    """Return a figure with the decision boundary of each named model."""
    with figure_style(theme):
        figure, panels = _panels(len(boundaries), 2.7)
        for axes, (name, boundary) in zip(panels, boundaries.items(), strict=False):
            draw_boundary(axes, boundary, theme)
            axes.set_title(literal(name))
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _panels(count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with `count` axes, of many three side by side, else at most two.

    Args:
        count: number of axes.
        height: of one of two axes side by side, in inches.
    """
    from matplotlib.figure import Figure  # heavy  # noqa: PLC0415

    columns = min(3 if count > MOST_IN_PAIRS else 2, count)
    rows = math.ceil(count / columns)
    width = WIDTHS["page" if columns > 1 else "column"]
    figure = Figure(figsize=(width, height * rows * min(1.0, 2.2 / columns)))
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def draw_confusion(
    axes: Axes, counts: NDArray[np.int64], names: Sequence[str], theme: Theme = LIGHT
) -> None:
    """Draw the share of each true class, by rows, that is predicted as each class, in percent.

    Right predictions, on the diagonal, are blue; wrong ones are red, by the root of their share,
    so that few stand out.
    """
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    size = len(shares)
    right = np.eye(size, dtype=bool)
    strength = np.where(right, shares, np.minimum(1, 1.5 * np.sqrt(shares)))
    blue, red = theme.lines[0], theme.lines[1]
    colours = [
        [
            _rgb(blend(theme.background, blue if on_diagonal else red, 0.85 * float(value)))
            for value, on_diagonal in zip(row, diagonal, strict=True)
        ]
        for row, diagonal in zip(strength, right, strict=True)
    ]
    axes.imshow(np.array(colours))
    for row, column in np.argwhere(np.rint(100 * shares) >= 1).tolist() if size <= NUMBERED else ():
        axes.text(
            column,
            row,
            f"{100 * shares[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=6 if size > 6 else 8,
            color=_readable_on(colours[row][column], theme),
        )
    if size <= MOST_NAMED:
        labels = [literal(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(size), labels)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted (% of the true class)")
    axes.set_ylabel("true")


def _readable_on(colour: Sequence[int], theme: Theme) -> str:
    """Return the colour of the theme that differs more in brightness from an RGB colour."""
    weights = np.array([0.299, 0.587, 0.114])
    brightness = weights @ colour
    return max(
        (theme.text, theme.background), key=lambda own: abs(weights @ _rgb(own) - brightness)
    )


def _rgb(colour: str) -> list[int]:
    return list(bytes.fromhex(colour.removeprefix("#")))


def draw_boundary(axes: Axes, boundary: Boundary, theme: Theme = LIGHT) -> None:
    """Draw the regions of the predicted classes and the samples; wrong ones have a ring."""
    labels = np.unique([*np.unique(boundary.classes), *np.unique(boundary.targets)])
    regions = np.zeros((*boundary.classes.shape, 3), np.uint8)
    for label in labels.tolist():
        pale = blend(class_style(label, theme)["color"], theme.background, PALE)
        regions[boundary.classes == label] = _rgb(pale)
    extent = (boundary.x[0], boundary.x[-1], boundary.y[0], boundary.y[-1])
    axes.imshow(regions, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    for label in labels[1:].tolist():
        above = (boundary.classes >= label).astype(float)
        if 0 < above.mean() < 1:
            axes.contour(boundary.x, boundary.y, above, [0.5], colors=theme.muted, linewidths=0.8)
    for label in labels.tolist():
        of_class = boundary.inputs[boundary.targets == label]
        style: dict[str, Any] = {"ls": "", "ms": 3, **class_style(label, theme)}
        axes.plot(*of_class.T, **style)
    wrong = boundary.inputs[boundary.targets != boundary.predicted]
    axes.plot(*wrong.T, "o", mfc="none", mec=theme.text, mew=0.7, ms=6)
    share = np.mean(boundary.targets == boundary.predicted)
    axes.set_xlabel(f"input 1 ({100 * share:.1f} % right; rings: wrong)")
    axes.set_ylabel("input 2")
