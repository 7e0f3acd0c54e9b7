"""Figures of samples with their labels: images, points of a plane, series and rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.errors import cut
from optrial.report.axes import legend
from optrial.style import LIGHT, MARKERS, WIDTHS, Theme, figure_style, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "class_style",
    "draw_points",
    "draw_samples",
    "is_table",
    "label_texts",
    "samples_figure",
    "table_cells",
]

CHANNELS = (1, 3)
PLANE = (2,)
COLUMNS = 8
MOST_POINTS = 3_000
MOST_COLUMNS = 8
"""Columns of a table that are drawn."""
LABEL = 14
"""Characters of a label."""
MOST_CHARACTERS = 64
"""Characters of a sequence of tokens."""
IGNORED = "·"
"""Stands for a position that does not count."""
LINE_END = "↵"
PICTURE = 0.84
"""Share of a cell, in width and height, that the sample takes; the rest is its label and a gap."""

Array = NDArray[Any]


def is_table(inputs: Array, targets: Array) -> bool:
    """Return whether samples are shown as rows.

    So are tables, short series of whole numbers, and points with several targets, which one colour
    cannot show.
    """
    if inputs.shape[1:] == PLANE:
        return math.prod(targets.shape[1:]) > 1
    is_short = inputs.ndim == 3 and inputs.shape[1] <= MOST_COLUMNS and inputs.shape[2] == 1
    return inputs.ndim == 2 or (is_short and bool((inputs % 1 == 0).all()))


def label_texts(targets: Array, names: Sequence[str] = ()) -> list[str]:
    """Return the target of each sample as a short text.

    Args:
        targets: labels, (samples,) or (samples, positions), or values, (samples, ...).
        names: names of the labels 0, 1, ...; empty where the numbers are the names.
    """

    def text(target: Any) -> str:
        if np.ndim(target):
            return shorten(" ".join(map(text, np.ravel(target)[:LABEL])), LABEL, placeholder=" …")
        if targets.dtype.kind == "i":
            return str(names[target] if 0 <= target < len(names) else target)
        return f"{target:.4g}"

    return [shorten(text(target) or " ", LABEL, placeholder="…") for target in targets]


def samples_figure(
    inputs: Array,
    targets: Array,
    names: Sequence[str] = (),
    columns: Sequence[str] = (),
    tokens: Sequence[str] | None = None,
    title: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Return a figure of samples with their labels.

    Args:
        inputs: samples, (samples, ...): images, points, series (time, features) or rows.
        targets: their targets.
        names: names of the labels.
        columns: names of the features of a row.
        tokens: text of each token; None for inputs that are numbers.
        title: written above.
        theme: colours.
    """
    from matplotlib.figure import Figure  # heavy  # noqa: PLC0415

    with figure_style(theme):
        figure = Figure(figsize=_size(inputs, targets))
        draw_samples(figure.add_subplot(), inputs, targets, names, columns, tokens, theme)
        if title:
            figure.suptitle(literal(title), fontsize=8, x=0.01, horizontalalignment="left")
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _size(inputs: Array, targets: Array) -> tuple[float, float]:
    """Return width and height in inches of a figure of samples."""
    if is_table(inputs, targets):
        return WIDTHS["page"], 0.4 + 0.19 * (len(inputs) + 1)
    if inputs.shape[1:] == PLANE:
        return WIDTHS["column"], 3.2
    rows, columns = _grid_shape(len(inputs))
    return max(WIDTHS["page"] * columns / COLUMNS, WIDTHS["column"]), rows * 1.05 + 0.25


def _grid_shape(count: int) -> tuple[int, int]:
    """Return rows and columns of the cells of some samples."""
    return math.ceil(count / COLUMNS), min(COLUMNS, count)


def draw_samples(
    axes: Axes,
    inputs: Array,
    targets: Array,
    names: Sequence[str] = (),
    columns: Sequence[str] = (),
    tokens: Sequence[str] | None = None,
    theme: Theme = LIGHT,
) -> None:
    """Draw samples with their labels on one pair of axes; see `samples_figure`."""
    shape = inputs.shape[1:]
    if tokens is not None or is_table(inputs, targets):
        _draw_rows(axes, *table_cells(inputs, targets, names, columns, tokens), theme)
    elif shape == PLANE:
        draw_points(axes, inputs, targets, names, theme)
    elif len(shape) == 3 and shape[0] in CHANNELS:
        _draw_grid(axes, inputs, label_texts(targets, names), _image_drawer(inputs))
    else:
        _draw_grid(axes, inputs, label_texts(targets, names), _series_drawer(inputs, theme))


def draw_points(
    axes: Axes,
    inputs: Array,
    targets: Array,
    names: Sequence[str] = (),
    theme: Theme = LIGHT,
) -> None:
    """Draw points of a plane, coloured by their class, or shaded by their value."""
    points, targets = inputs[:MOST_POINTS], targets[:MOST_POINTS]
    if targets.dtype.kind != "i":
        shades = np.asarray(targets, np.float64).reshape(len(targets))
        x, y = points.T
        drawn = axes.scatter(x, y, c=shades, s=9, cmap="viridis", linewidths=0)
        axes.get_figure(root=True).colorbar(drawn, ax=axes, label="target")  # type: ignore[union-attr]
    else:
        for label in np.unique(targets).tolist():
            of_class = points[targets == label]
            name = names[label] if 0 <= label < len(names) else str(label)
            style = class_style(label, theme)
            axes.plot(*of_class.T, ls="", **style, ms=3, label=literal(f"class {name}"))
        legend(axes)
    axes.set_xlabel("input 1")
    axes.set_ylabel("input 2")


