"""The figures of a study for print: curves, learning rates, tuning, differences, time and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.contenders import Contender
from optrial.analysis.rates import RateLine
from optrial.analysis.reported import ReportedValue
from optrial.analysis.searches import best_of_trials, rate_ranges, tolerance_text, tried_rates
from optrial.analysis.target_results import Profile, TargetResult, profiles, target_results
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import capital
from optrial.report.axes import (
    Stacks,
    behind,
    draw_interval,
    grow_for_legend,
    is_near_best,
    legend,
    log_axis,
    metric_axis,
    metric_is_logarithmic,
    optimizer_styles,
    row_axis,
)
from optrial.report.chart_data import probes_of
from optrial.report.curves import CurveSource, draw_curves
from optrial.spec import metric_title
from optrial.style import (
    COLOURED,
    LIGHT,
    MANY,
    WIDTHS,
    LineStyle,
    Theme,
    figure_style,
    literal,
    variant_styles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PrintFigure",
    "draw_differences",
    "draw_profile",
    "draw_ranks",
    "draw_rate_ranges",
    "draw_reported",
    "draw_sensitivity",
    "draw_targets",
    "draw_timing",
    "draw_trials",
    "draw_tuning",
    "plot",
    "study_figures",
]

Floats = NDArray[np.float64]

BEYOND = 1.5
"""Factor by which a line extends beyond a learning rate at an open end."""
FAR_CHARACTER = 0.022
"""Share of the width of axes that a character at their edge takes."""
SCREEN_DPI = 160
"""Dots per inch of a figure in a notebook or window: about 540 pixels in width."""
MOST_ROWS = 40
"""Most rows that fit a page; of more pairs, only those of the leader are drawn."""


class PrintFigure(NamedTuple):
    """A figure for print.

    Attributes:
        name: its name for a file.
        figure: the figure.
        caption: what it shows and how to read it, in sentences.
    """

    name: str
    figure: Figure
    caption: str


def study_figures(view: StudyView, theme: Theme = LIGHT) -> Iterator[PrintFigure]:
    """Yield each figure that the study has data for."""
    several = len(view.problems) > 1
    for problem in view.problems:
        suffix, where = (f"-{problem.name}", f" on {problem.name}") if several else ("", "")
        yield from _curve_figures(view, problem, theme, suffix, where)
        yield from _search_figures(view, problem, theme, suffix, where)
        yield from _outcome_figures(view, problem, theme, suffix, where)
    for profile in profiles(view):
        name = f"profile-{profile.label.replace(' ', '-')}"
        caption = (
            f"Share of problems on which each optimizer reaches {profile.label} within a factor "
            "of the fastest."
        )
        yield PrintFigure(name, _figure(draw_profile, view, profile, theme), caption)
    if view.ranks:
        figure = _figure(draw_ranks, view, theme, rows=len(view.ranks.order))
        caption = "Average ranks over problems; a bar joins optimizers that are undecided."
        yield PrintFigure("ranks", figure, caption)


def _curve_figures(
    view: StudyView, problem: ProblemView, theme: Theme, suffix: str, where: str
) -> Iterator[PrintFigure]:
    """Yield figures of metrics during training and of times to targets."""
    for metric in _curve_metrics(view, problem):
        if any(record.metrics.get(metric) is not None for record in problem.reported):
            figure = _figure(draw_curves, [CurveSource(view, problem)], [metric], theme)
            title = capital(view.directions.title(metric))
            caption = (
                f"{title} during training{where}: mean and 95 % interval over {problem.pairing}s."
            )
            yield PrintFigure(f"curves-{metric}{suffix}", figure, caption)
    for result in target_results(view, problem):
        name = f"target-{result.target.metric}-{result.target.value:g}{suffix}"
        caption = (
            f"Share of runs that reached {result.target}{where} by step; a bar marks runs that "
            "ended without it."
        )
        yield PrintFigure(name, _figure(draw_targets, view, result, theme), caption)


def _outcome_figures(
    view: StudyView, problem: ProblemView, theme: Theme, suffix: str, where: str
) -> Iterator[PrintFigure]:
    """Yield figures of differences, published values and training times."""
    if problem.pairs:
        figure = _figure(draw_differences, problem, theme, rows=len(_shown_pairs(problem)))
        caption = (
            f"Paired differences of {view.directions.title(problem.metric)}{where}, with intervals "
            "that are adjusted for all comparisons; filled where a difference is shown."
        )
        yield PrintFigure(f"differences{suffix}", figure, caption)
    for name, values in _reported(view, problem).items():
        figure = _figure(draw_reported, values, theme, rows=len(values))
        caption = (
            f"Published values of {view.directions.title(name)}{where} (hollow) and measured ones, "
            "with the range of one more run."
        )
        yield PrintFigure(f"reported-{name}{suffix}", figure, caption)
    if problem.costs:
        figure = _figure(draw_timing, view, problem, theme, rows=len(problem.costs))
        caption = f"Training time per run{where}: median and range."
        yield PrintFigure(f"timing{suffix}", figure, caption)


def _search_figures(
    view: StudyView, problem: ProblemView, theme: Theme, suffix: str, where: str
) -> Iterator[PrintFigure]:
    """Yield figures of learning rates and of tuning."""
    metric = problem.select or problem.metric
    title = view.directions.title(metric)
    if problem.sensitivity(metric):
        figure = _figure(draw_sensitivity, view, problem, metric, theme)
        caption = (
            f"Final {title} by learning rate{where}; hollow where some runs did not finish, a "
            "cross where none did."
        )
        yield PrintFigure(f"sensitivity{suffix}", figure, caption)
    if rows := len(rate_ranges(problem, metric)):
        figure = _figure(draw_rate_ranges, view, problem, metric, theme, rows=rows)
        caption = (
            f"Learning rates within {tolerance_text(view.directions.percent(metric))} of the best "
            f"{title}{where}; an arrow where no rate beyond was tried."
        )
        yield PrintFigure(f"rate-ranges{suffix}", figure, caption)
    if rows := len(problem.searches):
        figure = _figure(draw_tuning, view, problem, theme, rows=rows)
        caption = f"Mean {title} of each trial of the tuning{where}; filled: the chosen setting."
        yield PrintFigure(f"tuning{suffix}", figure, caption)
    if best_of_trials(problem):
        figure = _figure(draw_trials, view, problem, theme)
        caption = f"Expected best {title}{where} after trying k settings."
        yield PrintFigure(f"trials{suffix}", figure, caption)


def draw_targets(axes: Axes, view: StudyView, result: TargetResult, theme: Theme = LIGHT) -> None:
    """Draw the share of runs that reached a target by step; a bar where runs ended without it."""
    styles = _contender_styles(view, [times.contender for times in result.steps])
    looks = _looks(view, theme)
    places = list(looks)
    for times in sorted(result.steps, key=lambda times: places.index(times.contender.optimizer)):
        style = styles[times.contender.name].matplotlib(theme)
        if looks[times.contender.optimizer]["color"] == theme.grey:  # one of many
            style |= behind(theme)
        arrivals = times.survival.times
        steps = np.array([0.0, *arrivals, result.drawn_until(times)])
        reached = 100 * np.array([0.0, *(1 - times.survival.share)])
        reached = np.array([*reached, reached[-1]])
        label = literal(f"{times.contender.name} ({times.reached} of {times.runs})")
        marked = [*range(1, len(arrivals) + 1)]
        axes.plot(steps, reached, **style, drawstyle="steps-post", markevery=marked, label=label)
        if times.censored:
            axes.plot(steps[-1:], reached[-1:], marker="|", markersize=7, color=style["color"])
    axes.set_xlabel("step")
    axes.set_xlim(left=0)
    axes.set_ylim(-3, 103)
    axes.set_ylabel(literal(f"% of runs that reached\n{result.target}"))
    axes.grid(axis="y")
    legend(axes)


def draw_profile(axes: Axes, view: StudyView, profile: Profile, theme: Theme = LIGHT) -> None:
    """Draw on which share of the problems each optimizer is within a factor of the fastest."""
    looks = _looks(view, theme)
    places = list(looks)
    end = BEYOND * max(profile.factors[-1], 2.0)
    lines = zip(profile.names, profile.optimizers, profile.shares, strict=True)
    for name, optimizer, shares in sorted(lines, key=lambda line: places.index(line[1])):
        style = looks[optimizer]
        factors = [*profile.factors, end]
        changes = np.flatnonzero(np.diff(shares, prepend=0.0)).tolist()
        axes.plot(
            factors,
            100 * np.array([*shares, shares[-1]]),
            **style,
            drawstyle="steps-post",
            markevery=changes,
            label=literal(name),
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0.95, end)
    axes.set_ylim(-3, 103)
    axes.set_xlabel(
        literal(f"median steps to {profile.label},\nas a multiple of the fastest optimizer's")
    )
    axes.set_ylabel(f"% of {profile.problems} problems within")
    axes.grid(axis="y")
    legend(axes)


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
    looks = _looks(view, theme)
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


def _looks(view: StudyView, theme: Theme) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments of `Axes.plot` by optimizer.

    Of many optimizers, the best are coloured and come first.
    """
    styles = optimizer_styles(view)
    if len(styles) <= MANY:
        return {name: style.matplotlib(theme) for name, style in styles.items()}
    coloured = view.ranked_optimizers[:COLOURED]
    ordered = sorted(styles, key=lambda name: name not in coloured)
    looks = {name: styles[name].matplotlib(theme) for name in ordered}
    return {n: look if n in coloured else look | behind(theme) for n, look in looks.items()}


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


