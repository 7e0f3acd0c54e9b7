"""Curves of one or several studies over steps or epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.bands import Band
from optrial.analysis.contenders import Contender
from optrial.analysis.reported import names_setting
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import StoreError, suggest
from optrial.records import Curve, Record
from optrial.report.axes import (
    Stacks,
    behind,
    grow_for_legend,
    is_near_best,
    legend,
    log_axis,
    metric_axis,
    metric_is_logarithmic,
    optimizer_styles,
)
from optrial.spec import FAILED, Directions, metric_title, setting_text
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

__all__ = ["CurveOptions", "CurveSource", "curves_figure", "draw_curves"]

MARKS = 7
"""Markers on a line."""
FAINT = 0.3
"""Opacity of a line that is not smoothed, behind the one that is."""
DENSE = 1000
"""Values above which such a line, which then fills an area, is fainter still."""
APART = 5e-3
"""Largest distance, as a share of the height of the axes, of lines that coincide to the eye."""
WIDER = 2.6
"""Points by which a line is wider than the one that it coincides with and lies below."""
METRIC_DASHES: tuple[tuple[float, ...], ...] = ((), (4.0, 1.5), (1.2, 1.2), (5.0, 1.2, 1.2, 1.2))
"""Dashes of the first, the second, ... metric on the same axes."""
PANEL_HEIGHT = 2.4
PUBLISHED = "published"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CurveSource:
    """The runs of a study on one problem.

    Attributes:
        view: the study.
        problem: one of its problems.
        name: written behind the name of each line, to tell several sources apart; or "".
    """

    view: StudyView
    problem: ProblemView
    name: str = ""


_Entry = tuple[CurveSource, Contender]


@dataclass(frozen=True)
class CurveOptions:
    """Choice and style of the curves that are drawn.

    Attributes:
        x: unit of the horizontal axis; None for that of the study's budget.
        smooth: number of recorded values in a moving mean, whose line is drawn over the faint line
            of the values themselves; None thins long curves by means of their parts instead.
        limits: lower and upper end of the vertical axis; None where the values decide. An end at 0
            or below makes the axis linear.
        only: names of optimizers, with or without values of their settings; empty for all that
            contend. A name with values is also that of a setting that was tried and not chosen.
        each_seed: whether to draw a line per run in place of mean and interval.
    """

    x: Literal["steps", "epochs"] | None = None
    smooth: int | None = None
    limits: tuple[float | None, float | None] = (None, None)
    only: Sequence[str] = ()
    each_seed: bool = False


@dataclass(frozen=True, eq=False)
class _Line:
    """A mean curve, or that of one run.

    Attributes:
        label: its name in the legend; empty for all but the first metric of a contender.
        style: colour, marker and dashes.
        band: the values.
        raw: the values before they were smoothed; None if they were not.
        per_x: steps per unit of the horizontal axis.
        grey: whether it is one of many that are not among the best.
        lost: whether all of its runs failed.
    """

    label: str
    style: LineStyle
    band: Band
    raw: Band | None
    per_x: float
    grey: bool
    lost: bool

    @property
    def x(self) -> Floats:
        return self.band.steps / self.per_x

    @property
    def last(self) -> int | None:
        """Index of the last finite value of the mean."""
        finite = np.flatnonzero(np.isfinite(self.band.mean))
        return int(finite[-1]) if len(finite) else None

    def looks(self, theme: Theme) -> dict[str, Any]:
        """Return the keyword arguments of `Axes.plot`."""
        style = self.style.matplotlib(theme)
        return style | behind(theme) if self.grey else style


@dataclass(eq=False)
class _Contenders:
    """Contenders of all sources with their styles, and the steps of an epoch of each."""

    sources: Sequence[CurveSource]
    only: Sequence[str]
    entries: list[_Entry] = field(init=False)
    title: str = field(init=False)
    names: list[str] = field(init=False)
    styles: list[LineStyle] = field(init=False)

    def __post_init__(self) -> None:
        optimizers = [(s, optimizer) for s in self.sources for optimizer in s.problem.optimizers]
        contending = [(s, setting) for s, o in optimizers for setting in o.contenders]
        others = [(s, setting) for s, o in optimizers for setting in o.others]
        named = [
            _named(contending, name) or _named(others, name) or _refuse(name, contending + others)
            for name in self.only
        ]
        wanted = {id(setting) for entries in named for _, setting in entries}
        self.entries = (
            [entry for entry in contending + others if id(entry[1]) in wanted]
            if self.only
            else contending
        )
        self.title, self.names = _names(self.entries)
        styles = optimizer_styles(*dict.fromkeys(source.view for source in self.sources))
        self.styles = variant_styles([c.optimizer for _, c in self.entries], styles)

    def not_reported(self, source: CurveSource) -> list[Record]:
        """Return the runs of the settings of a source that are drawn but do not contend."""
        chosen = {contender.setting_id for contender in source.problem.contenders}
        settings = [c for s, c in self.entries if s is source and c.setting_id not in chosen]
        return [record for setting in settings for record in setting.records]

    def is_grey(self, contender: Contender) -> bool:
        """Return whether only the best optimizers keep their colours, because many are drawn."""
        if len({entry.optimizer for _, entry in self.entries}) <= MANY:
            return False
        views = (source.view for source in self.sources)
        return not any(contender.optimizer in v.ranked_optimizers[:COLOURED] for v in views)


def _named(entries: Iterable[_Entry], name: str) -> list[_Entry]:
    return [
        (source, setting)
        for source, setting in entries
        if names_setting(name, setting.optimizer, setting.setting)
    ]


def _refuse(name: str, entries: Iterable[_Entry]) -> NoReturn:
    known = dict.fromkeys(f"{c.optimizer} {c.setting}".strip() for _, c in entries)
    raise StoreError(f"no line is named '{name}'. {suggest(name, known)}")


def curves_figure(
    sources: Sequence[CurveSource],
    metrics: Sequence[str],
    options: CurveOptions = CurveOptions(),
    theme: Theme = LIGHT,
) -> Figure:
    """Return a figure with one panel per kind of metric: losses together, accuracies together."""
    from matplotlib.figure import Figure  # heavy  # noqa: PLC0415

    directions = sources[0].view.directions
    panels: dict[str, list[str]] = {}
    for metric in metrics:
        panels.setdefault(directions.parse(metric).label, []).append(metric)
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    with figure_style(theme):
        size = (WIDTHS["page" if columns > 1 else "column"], rows * PANEL_HEIGHT + 0.5)
        figure = Figure(figsize=size)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for place, (axes, names) in enumerate(zip(grid.flat, panels.values(), strict=False)):
            draw_curves(axes, sources, names, theme, options, named=place == 0)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        _explain_once(grid.flat[: len(panels)])
        grow_for_legend(grid.flat[0])
        figure.draw_without_rendering()  # settles the layout while the style holds
    return figure


def _explain_once(panels: Iterable[Axes]) -> None:
    """Remove legends that only repeat what published values look like."""
    known: set[str] = set()
    for axes in panels:
        labels = set(axes.get_legend_handles_labels()[1])
        box = axes.get_legend()
        if box and labels <= known & {PUBLISHED}:
            box.remove()
        known |= labels


def draw_curves(
    axes: Axes,
    sources: Sequence[CurveSource],
    metrics: Sequence[str],
    theme: Theme = LIGHT,
    options: CurveOptions = CurveOptions(),
    *,
    named: bool = True,
) -> None:
    """Draw the mean of each contender with its interval, or each run; × where a run ended early.

    Published values are hollow circles. With several metrics, the dashes of a line tell the metric.
    Where lines coincide, those below are wider and lighter.

    Args:
        axes: to draw on.
        sources: studies, or problems of one, to overlay.
        metrics: names of metrics.
        theme: colours.
        options: what to draw.
        named: whether the legend names the contenders.

    Raises:
        StoreError: no contender is named as `options.only` says, or a metric is the value of
            different losses, or the limits hold no value.
    """
    contenders = _Contenders(sources, options.only)
    _check_losses(contenders, metrics)
    every = _lines(contenders, metrics, options, named)
    lines = sorted(every, key=lambda line: line.grey)  # the legend names those in colour first
    above = [0] * len(lines) if any(line.grey for line in lines) else _lines_above(lines)
    for line, count in zip(lines, above, strict=True):
        _draw_line(axes, line, count, theme)
    published = _draw_published(axes, contenders, metrics, options, theme)
    directions = sources[0].view.directions
    label = _shared_label(metrics, directions)
    linear = any(end is not None and end <= 0 for end in options.limits)
    deciding = _deciding(lines, label, directions, published)
    metric_axis(axes, label, directions, deciding, linear=linear)
    if options.limits == (None, None):
        _mark_outside(axes, lines, directions.percent(label), theme)
    else:
        _set_limits(axes, options.limits, label, directions)
        if axes.get_yscale() == "log":
            log_axis(axes.yaxis, *axes.get_ylim(), 8)
    _x_axis(axes, lines)
    axes.set_xlabel(_x_label(lines, _unit(sources[0], options), options.smooth))
    _name_metrics(axes, metrics if len(metrics) > 1 else (), theme)
    if published:
        axes.plot([], [], mec=theme.text, label=PUBLISHED, **_circle(theme))
    legend(axes, contenders.title if named else "")


def _set_limits(
    axes: Axes, limits: tuple[float | None, float | None], metric: str, directions: Directions
) -> None:
    """Set the ends of the vertical axis that are given.

    Raises:
        StoreError: the metric cannot have such a value, or none that is drawn lies within.
    """
    least, greatest = directions.bounds(metric)
    for end in limits:
        if end is not None and not least <= end <= greatest:
            title = directions.title(metric)
            raise StoreError(
                f"limits: {end:g} is beyond the values of {title}, which lie between {least:g} and "
                f"{greatest:g}; 95 % is 0.95. Draw metrics with other limits apart."
            )
    axes.set_ylim(*limits)
    low, high = axes.get_ylim()
    if not low < high:
        given = ":".join("" if end is None else f"{end:g}" for end in limits)
        raise StoreError(f"limits: {given}: no value of {directions.title(metric)} lies there.")


def _check_losses(contenders: _Contenders, metrics: Sequence[str]) -> None:
    """Refuse to draw the values of different losses on the same axes.

    Raises:
        StoreError: they differ.
    """
    for metric in metrics:
        known: dict[str, str] = {}
        for source, contender in contenders.entries:
            curves = source.view.curves(metric)
            if source.view.directions.parse(metric).is_loss:
                for record in contender.records:
                    if record.run_id in curves:
                        known.setdefault(record.spec.loss, source.name or record.problem)
        if len(known) > 1:
            losses = " and ".join(f"{loss} in {name}" for loss, name in known.items())
            raise StoreError(
                f"{metric} is {losses}, whose values share no axis; "
                "draw one study or problem (--problem) at a time."
            )


def _lines(
    contenders: _Contenders, metrics: Sequence[str], options: CurveOptions, named: bool
) -> Iterator[_Line]:
    for place, metric in enumerate(metrics):
        read = {id(s): _bands(s, metric, options.smooth, contenders) for s in contenders.sources}
        looks = zip(contenders.entries, contenders.names, contenders.styles, strict=True)
        for (source, contender), name, style in looks:
            bands, raw = read[id(source)]
            if band := bands.get(contender.setting_id):
                several = len(metrics) > 1
                line = _Line(
                    name if named and not place else "",
                    replace(style, dashes=METRIC_DASHES[place % 4]) if several else style,
                    band,
                    raw.get(contender.setting_id),
                    _per_x(source, contender, options),
                    contenders.is_grey(contender),
                    all(record.status in FAILED for record in contender.records),
                )
                yield from _by_seed(line) if options.each_seed else [line]


def _by_seed(line: _Line) -> Iterator[_Line]:
    """Yield the line of each run of a mean curve, the first one with its name."""
    none = np.full_like(line.band.mean, np.nan)
    for place, values in enumerate(line.band.values):
        yield replace(
            line,
            label="" if place else line.label,
            band=replace(line.band, mean=values, low=none, high=none),
            raw=line.raw and replace(line.raw, mean=line.raw.values[place]),
        )


def _names(entries: Sequence[_Entry]) -> tuple[str, list[str]]:
    """Return what all lines of different sources share, or "", and the name of each line."""
    contenders = [f"{one.optimizer} {setting_text(one.setting)}".strip() for _, one in entries]
    sources = [source.name for source, _ in entries]
    if len(set(sources)) == len(sources) > len(set(contenders)) == 1:
        return contenders[0], sources
    pairs = zip(contenders, sources, strict=True)
    return "", [f"{name} ({source})" if source else name for name, source in pairs]


def _unit(source: CurveSource, options: CurveOptions) -> str:
    return options.x.removesuffix("s") if options.x else source.view.budget_unit


def _per_x(source: CurveSource, contender: Contender, options: CurveOptions) -> float:
    return contender.records[0].steps_per_epoch if _unit(source, options) == "epoch" else 1


def _bands(
    source: CurveSource, metric: str, smooth: int | None, contenders: _Contenders
) -> tuple[Mapping[str, Band], Mapping[str, Band]]:
    """Return bands by setting; and those of the values before smoothing, if it is asked for."""
    curves, points = source.view.curves(metric), source.view.points
    further = contenders.not_reported(source)
    longest = max(map(len, curves.values()), default=0)
    if smooth is None or longest < 2 * smooth:  # too few values, as of evaluations
        return source.problem.bands(metric, curves, points, further=further), {}
    smoothed = {run: _moving_mean(c, smooth) for run, c in curves.items() if len(c) >= smooth}
    raw = {run: curves[run] for run in smoothed}
    bands = partial(source.problem.bands, further=further)
    return bands(metric, smoothed, points), bands(metric, raw, longest)


def _moving_mean(curve: Curve, window: int) -> Curve:
    """Return the means of `window` successive values, each at the step of the last of them."""
    means = np.convolve(curve.values, np.full(window, 1 / window), mode="valid")
    return Curve(curve.steps[window - 1 :], means)


def _lines_above(lines: Sequence[_Line]) -> list[int]:
    """Return for each line how many later ones coincide with it."""
    known = [line.band.mean[np.isfinite(line.band.mean)] for line in lines]
    ends = [end for values in known if len(values) for end in (values.min(), values.max())]
    height = max(ends, default=1.0) - min(ends, default=0.0)
    return [
        sum(_coincide(line, other, APART * height) for other in lines[place + 1 :])
        for place, line in enumerate(lines)
    ]


def _coincide(line: _Line, other: _Line, distance: float) -> bool:
    """Return whether the means of two lines are nowhere further apart."""
    _, here, there = np.intersect1d(line.x, other.x, return_indices=True)
    if len(here) < min(len(line.x), len(other.x)):
        return False
    gaps = np.abs(line.band.mean[here] - other.band.mean[there])
    finite = gaps[np.isfinite(gaps)]
    return bool(len(finite) and finite.max() <= distance)


def _draw_line(axes: Axes, line: _Line, above: int, theme: Theme) -> None:
    """Draw a line, wider and lighter for each line that will cover it."""
    style = line.looks(theme)
    band, colour = line.band, style["color"]
    if line.raw:
        x = line.raw.steps / line.per_x
        opacity = FAINT * min(1.0, math.sqrt(DENSE / len(x)))
        axes.plot(x, line.raw.mean, color=colour, linewidth=0.5, alpha=opacity)
    if above:
        axes.plot(line.x, band.mean, color=colour, linewidth=1.1 + WIDER * above, alpha=FAINT)
    every = max(1, len(band.steps) // MARKS)
    axes.plot(line.x, band.mean, **style, markevery=every, label=literal(line.label) or None)
    if not line.grey:
        axes.fill_between(line.x, band.low, band.high, color=colour, alpha=0.16, linewidth=0)
    if line.last is not None and line.last < len(band.mean) - 1:
        end = (line.x[line.last], band.mean[line.last])
        axes.plot(*end, marker="x", color=colour, linestyle="", markersize=6)


def _deciding(
    lines: Sequence[_Line], metric: str, directions: Directions, published: Sequence[float]
) -> Floats | None:
    """Return the values that decide the range of the vertical axis; None for all that are drawn.

    These are the values of lines that end near the best one, without the first part, where all of
    them change most, and their intervals as far as these are not much wider; and published values.
    Lines whose runs all failed count only if there are no others.
    """
    drawn = [line for line in lines if line.last is not None]
    ended = [line for line in drawn if not line.lost] or drawn
    better = directions.better(metric)
    if not ended or better is None:
        return None
    finals = np.array([line.band.mean[line.last] for line in ended])
    logarithmic = metric_is_logarithmic(metric, directions, finals)
    near = is_near_best(finals, higher=better == "higher", logarithmic=logarithmic)
    start = (0.02 if logarithmic else 0.2) * max(float(line.x[-1]) for line in ended)
    kept = [line for line, is_near in zip(ended, near, strict=True) if is_near]
    late = [(line.x >= start) | (np.arange(len(line.x)) == line.last) for line in kept]
    means = np.concatenate([x.band.mean[part] for x, part in zip(kept, late, strict=True)])
    limits = np.concatenate(
        [end[part] for x, part in zip(kept, late, strict=True) for end in (x.band.low, x.band.high)]
    )
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    if logarithmic:
        limits = limits[limits > 0]
        least, most = low * low / high / 1.1, high * high / low * 1.1
    else:
        wide = high - low or 0.1 * abs(high)
        least, most = low - wide, high + wide
    return np.concatenate([means, np.clip(limits, least, most), published])


def _mark_outside(axes: Axes, lines: Sequence[_Line], percent: bool, theme: Theme) -> None:
    """Mark lines that end outside the range of the axes, with their final values."""
    low, high = axes.get_ylim()
    stacks = Stacks(axes)
    for line in lines:
        if line.grey or line.last is None or line.last < len(line.band.mean) - 1:
            continue
        final = float(line.band.mean[line.last])
        if not low <= final <= high:
            below = final < low
            text = f"{'▾' if below else '▴'} {(100 if percent else 1) * final:.3g}"
            color = line.looks(theme)["color"]
            stacks.add(float(line.x[line.last]), text, color, below=below)


def _draw_published(
    axes: Axes,
    contenders: _Contenders,
    metrics: Sequence[str],
    options: CurveOptions,
    theme: Theme,
) -> list[float]:
    """Draw the published values that training reaches, final ones at its end, and return them."""
    pairs = zip(contenders.entries, contenders.styles, strict=True)
    looks = {
        (id(s), c.setting_id): (style, _per_x(s, c, options), c.records[0].steps)
        for (s, c), style in pairs
    }
    drawn: list[float] = []
    for source in contenders.sources:
        for value in source.view.published(source.problem):
            if value.metric in metrics and (look := looks.get((id(source), value.setting_id))):
                style, per_x, last = look
                step = last if value.step is None else value.step
                if step <= last:
                    colour = style.matplotlib(theme)["color"]
                    axes.plot([step / per_x], [value.reported], mec=colour, **_circle(theme))
                    drawn.append(value.reported)
    return drawn


def _circle(theme: Theme) -> dict[str, Any]:
    return {"ls": "", "marker": "o", "mfc": theme.background, "ms": 4, "mew": 0.9}


def _shared_label(metrics: Sequence[str], directions: Directions) -> str:
    """Return the name of a metric, or what several metrics have in common."""
    labels = dict.fromkeys(directions.parse(metric).label for metric in metrics)
    return metrics[0] if len(metrics) == 1 else ", ".join(labels)


def _x_axis(axes: Axes, lines: Sequence[_Line]) -> None:
    """Start at 0 where all values are of one step, and keep ticks apart."""
    ends = {float(x) for line in lines for x in line.x[[0, -1]]}
    if len(ends) == 1:
        axes.set_xlim(0, 1.06 * max(ends) or 1.0)
    axes.locator_params(axis="x", nbins=7, integer=not 0 < max(ends, default=0.0) < 2)


def _x_label(lines: Sequence[_Line], unit: str, smooth: int | None) -> str:
    windows = {line.band.window for line in lines}
    if any(line.raw for line in lines):
        return f"{unit}; moving mean of {smooth} values, faint: each value"
    if windows and max(windows) > 1:
        return f"{unit}, means of {max(windows)} values"
    return unit


def _name_metrics(axes: Axes, metrics: Sequence[str], theme: Theme) -> None:
    """Add the dashes of each metric to the legend."""
    for place, metric in enumerate(metrics):
        dashes = METRIC_DASHES[place % 4]
        style: dict[str, Any] = {"color": theme.text}
        style["linestyle"] = (0, dashes) if dashes else "solid"
        axes.plot([], [], **style, label=literal(metric_title(metric)))
