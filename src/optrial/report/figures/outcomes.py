"""Figures of outcomes, one row each: differences, published values, times and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.reported import ReportedValue
from optrial.analysis.statistics import Comparison
from optrial.analysis.view import ProblemView, StudyView
from optrial.report.axes import draw_interval, optimizer_styles, row_axis
from optrial.report.figures.looks import contender_styles, mark_far
from optrial.style import LIGHT, Theme, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_differences", "draw_ranks", "draw_reported", "draw_timing", "shown_pairs"]

MOST_ROWS = 40
"""Most rows that fit a page; of more pairs, only those of the leader are drawn."""

Floats = NDArray[np.float64]


def draw_differences(axes: Axes, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw paired differences with their intervals; hollow if the two are undecided.

    An arrow at the edge tells that an interval goes on, or has no end. Differences far from the
    others are written at the edge, and so is which optimizer has no run that finished.
    """
    pairs = shown_pairs(problem)
    factor = 100 if problem.directions.percent(problem.metric) else 1
    intervals = factor * np.array([pair.interval for pair in pairs])
    low, high = _range_of_differences(intervals)
    axes.set_xlim(low, high)
    is_cut = False
    for row, (pair, (estimate, *ends)) in enumerate(zip(pairs, intervals.tolist(), strict=True)):
        if pair.all_diverged:
            which = "first" if pair.all_diverged == (pair.first,) else "second"
            which = "both" if len(pair.all_diverged) > 1 else which
            axes.text(0.01, row, f"{which}: all runs diverged", **_at_edge(axes, theme))
            continue
        if not low <= estimate <= high:
            mark_far(axes, row, [estimate], theme, left=estimate < low)
            continue
        told_apart = pair.verdict in ("better", "worse")
        dot = {"mfc": theme.text if told_apart else theme.background, "mec": theme.text}
        inside = np.clip(ends, low, high).tolist()
        draw_interval(axes, row, (estimate, *inside), color=theme.text, marker="o", **dot)
        for end, marker in ((low, "<"), (high, ">")):
            if any(there == end != whole for there, whole in zip(inside, ends, strict=True)):
                is_cut = True
                axes.plot([end], [row], marker, color=theme.text, markersize=3, clip_on=False)
    known = intervals[np.isfinite(intervals[:, 0])]
    if len(known):
        axes.axvline(0, color=theme.muted, linewidth=0.5, linestyle=(0, (3, 2)), zorder=0)
    else:
        axes.set_xticks([])
    keys = ["in points"] * (factor == 100)
    keys += [f"{problem.directions.better(problem.metric)} is better"]
    signs = ["hollow: undecided"] * bool(len(known)) + ["arrow: interval goes on"] * is_cut
    signs += ["no line: no interval"] * bool(np.isnan(known).any())
    title = literal(problem.directions.title(problem.metric))
    lines = [f"difference of {title}", ", ".join(keys), "; ".join(signs)]
    axes.set_xlabel("\n".join(line for line in lines if line), loc="right")
    row_axis(axes, [f"{pair.first} − {pair.second}" for pair in pairs])


def _at_edge(axes: Axes, theme: Theme) -> dict[str, Any]:
    """Return the keyword arguments of a text at the left edge of a row."""
    place = axes.get_yaxis_transform()
    return {"transform": place, "va": "center", "fontsize": 7, "color": theme.muted}


def _range_of_differences(intervals: Floats) -> tuple[float, float]:
    """Return the ends of the axis: no difference, and the intervals of those that are not far.

    Args:
        intervals: (rows, 3) estimate, low and high end; an end may be infinite.
    """
    sizes = np.abs(intervals[:, 0])
    known = sizes[np.isfinite(sizes)]
    if not len(known):
        return -1.0, 1.0
    near = intervals[sizes <= (4 * np.median(known) or np.inf)].ravel()
    near = np.append(near[np.isfinite(near)], 0.0)
    margin = 0.08 * (near.max() - near.min()) or 1.0
    return float(near.min() - margin), float(near.max() + margin)


def shown_pairs(problem: ProblemView) -> Sequence[Comparison]:
    """Return the pairs that are drawn: of very many, those of the leader."""
    pairs = problem.pairs
    return pairs if len(pairs) <= MOST_ROWS else [p for p in pairs if p.first == pairs[0].first]


def draw_reported(
    axes: Axes, view: StudyView, values: Sequence[ReportedValue], theme: Theme = LIGHT
) -> None:
    """Draw published values, hollow, and measured means with the range of one more run."""
    metric = values[0].metric
    factor = 100 if view.directions.percent(metric) else 1
    least, greatest = view.directions.bounds(metric)
    for row, value in enumerate(values):
        mean = value.reported + value.difference
        ends = max(mean - value.margin, least), min(mean + value.margin, greatest)
        measured = (factor * mean, factor * ends[0], factor * ends[1])
        draw_interval(axes, row, measured, color=theme.text, marker="o")
        axes.plot([factor * value.reported], [row], "o", mfc=theme.background, mec=theme.text)
    title = literal(view.directions.heading(metric))
    keys = "hollow: published; filled: measured; line: one more run"
    axes.set_xlabel(f"{title}\n({keys})", loc="right")
    row_axis(axes, [value.name for value in values])


def draw_timing(axes: Axes, view: StudyView, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw training seconds per run: median and range over the runs of each contender."""
    styles = contender_styles(view, problem.contenders)
    for row, cost in enumerate(problem.costs):
        style = styles[cost.name].matplotlib(theme)
        draw_interval(axes, row, (cost.median, min(cost.seconds), max(cost.seconds)), **style)
    alone = all(cost.alone for cost in problem.costs)
    what = "median and range" if alone else "an equal share of the stack's seconds"
    axes.set_xlabel(f"training seconds per run\n({what})", loc="right")
    longest = max(max(cost.seconds) for cost in problem.costs)
    axes.set_xlim(0, 1.05 * longest or 1.0)  # nothing was trained in 0 seconds
    row_axis(axes, [cost.name for cost in problem.costs])


def draw_ranks(axes: Axes, view: StudyView, theme: Theme = LIGHT) -> None:
    """Draw average ranks over problems; a bar joins those that are undecided.

    Raises:
        ValueError: the study has fewer than two problems or optimizers.
    """
    ranks = view.ranks
    if ranks is None:
        raise ValueError(f"ranks need two problems, and there are {len(view.problems)}")
    styles = optimizer_styles(view)
    averages = dict(zip(ranks.order, ranks.average_ranks, strict=True))
    for row, (name, average) in enumerate(averages.items()):
        style = styles[name] if name in styles else next(iter(styles.values()))
        axes.plot([average], [row], **style.matplotlib(theme) | {"linestyle": ""})
    for place, group in enumerate(group for group in ranks.groups if len(group) > 1):
        at = -0.8 - 0.35 * place
        axes.plot(
            [averages[group[0]], averages[group[-1]]], [at, at], color=theme.text, linewidth=2
        )
    joined = any(len(group) > 1 for group in ranks.groups)
    keys = ["bar: undecided"] * joined + [f"critical difference {ranks.critical_difference:.2f}"]
    label = f"average rank over {ranks.problems} problems\n({'; '.join(keys)})"
    axes.set_xlabel(label, loc="right")
    row_axis(axes, list(averages))