def draw_differences(axes: Axes, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw paired differences with their intervals; hollow if the two are undecided."""
    pairs = _shown_pairs(problem)
    factor = 100 if problem.directions.percent(problem.metric) else 1
    for row, pair in enumerate(pairs):
        told_apart = pair.verdict in ("better", "worse")
        estimate, low, high = pair.interval
        draw_interval(
            axes,
            row,
            (factor * estimate, factor * low, factor * high),
            color=theme.text,
            markerfacecolor=theme.text if told_apart else theme.background,
            markeredgecolor=theme.text,
            marker="o",
        )
    axes.axvline(0, color=theme.muted, linewidth=0.5, linestyle=(0, (3, 2)), zorder=0)
    _limit_differences(axes, factor * np.array([pair.interval for pair in pairs]), theme)
    unit = "in points, " if factor == 100 else ""
    better = problem.directions.better(problem.metric)
    title = literal(problem.directions.title(problem.metric))
    keys = f"{unit}{better} is better; hollow: undecided"
    axes.set_xlabel(f"difference of {title}\n({keys})", loc="right")
    row_axis(axes, [f"{pair.first} − {pair.second}" for pair in pairs])


def _limit_differences(axes: Axes, intervals: Floats, theme: Theme) -> None:
    """Leave out differences far from the others, and mark them at the edge with their values.

    Args:
        axes: to draw on.
        intervals: (rows, 3) estimate, low and high end.
        theme: colours.
    """
    sizes = np.abs(intervals[:, 0])
    known = sizes[np.isfinite(sizes)]
    far = sizes > 4 * np.median(known) if len(known) else np.zeros(len(sizes), bool)
    if not far.any():
        return
    near = np.append(intervals[~far], 0.0)
    low, high = np.nanmin(near), np.nanmax(near)
    margin = 0.15 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    for row in np.flatnonzero(far).tolist():
        value = float(intervals[row, 0])
        _mark_far(axes, row, [value], theme, left=value < 0)


def _mark_far(axes: Axes, row: int, values: Sequence[float], theme: Theme, *, left: bool) -> None:
    """Write the values beyond the left or right edge of a row beside it."""
    text = _span(values)
    axes.text(
        0.0 if left else 1.0,
        float(row),
        f"◂ {text}" if left else f"{text} ▸",
        transform=axes.get_yaxis_transform(),
        ha="left" if left else "right",
        va="center",
        fontsize=7,
        color=theme.text,
    )


def _span(values: Sequence[float]) -> str:
    """Return values as a text: the only one, or the least and the greatest."""
    ends = dict.fromkeys(f"{end:.3g}".replace("-", "−") for end in (min(values), max(values)))
    return " to ".join(ends)


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
        axes.plot(means, [row] * len(means), "o", mfc="none", mec=theme.muted, markersize=3)
        if chosen := scores.get(search.chosen_id):
            axes.plot([factor * chosen.mean], [row], **style | {"markersize": 6})
        rows.append(means)
    _limit_trials(axes, rows, problem.directions.better(metric) == "higher", theme)
    title = literal(problem.directions.heading(metric))
    axes.set_xlabel(f"{title} of each trial\n(filled: chosen; hollow: others)", loc="right")
    row_axis(axes, [search.title for search in problem.searches])


def _limit_trials(axes: Axes, rows: Sequence[Sequence[float]], higher: bool, theme: Theme) -> None:
    """Leave out trials far from the best, and mark them at the edge with their values."""
    values = np.array([value for row in rows for value in row])
    near = is_near_best(values, higher=higher, logarithmic=False)
    if near.all() or not near.any():
        return
    low, high = float(values[near].min()), float(values[near].max())
    beyond = [[value for value in row if (value < low if higher else value > high)] for row in rows]
    room = min(
        0.6, 0.1 + FAR_CHARACTER * max((len(_span(far)) for far in beyond if far), default=0)
    )
    span = ((high - low) or 0.1 * abs(high) or 1.0) / (0.9 - room)
    left, right = (room, 0.1) if higher else (0.1, room)
    axes.set_xlim(low - left * span, high + right * span)
    for number, far in enumerate(beyond):
        if far:
            _mark_far(axes, number, far, theme, left=higher)


def draw_trials(axes: Axes, view: StudyView, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw the expected best of k trials of each optimizer, by k."""
    looks = _looks(view, theme)
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


def draw_reported(axes: Axes, values: Sequence[ReportedValue], theme: Theme = LIGHT) -> None:
    """Draw published values, hollow, and measured means with the range of one more run."""
    for row, value in enumerate(values):
        mean = value.reported + value.difference
        measured = (mean, mean - value.margin, mean + value.margin)
        draw_interval(axes, row, measured, color=theme.text, marker="o")
        axes.plot([value.reported], [row], "o", mfc=theme.background, mec=theme.text)
    title = literal(metric_title(values[0].metric))
    axes.set_xlabel(f"{title}\n(hollow: published; filled: measured)", loc="right")
    row_axis(axes, [value.name for value in values])


def draw_timing(axes: Axes, view: StudyView, problem: ProblemView, theme: Theme = LIGHT) -> None:
    """Draw training seconds per run: median and range over the runs of each contender."""
    styles = _contender_styles(view, problem.contenders)
    for row, cost in enumerate(problem.costs):
        style = styles[cost.name].matplotlib(theme)
        draw_interval(axes, row, (cost.median, min(cost.seconds), max(cost.seconds)), **style)
    shared = "" if all(cost.alone for cost in problem.costs) else ",\nan equal share of its stack's"
    axes.set_xlabel(f"training seconds per run{shared}", loc="right")
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
    difference = f"critical difference {ranks.critical_difference:.2f}"
    axes.set_xlabel(f"average rank over {ranks.problems} problems\n({difference})", loc="right")
    row_axis(axes, list(averages))


def _contender_styles(view: StudyView, contenders: Sequence[Contender]) -> dict[str, LineStyle]:
    """Return the style of each contender by name, that of its curve."""
    optimizers = [contender.optimizer for contender in contenders]
    styles = variant_styles(optimizers, optimizer_styles(view))
    return dict(zip((contender.name for contender in contenders), styles, strict=True))


def plot(draw: Callable[..., None], *arguments: Any, axes: Axes | None = None) -> Axes:
    """Draw onto axes, or onto those of a new figure of pyplot, which a notebook shows."""
    from matplotlib import pyplot  # heavy  # noqa: PLC0415

    # Loads the backend, which lets a notebook show figures; the style would undo that on exit.
    pyplot.draw_if_interactive()  # type: ignore[no-untyped-call]
    with figure_style():
        is_new = axes is None
        axes = axes or pyplot.figure(dpi=SCREEN_DPI).add_subplot()
        draw(axes, *arguments)
        if is_new:
            grow_for_legend(axes)
    return axes


def _figure(draw: Callable[..., None], *arguments: Any, rows: int = 0) -> Figure:
    """Return a figure one column wide, with room for `rows`; the theme is the last argument."""
    from matplotlib.figure import Figure  # heavy  # noqa: PLC0415

    theme = arguments[-1]
    with figure_style(theme):
        figure = Figure(figsize=(WIDTHS["column"], 0.75 + 0.19 * rows if rows else 2.9))
        axes = figure.add_subplot()
        draw(axes, *arguments)
        grow_for_legend(axes)
        folded = sum(label.get_text().count("\n") for label in axes.get_yticklabels())
        figure.set_figheight(figure.get_figheight() + 0.13 * folded)
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _curve_metrics(view: StudyView, problem: ProblemView) -> list[str]:
    """Return the training loss, the metric that optimizers are compared on, and every probe.

    If metrics of batches are recorded, they and the loss of batches come too.
    """
    training = [m for m in ("train_loss_epoch", "train_loss") if m in view.metrics][:1]
    names = {metric: view.directions.parse(metric) for metric in view.metrics}
    batches = [m for m, name in names.items() if name.of_batches and not name.epoch_mean]
    asked = batches if len(batches) > 1 else []  # the loss alone is there always
    probes = [name for name in probes_of(view) if name in view.metrics]
    return list(dict.fromkeys([*training, *asked, problem.metric, *probes]))


def _reported(view: StudyView, problem: ProblemView) -> dict[str, list[ReportedValue]]:
    """Return published final values by metric."""
    by_metric: dict[str, list[ReportedValue]] = {}
    for value in view.published(problem):
        if value.step is None:
            by_metric.setdefault(value.metric, []).append(value)
    return by_metric


def _shown_pairs(problem: ProblemView) -> Sequence[Any]:
    pairs = problem.pairs
    return pairs if len(pairs) <= MOST_ROWS else [p for p in pairs if p.first == pairs[0].first]