def class_style(label: int, theme: Theme) -> Mapping[str, Any]:
    """Return colour and marker of a class."""
    return {
        "color": theme.lines[label % len(theme.lines)],
        "marker": MARKERS[label % len(MARKERS)],
        "markeredgecolor": theme.background,
        "markeredgewidth": 0.3,
    }


def _draw_grid(
    axes: Axes, inputs: Array, labels: Sequence[str], draw: Callable[[Axes, Array], None]
) -> None:
    """Draw each sample in its own cell of the axes, with its label above."""
    rows, columns = _grid_shape(len(inputs))
    axes.set_axis_off()
    for place, (sample, label) in enumerate(zip(inputs, labels, strict=True)):
        row, column = divmod(place, columns)
        left, bottom = column / columns, 1 - (row + 1) / rows
        cell = axes.inset_axes((left, bottom, PICTURE / columns, PICTURE / rows))
        draw(cell, sample)
        cell.set_title(literal(label), fontsize=7, loc="center", pad=2)
        cell.set_xticks([])
        cell.set_yticks([])
        cell.spines[:].set_visible(False)


def _image_drawer(images: Array) -> Callable[[Axes, Array], None]:
    """Return a function that draws an image; each channel spans the range of all images."""
    axis = (0, 2, 3)
    low, high = images.min(axis, keepdims=True)[0], images.max(axis, keepdims=True)[0]
    span = np.where(high > low, high - low, 1.0)

    def draw(axes: Axes, image: Array) -> None:
        pixels = np.moveaxis((image - low) / span, 0, -1)
        gray = pixels.shape[-1] == 1
        axes.imshow(
            pixels[..., 0] if gray else pixels, cmap="gray" if gray else None, vmin=0, vmax=1
        )

    return draw


def _series_drawer(inputs: Array, theme: Theme) -> Callable[[Axes, Array], None]:
    """Return a function that draws a series, (time, ...), one line per feature, on one scale."""
    low, high = float(inputs.min()), float(inputs.max())
    margin = 0.08 * (high - low or 1.0)

    def draw(axes: Axes, series: Array) -> None:
        values = series.reshape(len(series), -1)
        for feature, colour in zip(values.T[: len(theme.lines)], theme.lines, strict=False):
            axes.plot(feature, color=colour, lw=0.8, marker="o", ms=1.6, markeredgewidth=0)
        axes.margins(x=0.08)
        axes.set_ylim(low - margin, high + margin)

    return draw


def _draw_rows(
    axes: Axes, header: Sequence[str], cells: Sequence[Sequence[str]], theme: Theme
) -> None:
    """Draw a table."""
    axes.set_axis_off()
    texts = [[literal(cell) for cell in row] for row in cells]
    table = axes.table(
        texts, colLabels=list(map(literal, header)), loc="center", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for (row, _), cell in table.get_celld().items():
        cell.set_edgecolor(theme.rule)
        cell.get_text().set_color(theme.muted if row == 0 else theme.text)
        cell.get_text().set_horizontalalignment("right")


def table_cells(
    inputs: Array,
    targets: Array,
    names: Sequence[str],
    columns: Sequence[str],
    tokens: Sequence[str] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of rows; of many features, the first ones.

    Args:
        inputs: (samples, features), series (samples, time, 1) or tokens (samples, time).
        targets: their targets.
        names: names of the labels.
        columns: names of the features; numbered if their number is another one.
        tokens: text of each token; None for inputs that are numbers.
    """
    if tokens is not None:
        texts = [_text(row, tokens) for row in inputs]
        if targets.ndim > 1:
            labels = [_text(row, tokens) for row in targets]
        else:
            labels = label_texts(targets, names)
        return ["input", "target"], [list(pair) for pair in zip(texts, labels, strict=True)]
    word = "input" if inputs.ndim == 2 else "step"
    inputs = inputs.reshape(len(inputs), -1)
    features = inputs.shape[1]
    if len(columns) != features:
        columns = [f"{word} {number}" for number in range(1, features + 1)]
    shown = min(features, MOST_COLUMNS)
    header = [shorten(name, LABEL, placeholder="…") for name in columns[:shown]]
    more = features > shown
    header += [f"{features - shown} more"] * more + ["target"]
    labels = label_texts(targets, names)
    cells = [
        [*(f"{value:.4g}" for value in row[:shown]), *["…"] * more, label]
        for row, label in zip(inputs, labels, strict=True)
    ]
    return header, cells


def _text(row: Array, tokens: Sequence[str]) -> str:
    """Return a sequence of tokens as a text, or as numbers where their texts are not known."""
    parts = [
        IGNORED if token < 0 else tokens[token] if token < len(tokens) else str(token)
        for token in np.ravel(row).tolist()
    ]
    text = ("" if tokens else " ").join(parts)
    return cut(text.replace("\n", LINE_END).replace("\t", " "), MOST_CHARACTERS)
