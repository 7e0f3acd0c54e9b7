"""Figures of tuning: the trials of each optimizer, and the expected best of k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.searches import best_of_trials
from optrial.analysis.view import ProblemView, StudyView
from optrial.report.axes import is_near_best, legend, metric_axis, optimizer_styles, row_axis
from optrial.report.figures.looks import mark_far, optimizer_looks, span_text
from optrial.style import LIGHT, Theme, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_trials", "draw_tuning"]

FAR_CHARACTER = 0.022
"""Share of the width of axes that a character at their edge takes."""

Floats = NDArray[np.float64]


def draw_tuning(axes: Axes, view: StudyView, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw the trials of each optimizer and its chosen setting.

    Trials far from the best are marked at the edge, with their values.
    """
    styles = optimizer_styles(view)
    metric = problem.searches[0].metric
    factor = 100 if problem.directions.percent(metric) else 1
    rows: list[list[float]] = []
    for row, search in enumerate(problem.searches):
        scores = {t.setting_id: t.metrics.get(search.metric) for t in search.trials}
        means = [factor * spread.mean for spread in scores.values() if spread]
        style = styles[search.optimizer].matplotlib(theme) | {"linestyle": ""}
        rows.append(means)
        if chosen := scores.get(search.chosen_id):
            axes.plot([factor * chosen.mean], [row], **style | {"markersize": 6})
    shown = _limit_trials(axes, rows, problem.directions.better(metric) == "higher", theme)
    for row, near in enumerate(shown):
        others: dict[str, Any] = {"mfc": "none", "mec": theme.muted, "markersize": 3, "zorder": 1.9}
        axes.plot(near, [row] * len(near), "o", **others)
    title = literal(problem.directions.heading(metric))
    axes.set_xlabel(f"{title} of each trial\n(filled: chosen; hollow: others)", loc="right")
    row_axis(axes, [search.title for search in problem.searches])


def _limit_trials(
    axes: Axes, rows: Sequence[Sequence[float]], higher: bool, theme: Theme
) -> Sequence[Sequence[float]]:
    """Return the trials near the best; mark the others at the edge with their values."""
    values = np.array([value for row in rows for value in row])
    near = is_near_best(values, higher=higher, logarithmic=False)
    if near.all() or not near.any():
        return rows
    low, high = float(values[near].min()), float(values[near].max())
    beyond = [[value for value in row if (value < low if higher else value > high)] for row in rows]
    room = min(
        0.6, 0.1 + FAR_CHARACTER * max((len(span_text(far)) for far in beyond if far), default=0)
    )
    span = ((high - low) or 0.1 * abs(high) or 1.0) / (0.9 - room)
    left, right = (room, 0.1) if higher else (0.1, room)
    axes.set_xlim(low - left * span, high + right * span)
    for number, far in enumerate(beyond):
        if far:
            mark_far(axes, number, far, theme, left=higher)
    return [[value for value in row if low <= value <= high] for row in rows]


def draw_trials(axes: Axes, view: StudyView, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw the expected best of k trials of each optimizer, by k."""
    looks = optimizer_looks(view, theme)
    by_optimizer = best_of_trials(problem)
    for optimizer, look in looks.items():
        if (best := by_optimizer.get(optimizer)) is None:
            continue
        every = max(1, len(best.trials) // 7)
        axes.plot(
            best.trials,
            best.expected,
            **look,
            markevery=every,
            label=literal(optimizer),
        )
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("trials")
    metric_axis(axes, problem.select or "", view.directions)
    axes.set_ylabel(f"expected best {literal(view.directions.heading(problem.select or ''))}")
    legend(axes)
