"""Figures of learning rates: final values by rate, and the rates that do as well as the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.rates import RateLine
from optrial.analysis.searches import rate_ranges, tolerance_text, tried_rates
from optrial.analysis.view import ProblemView, StudyView
from optrial.report.axes import (
    Stacks,
    draw_interval,
    is_near_best,
    legend,
    log_axis,
    metric_axis,
    metric_is_logarithmic,
    optimizer_styles,
    row_axis,
)
from optrial.report.figures.looks import optimizer_looks
from optrial.style import LIGHT, Theme, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_rate_ranges", "draw_sensitivity"]

BEYOND = 1.5
"""Factor by which a line extends beyond a learning rate at an open end."""

Floats = NDArray[np.float64]


def draw_sensitivity(
    axes: Axes, view: StudyView, problem: ProblemView, metric: str, theme: Theme = LIGHT
) -> None:
    """Draw final values by learning rate; hollow if some runs did not finish, × if none did.

    Values far from the best are marked at the edge, with their numbers. Without an optimizer that
    was tried at several rates, the axes say so.
    """
    lines = problem.sensitivity(metric)
    if not lines:
        text = "no optimizer was tried at several learning rates"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")
        axes.set_axis_off()
        return
    looks = optimizer_looks(view, theme)
    hollow = False
    for line in sorted(lines, key=lambda line: list(looks).index(line.optimizer)):
        style = looks[line.optimizer]
        rates = np.array([point.rate for point in line.points])
        table = np.array(
            [(p.interval.estimate, p.interval.low, p.interval.high) for p in line.points]
        )
        axes.plot(rates, table[:, 0], **style, label=literal(line.optimizer))
        limits = {"color": style["color"], "linewidth": 0.8, "alpha": 0.5}
        axes.vlines(rates, table[:, 1], table[:, 2], **limits)
        some = np.array([0 < point.done < point.runs for point in line.points])
        empty = style | {"linestyle": "", "markerfacecolor": theme.background}
        axes.plot(rates[some], table[some, 0], **empty | {"markeredgecolor": style["color"]})
        hollow = hollow or bool(some.any())
    every = np.array([point.rate for line in lines for point in line.points])
    axes.set_xscale("log")
    axes.set_xlim(every.min() / BEYOND, every.max() * BEYOND)
    log_axis(axes.xaxis, *axes.get_xlim(), 6)
    if any(point.done for line in lines for point in line.points):
        metric_axis(axes, metric, view.directions, _shown_values(lines, metric, view))
    crosses = _mark_beyond(axes, lines, looks, metric, view, theme)
    keys = ["hollow: some runs did not finish"] * hollow + ["×: none did"] * crosses
    axes.set_xlabel("learning rate" + f"\n({'; '.join(keys)})" * bool(keys))
    legend(axes)


def _shown_values(lines: Sequence[RateLine], metric: str, view: StudyView) -> Floats:
    """Return the means near the best, and their intervals as far as these are not much wider."""
    points = [point.interval for line in lines for point in line.points if point.done]
    table = np.array([(p.estimate, p.low, p.high) for p in points])
    logarithmic = metric_is_logarithmic(metric, view.directions, table[:, 0])
    higher = view.directions.better(metric) == "higher"
    near = table[is_near_best(table[:, 0], higher=higher, logarithmic=logarithmic)]
    means, limits = near[:, 0], near[:, 1:].ravel()
    span = means.max() - means.min() or 0.1 * abs(means.max())
    limits = np.clip(limits, means.min() - span, means.max() + span)
    return np.concatenate([means, limits[limits > 0] if logarithmic else limits])


def _mark_beyond(
    axes: Axes,
    lines: Sequence[RateLine],
    looks: Mapping[str, Mapping[str, Any]],
    metric: str,
    view: StudyView,
    theme: Theme,
) -> bool:
    """Mark values outside the range, and × where no run finished; return whether there is one."""
    low, high = axes.get_ylim()
    factor = 100 if view.directions.percent(metric) else 1
    worst_below = view.directions.better(metric) == "higher"
    stacks, crosses = Stacks(axes), False
    for line in lines:
        color = looks[line.optimizer]["color"]
        if color == theme.grey:  # one of many, whose values would hide those of the best
            continue
        for point in line.points:
            value = point.interval.estimate
            if not point.done:
                stacks.add(point.rate, "×", color, below=worst_below)
                crosses = True
            elif not low <= value <= high:
                arrow = "▾" if value < low else "▴"
                stacks.add(point.rate, f"{arrow} {factor * value:.3g}", color, below=value < low)
    return crosses


def draw_rate_ranges(
    axes: Axes, view: StudyView, problem: ProblemView, metric: str, theme: Theme = LIGHT
) -> None:
    """Draw the learning rates about as good as the best; an arrow if none beyond was tried."""
    styles = optimizer_styles(view)
    ranges = rate_ranges(problem, metric)
    rates = tried_rates(problem, metric)
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / BEYOND**2, max(rates) * BEYOND**2)
    log_axis(axes.xaxis, *axes.get_xlim(), 5)
    for row, (optimizer, span) in enumerate(ranges.items()):
        style = styles[optimizer].matplotlib(theme)
        draw_interval(axes, row, (span.best, span.low, span.high), **style)
        for end, beyond, marker, continues in (
            (span.low, 1 / BEYOND, "<", span.open_low),
            (span.high, BEYOND, ">", span.open_high),
        ):
            if continues:
                shape: dict[str, Any] = {
                    "marker": marker,
                    "markevery": [1],
                    "markersize": 3,
                    "linewidth": 0.9,
                }
                axes.plot([end, beyond * end], [row, row], color=style["color"], **shape)
    best = literal(view.directions.title(metric))
    within = f"within {tolerance_text(view.directions.percent(metric))} of the best {best}"
    is_open = any(span.open_low or span.open_high for span in ranges.values())
    arrow = "\n(arrow: none beyond was tried)" * is_open
    axes.set_xlabel(f"learning rate\n({within}){arrow}", loc="right")
    row_axis(axes, ranges)
