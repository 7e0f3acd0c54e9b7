"""The figure of `optrial timing`: step times of all optimizers with their spread."""

from __future__ import annotations

import math
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optrial.style import LIGHT, WIDTHS, Theme, figure_style, line_styles, literal
from optrial.timing.results import SettingTiming, StudyTiming
from optrial.timing.table import condition_text, engines_text

__all__ = ["timing_figure"]

_LABEL = 26
"""Characters per line of a row's label."""
_ROW, _PANEL = 0.19, 0.32
"""Height in inches of a row, and of the margins of a panel."""
_FOOT = 0.6


def timing_figure(timing: StudyTiming, theme: Theme = LIGHT) -> Figure:
    """Return a figure with a panel per batch size and model and a row per optimizer.

    A dot marks the median over the rounds, a line their middle half. The number on the right is the
    step time relative to the study's first optimizer.
    """
    panels: dict[str, list[SettingTiming]] = {}
    for setting in timing.settings:
        panels.setdefault(condition_text(timing, setting), []).append(setting)
    columns = 1 if len(panels) <= 2 else 2
    rows = math.ceil(len(panels) / columns)
    most = max(map(len, panels.values()))
    height = rows * (_PANEL + _ROW * most) + _FOOT
    with figure_style(theme):
        figure = Figure(figsize=(WIDTHS["column" if columns == 1 else "page"], height))
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes, (name, settings) in zip(grid.flat, panels.items(), strict=False):
            _draw_step_times(axes, timing, settings, theme)
            axes.set_title(literal(name))
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes in grid.flat[len(panels) - columns : len(panels)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(_x_label(timing), loc="right")
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _draw_step_times(
    axes: Axes, timing: StudyTiming, settings: list[SettingTiming], theme: Theme = LIGHT
) -> None:
    """Draw the step times of some settings, one row each, from the top."""
    styles = line_styles(dict.fromkeys(entry.optimizer for entry in timing.settings))
    labels = []
    for row, setting in enumerate(settings):
        style = styles[setting.optimizer].matplotlib(theme) | {"linestyle": ""}
        step = setting.step.times(1e3)
        axes.hlines(row, step.low, step.high, color=style["color"], linewidth=1.4)
        axes.plot([step.median], [row], **style)
        labels.append(literal(fill(f"{setting.optimizer} {setting.setting}".strip(), _LABEL)))
        if ratio := timing.to_first(setting):
            axes.text(
                1.02,
                row,
                f"{ratio.median:.2f} ×",
                transform=axes.get_yaxis_transform(),
                verticalalignment="center",
                color=theme.muted,
                fontsize=7,
            )
    # All panels share the axis.
    axes.set_xlim(0, 1.05e3 * max(entry.step.high for entry in timing.settings))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _x_label(timing: StudyTiming) -> str:
    engines = engines_text(timing)
    text = f"ms per step, {engines}, {timing.device}\n× relative to {timing.first}"
    return literal(text)
