"""Figures of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from optrial.analysis.searches import best_of_trials
from optrial.analysis.target_results import profile_of, target_result
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import StoreError
from optrial.files import make_folder
from optrial.report.curves import CurveOptions, CurveSource, curves_figure, draw_curves
from optrial.report.figures import (
    draw_differences,
    draw_profile,
    draw_sensitivity,
    draw_targets,
    draw_timing,
    draw_trials,
    plot,
    study_figures,
)
from optrial.results.reading import compared_on, one_problem
from optrial.results.targets import Targets
from optrial.spec import Direction
from optrial.style import LIGHT, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plots", "writing"]


class Plots(Targets):
    """The figures of a study."""

    def figures(
        self,
        folder: str | Path,
        file_format: str = "png",
        metric: str | None = None,
        better: Direction | None = None,
    ) -> list[Path]:
        """Write every figure that has data, one column wide, and return their paths.

        Args:
            folder: folder of the figures, created if it is missing.
            file_format: "png", "pdf" or "svg".
            metric: see `view`.
            better: see `view`.

        Raises:
            StoreError: a file cannot be written, or the direction of the metric is unknown.
        """
        view, written = self.ordered_view(metric, better), []
        with writing(Path(folder)):
            make_folder(Path(folder))
            for drawn in study_figures(view):
                written.append(Path(folder, f"{drawn.name}.{file_format}"))
                save_figure(drawn.figure, written[-1])
        return written

    def plot_curves(
        self,
        metric: str | Sequence[str] | None = None,
        axes: Axes | None = None,
        problem: str | Sequence[str] | None = None,
        *,
        x: Literal["steps", "epochs"] | None = None,
        smooth: int | None = None,
        limits: tuple[float | None, float | None] = (None, None),
        only: Sequence[str] = (),
        each_seed: bool = False,
        beside: Sequence[Self] = (),
    ) -> Axes:
        """Draw metrics over steps or epochs, mean and interval of each optimizer; return the axes.

        Args:
            metric: one or several metrics, told apart by their dashes; see `view`.
            axes: matplotlib axes to draw on; by default those of a new figure.
            problem: one or several problems; by default the only one.
            x: unit of the horizontal axis; by default that of the study's budget.
            smooth: number of recorded values in a moving mean, drawn over a faint line of the
                values; by default, long curves are thinned by the means of their parts.
            limits: lower and upper end of the vertical axis; None where the values decide.
            only: names of optimizers, also with values of their settings: ``adam lr=0.01``.
            each_seed: draw a line per run instead of mean and interval.
            beside: results of other studies, drawn on the same axes.

        Raises:
            StoreError: a metric is not recorded, there is no such problem or optimizer, or no value
                lies within the limits.
        """
        sources, metrics = self._curve_sources(metric, problem, beside)
        options = CurveOptions(x, smooth, limits, only, each_seed)
        return plot(draw_curves, sources, metrics, LIGHT, options, axes=axes)

    def curves_figure(
        self,
        metric: str | Sequence[str] | None = None,
        problem: str | Sequence[str] | None = None,
        *,
        x: Literal["steps", "epochs"] | None = None,
        smooth: int | None = None,
        limits: tuple[float | None, float | None] = (None, None),
        only: Sequence[str] = (),
        each_seed: bool = False,
        beside: Sequence[Self] = (),
    ) -> Figure:
        """Return a figure with a panel for losses, one for accuracies, and so on.

        The arguments are those of `plot_curves`. All problems are drawn by default.
        """
        every = [one.name for one in self.view().problems] if problem is None else problem
        sources, metrics = self._curve_sources(metric, every, beside)
        return curves_figure(sources, metrics, CurveOptions(x, smooth, limits, only, each_seed))

    def _curve_sources(
        self,
        metric: str | Sequence[str] | None,
        problem: str | Sequence[str] | None,
        beside: Sequence[Self],
    ) -> tuple[list[CurveSource], list[str]]:
        """Return what to draw, with names where there are several studies or problems."""
        asked = [metric] if isinstance(metric, str) or metric is None else list(metric)
        named = [problem] if isinstance(problem, str) or problem is None else list(problem)
        studies = list(dict.fromkeys((self, *beside)))
        views = [results.view(asked[0]) for results in studies]
        names = [view.name for view in views]
        if len(set(names)) < len(names):  # the same study in several folders
            names = [results.folder.name for results in studies]
        pairs: dict[tuple[StudyView, ProblemView], str] = {}
        for view, study in zip(views, names, strict=True):
            for name in asked[1:]:
                compared_on(view, name, None)  # refuses a metric that is not recorded
            for name in named:
                one = one_problem(view, name if len(view.problems) > 1 else None)
                pairs[view, one] = study
        labels = _told_apart([(study, one.name) for (_, one), study in pairs.items()])
        sources = [CurveSource(*pair, label) for pair, label in zip(pairs, labels, strict=True)]
        return sources, [name or sources[0].problem.metric for name in asked]

    def plot_sensitivity(
        self, metric: str | None = None, axes: Axes | None = None, problem: str | None = None
    ) -> Axes:
        """Draw final values over learning rates and return the axes; see `plot_curves`."""
        view = self.view(metric)
        one = one_problem(view, problem)
        return plot(draw_sensitivity, view, one, one.metric, axes=axes)

    def plot_differences(
        self,
        metric: str | None = None,
        axes: Axes | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> Axes:
        """Draw paired differences with their intervals and return the axes; see `compare`."""
        view = self.ordered_view(metric, better)
        return plot(draw_differences, one_problem(view, problem), axes=axes)

    def plot_targets(
        self,
        metric: str | None = None,
        value: float | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
    ) -> Axes:
        """Draw the share of runs that reached a target by step, and return the axes.

        Args:
            metric: name of a metric; by default that of the study's first target.
            value: see `steps_to`; by default the study's target for the metric.
            axes: what to draw on; by default a new figure.
            problem: name of the problem; needed if the study has several.

        Raises:
            StoreError: as `steps_to`, or the study has no such target.
        """
        view = self.view()
        one = one_problem(view, problem)
        target = self._target(view, one, metric, value)
        self._times_to(view, one, target, "steps")  # refuses what nothing can reach
        return plot(draw_targets, view, target_result(view, one, target), axes=axes)

    def plot_profiles(
        self, metric: str | None = None, value: float | None = None, axes: Axes | None = None
    ) -> Axes:
        """Draw the share of problems on which each optimizer is close to the fastest.

        Costs are median steps to a target. Returns the axes.

        Args:
            metric: see `plot_targets`.
            value: see `plot_targets`.
            axes: what to draw on; by default a new figure.

        Raises:
            StoreError: as `plot_targets`, or there are fewer than two problems or optimizers.

        Source: Dolan & More 2002.
        """
        view = self.view()
        results = []
        for problem in view.problems:
            target = self._target(view, problem, metric, value)
            self._times_to(view, problem, target, "steps")
            results.append(target_result(view, problem, target))
        profile = profile_of(results) if len(results) > 1 else None
        if profile is None:
            raise StoreError(
                "a performance profile needs at least two problems with two optimizers in common; "
                f"this study has {len(view.problems)} problem{'s' * (len(view.problems) != 1)}."
            )
        return plot(draw_profile, view, profile, axes=axes)

    def plot_trials(self, axes: Axes | None = None, problem: str | None = None) -> Axes:
        """Draw the expected best of k tried settings by k, and return the axes.

        Raises:
            StoreError: no optimizer was tried with several settings, or nothing selects among them.
        """
        view = self.view()
        one = one_problem(view, problem)
        if not best_of_trials(one):
            raise StoreError(
                "no optimizer has two settings that ended after equal training, and a validation "
                "metric to choose by."
            )
        return plot(draw_trials, view, one, axes=axes)

    def plot_timing(self, axes: Axes | None = None, problem: str | None = None) -> Axes:
        """Draw training seconds per run and return the axes; see `plot_curves`."""
        view = self.view()
        return plot(draw_timing, view, one_problem(view, problem), axes=axes)


def _told_apart(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return what tells pairs of study and problem apart: one of the two, or both."""
    studies, problems = map(set, zip(*names, strict=True))
    several = len(studies) > 1, len(problems) > 1
    return [
        " ".join(text for text, shown in zip(pair, several, strict=True) if shown) for pair in names
    ]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError about a file or folder into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise StoreError(f"'{path}' cannot be written: {problem}. Choose another place.") from error
