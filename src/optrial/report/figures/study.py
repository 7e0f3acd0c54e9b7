"""The figures of a study for print, with their captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from optrial.analysis.reported import ReportedValue
from optrial.analysis.searches import best_of_trials, rate_ranges, tolerance_text
from optrial.analysis.target_results import profiles, target_results
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import capital
from optrial.report.axes import grow_for_legend
from optrial.report.chart_data import probes_of
from optrial.report.curves import CurveSource, draw_curves
from optrial.report.figures.outcomes import (
    draw_differences,
    draw_ranks,
    draw_reported,
    draw_timing,
    shown_pairs,
)
from optrial.report.figures.rates import draw_rate_ranges, draw_sensitivity
from optrial.report.figures.targets import draw_profile, draw_targets
from optrial.report.figures.tuning import draw_trials, draw_tuning
from optrial.style import LIGHT, WIDTHS, Theme, figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PrintFigure", "study_figures"]


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
        name = f"profile-{'-'.join(profile.label.replace('%', '').split())}"
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
        figure = _figure(draw_differences, problem, theme, rows=len(shown_pairs(problem)))
        caption = (
            f"Paired differences of {view.directions.title(problem.metric)}{where}, with intervals "
            "that are adjusted for all comparisons; filled where a difference is shown."
        )
        yield PrintFigure(f"differences{suffix}", figure, caption)
    for name, values in _reported(view, problem).items():
        figure = _figure(draw_reported, view, values, theme, rows=len(values))
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

    The training loss is the mean of each epoch; that of each batch where no run has two epochs.
    If metrics of batches are recorded, they and the loss of batches come too.
    """
    losses = [m for m in ("train_loss_epoch", "train_loss") if m in view.metrics]
    if losses[1:] and not any(len(curve) > 1 for curve in view.curves(losses[0]).values()):
        del losses[0]  # less than two epochs: dots in place of lines
    training = losses[:1]
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
