"""The results of a study: runs, curves and summaries as pandas frames, audit and report."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from optrial.analysis import SettingSummary, curves_frame, funnel, runs_frame
from optrial.analysis.audit import AuditReport, audit
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Remedy
from optrial.analysis.audit.report import without_none
from optrial.analysis.contenders import Contender
from optrial.analysis.searches import best_of_trials, best_of_trials_frame
from optrial.analysis.statistics import (
    Comparison,
    TargetComparison,
    best_sentence,
    compare_arrivals,
    sentence,
)
from optrial.analysis.target_results import (
    arrivals_frame,
    profile_of,
    study_targets,
    target_result,
    targets_frame,
)
from optrial.analysis.targets import Target, TargetTimes, Unit, target_metric_problem
from optrial.analysis.view import PlanVersion, ProblemView, StudyView
from optrial.analysis.wide import wide_curves
from optrial.code import Trust, as_trust
from optrial.errors import StoreError, suggest
from optrial.files import write_whole
from optrial.records import Curve, Record, Store, StoreReader, Verification, shown_location, verify
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
from optrial.report.predictions import (
    Boundary,
    boundary_figure,
    confusion_figure,
    draw_boundary,
    draw_confusion,
)
from optrial.spec import TRAINING_SECONDS, Direction, Directions, Selection, undeclared
from optrial.style import LIGHT, save_figure
from optrial.timing import StudyTiming, read_timing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from optrial.analysis.claims import ClaimResult
    from optrial.saved import Evaluated, Predictions

__all__ = ["Results", "load"]

GRID = 300
"""Points of each side of the grid on which a decision boundary is drawn."""
Item = TypeVar("Item")
_NO_WEIGHTS = "none of the finished runs that are compared has saved weights"


class Results:
    """The stored results of a study.

    Every call reads the store again, so that results of a study that is still training stay
    current. Results hold a connection to the store; close them, or use them as a context manager:

        with optrial.load("studies/digits") as results:
            print(results.summary())

    Args:
        store: the study's records.
        folder: folder of the study, with its weights and measured times.
        parts: results of each study, if several are joined.
    """

    def __init__(
        self, store: StoreReader, folder: Path = Path(), parts: Sequence[Results] = ()
    ) -> None:
        self.store = store
        self.folder = folder
        self.parts = tuple(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the store; closing twice is allowed."""
        self.store.close()

    @property
    def study(self) -> dict[str, Any]:
        """The keys of the study, with defaults, as plain values."""
        return self.store.study()

    @property
    def directions(self) -> Directions:
        """Direction of each metric, from the catalogue or declared by the study."""
        return Directions.of(self.study)

    @property
    def selection(self) -> Selection | None:
        """The metric that selects settings; None if the study has none."""
        return self.directions.selection(name for r in self.records for name in r.metrics)

    @property
    def records(self) -> list[Record]:
        """Every run of the current plan in its order, including the trials of tuning."""
        return self.store.runs()

    @property
    def reported(self) -> list[Record]:
        """The runs that are results, without trials; empty while a study is still tuning."""
        return [record for record in self.records if record.phase == "report"]

    def runs(self) -> pd.DataFrame:
        """Return one row per run; see `optrial.analysis.runs_frame`."""
        return runs_frame(self.records)

    def curves(self, metrics: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row per recorded value; see `optrial.analysis.curves_frame`.

        Args:
            metrics: one or several metrics; all by default.

        Raises:
            StoreError: nothing is recorded for a metric.
        """
        names = [metrics] if isinstance(metrics, str) else metrics
        return curves_frame(self.store, self.store.metrics() if names is None else names)

    def wide_curves(self, metric: str) -> pd.DataFrame:
        """Return one row per step and one column per run; see `optrial.analysis.wide_curves`.

        Raises:
            StoreError: nothing is recorded for the metric.
        """
        return wide_curves(self.curves(metric))

    def settings(self) -> list[SettingSummary]:
        """Return a summary over seeds for each setting of each optimizer, problem by problem.

        With `tune`, these are the chosen settings; the trials, while the study is still tuning.
        """
        return [summary for problem in self.view().problems for summary in problem.summaries]

    def summary(self) -> pd.DataFrame:
        """Return one row per setting: number of runs, mean and deviation of final metrics.

        The column ``problem`` comes first if the study has several problems.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        rows = []
        several = len({record.problem for record in self.records}) > 1
        for summary in self.settings():
            row: dict[str, Any] = {"problem": summary.problem} if several else {}
            row |= {
                "optimizer": summary.optimizer,
                "setting": summary.setting,
                "best": summary.best,
                "runs": summary.runs,
            }
            row |= {str(status): count for status, count in summary.statuses.items()}
            for metric, spread in summary.metrics.items():
                row |= {f"{metric}_mean": spread.mean, f"{metric}_std": spread.deviation}
            rows.append(row)
        return pd.DataFrame(rows)

    def funnel(self) -> pd.DataFrame:
        """Return one row per optimizer and phase: planned, started and used runs, and failures.

        The columns are the attributes of `optrial.analysis.Flow`.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        return pd.DataFrame([asdict(flow) for flow in funnel(self.records)])

    def audit(self) -> AuditReport:
        """Check whether the runs support the comparison; see `optrial.analysis.audit`."""
        report, study = audit(self.view()), self.study
        findings = (replace(f, remedy=_with_keywords(f.remedy, study)) for f in report.findings)
        return replace(report, findings=tuple(findings))

    def claims(self) -> tuple[ClaimResult, ...]:
        """Return the verdict on every claim of the study, on each problem that it is about."""
        return Context.of(self.view()).results

    def targets(self) -> pd.DataFrame:
        """Return the time to each target of the study: one row per target and optimizer.

        Targets are those of the key `targets` and of claims. Medians over seeds are estimated by
        Kaplan and Meier, so that runs that never arrive count: infinite if fewer than half did.
        Seconds are missing where runs were trained in stacks.
        """
        return targets_frame(self.view())

    def steps_to(self, metric: str, value: float) -> pd.DataFrame:
        """Return how many steps each run took to a value of a metric, one row per run.

        The columns are ``problem``, ``optimizer``, ``setting``, ``seed``, ``run_id``, ``reached``
        and ``steps``. Where ``reached`` is false, ``steps`` is how long the run was trained, or
        infinite if it diverged.

        Args:
            metric: name of a metric.
            value: at least it, or at most it if lower values are better.

        Raises:
            StoreError: the metric is not recorded, or nothing declares which values are better.
        """
        return self._arrivals_frame(Target(metric, value), "steps")

    def seconds_to(self, metric: str, value: float) -> pd.DataFrame:
        """Return how many seconds of training each run took; see `steps_to`.

        Evaluation is not included, and every step of a run counts the same.

        Raises:
            StoreError: as `steps_to`, or runs were trained in stacks, whose seconds are shared.
        """
        return self._arrivals_frame(Target(metric, value), "seconds")

    def compare_to_target(
        self,
        first: str,
        second: str,
        metric: str,
        value: float | None = None,
        unit: Unit = "steps",
        problem: str | None = None,
    ) -> TargetComparison:
        """Compare how soon two optimizers reach a target, over the seeds that both have.

        `optrial.analysis.statistics.target_sentence` puts the result into words.

        Args:
            first: name of an optimizer, as in `compare`.
            second: another one.
            metric: name of a metric.
            value: see `steps_to`; by default the study's target for the metric.
            unit: "steps" or "seconds".
            problem: name of the problem; needed if the study has several.

        Raises:
            StoreError: as `steps_to` and `seconds_to`, or there is no such optimizer, problem or
                target.
        """
        view = self.view()
        one = _one_problem(view, problem)
        target = self._target(view, one, metric, value)
        for name in (first, second):
            _check_contender(one, name)
        _check_different(first, second)
        times = self._times_to(view, one, target, unit)
        arrivals = {entry.contender.name: entry.arrivals for entry in times}
        return compare_arrivals(
            arrivals.get(first, {}),
            arrivals.get(second, {}),
            target=str(target),
            unit=unit,
            names=(first, second),
        )

    def best_of_trials(self) -> pd.DataFrame:
        """Return the expected best value of k tried settings, one row per optimizer and k.

        The columns are ``problem``, ``optimizer``, ``trials`` (k), ``expected``, its interval
        ``low`` to ``high``, and ``all_diverged``, the chance that none of k trials finishes. The
        value of a setting is its mean over seeds on the metric that selects. Empty where nothing
        selects.

        Source: Dodge et al. 2019.
        """
        return best_of_trials_frame(self.view())

    def _arrivals_frame(self, target: Target, unit: Unit) -> pd.DataFrame:
        view = self.view()
        times = {
            problem.name: self._times_to(view, problem, target, unit) for problem in view.problems
        }
        return arrivals_frame(times)

    def _times_to(
        self, view: StudyView, problem: ProblemView, target: Target, unit: Unit
    ) -> tuple[TargetTimes, ...]:
        """Return the times of all contenders.

        Raises:
            StoreError: nothing can reach the target, or seconds cannot be compared.
        """
        if wrong := target_metric_problem(target.metric, self.store.metrics(), view.directions):
            raise StoreError(wrong)
        result = target_result(view, problem, target)
        if unit == "seconds" and result.why_no_seconds:
            way_out = "train each run alone, with engine: reference, or compare steps"
            raise StoreError(f"seconds to {target}: {result.why_no_seconds}; {way_out}.")
        return result.times(unit)

    def compare(
        self,
        first: str,
        second: str,
        metric: str | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> Comparison:
        """Compare two optimizers by their chosen settings, over the seeds that both have.

        The comparison is one of all pairs of the study, and corrected for their number, as in the
        report. A question asked before the runs belongs into `claims`, which are corrected for the
        number of claims only.

        `optrial.analysis.statistics.sentence` puts the result into words.

        Args:
            first: name of an optimizer; with its setting, as in ``adam lr=0.01``, if the study has
                no validation split that could choose one.
            second: name of another optimizer.
            metric: by default the metric that the study reports, on the test split if there is one.
            better: "lower" or "higher", for a metric whose direction the study does not declare.
            problem: name of the problem; needed if the study has several.

        Raises:
            StoreError: there is no such optimizer, problem or metric, both optimizers are the
                same, or the direction of the metric is unknown.
        """
        view = self._ordered_view(metric, better)
        one = _one_problem(view, problem)
        _check_different(first, second)
        return one.pair(_check_contender(one, first).name, _check_contender(one, second).name)

    def comparisons(
        self,
        metric: str | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> list[str]:
        """Return which optimizer is best, and every pair, one sentence each.

        Args:
            metric: see `compare`.
            better: see `compare`.
            problem: see `compare`.

        Raises:
            StoreError: as `compare`.
        """
        one = _one_problem(self._ordered_view(metric, better), problem)
        if one.comparisons is None:
            return [one.not_compared]
        return [best_sentence(one.comparisons, one.contestants), *map(sentence, one.pairs)]

    def view(self, metric: str | None = None, better: Direction | None = None) -> StudyView:
        """Return everything that a report shows.

        Args:
            metric: the metric that optimizers are compared on; by default the reported one.
            better: "lower" or "higher", for a metric whose direction the study does not declare.

        Raises:
            StoreError: the metric is not recorded, or `better` contradicts its direction.
        """
        records, plans = self.records, self.store.plans()
        planned = {record.run_id for record in records}
        every = self.store.runs(everything=True) if self.store.has_former_runs() else records
        view = Context(
            self.study,
            tuple(records),
            partial(self._read_curves, [record.run_id for record in records]),
            former=tuple(record for record in every if record.run_id not in planned),
            plans=tuple(PlanVersion(study, ended) for study, ended in plans),
            sources=self.store.sources,
        )
        return _compared_on(view, metric, better)

    def _ordered_view(self, metric: str | None, better: Direction | None) -> StudyView:
        """Return the view on a metric of known direction.

        Raises:
            StoreError: see `view`; or the direction of the metric is unknown.
        """
        view = self.view(metric, better)
        if view.metric and view.directions.better(view.metric) is None:
            way_out = (
                "say it here (--better lower or --better higher; better=... in Python), or declare "
                "it in the study: metrics: [{name: module:function, better: lower}]"
            )
            raise StoreError(f"{undeclared(view.metric)}: {way_out}.")
        return view

    def report(
        self,
        path: str | Path,
        metric: str | None = None,
        better: Direction | None = None,
        view: StudyView | None = None,
        findings: AuditReport | None = None,
    ) -> Path:
        """Write one self-contained HTML page, replacing an earlier one, and return its path.

        The page includes the times that `optrial timing` wrote into the study's folder, or into
        the first one of joined studies that has any.

        Args:
            path: path of the file.
            metric: see `view`.
            better: see `view`.
            view: the view of these results, if it is at hand; otherwise the store is read.
            findings: the audit of that view, if it is at hand.

        Raises:
            StoreError: the file cannot be written, or ``timing.json`` cannot be read.
        """
        from optrial.report.study_page import study_page  # loads Jinja  # noqa: PLC0415

        timing, view = self._timing(), view or self.view()
        page = study_page(_compared_on(view, metric, better), findings or audit(view), timing)
        with _writing(Path(path)):
            write_whole(Path(path), page)
        return Path(path)

    def _timing(self) -> StudyTiming | None:
        """Return the times that were measured of each optimizer alone, if any were."""
        for part in self.parts:
            if timing := part._timing():
                where = f"Measured on the study {timing.study}, one of those that are joined."
                return replace(timing, notes=(*timing.notes, where))
        timed = self.folder / "timing.json"
        return read_timing(timed) if not self.parts and timed.exists() else None

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
        view, written = self._ordered_view(metric, better), []
        with _writing(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for name, figure in study_figures(view):
                written.append(Path(folder, f"{name}.{file_format}"))
                save_figure(figure, written[-1])
        return written

    def plot_curves(
        self,
        metric: str | Sequence[str] | None = None,
        axes: Axes | None = None,
        problem: str | Sequence[str] | None = None,
        *,
        x: Literal["steps", "epochs"] = "steps",
        smooth: int | None = None,
        limits: tuple[float | None, float | None] = (None, None),
        only: Sequence[str] = (),
        each_seed: bool = False,
        beside: Sequence[Results] = (),
    ) -> Axes:
        """Draw metrics over steps or epochs, mean and interval of each optimizer; return the axes.

        Args:
            metric: one or several metrics, told apart by their dashes; see `view`.
            axes: matplotlib axes to draw on; by default those of a new figure.
            problem: one or several problems; by default the only one.
            x: unit of the horizontal axis.
            smooth: number of recorded values in a moving mean, drawn over a faint line of the
                values; by default, long curves are thinned by the means of their parts.
            limits: lower and upper end of the vertical axis; None where the values decide.
            only: names of optimizers, also with values of their settings: ``adam lr=0.01``.
            each_seed: draw a line per run instead of mean and interval.
            beside: results of other studies, drawn on the same axes.

        Raises:
            StoreError: a metric is not recorded, or there is no such problem or optimizer.
        """
        sources, metrics = self._curve_sources(metric, problem, beside)
        options = CurveOptions(x, smooth, limits, only, each_seed)
        return plot(draw_curves, sources, metrics, LIGHT, options, axes=axes)

    def curves_figure(
        self,
        metric: str | Sequence[str] | None = None,
        problem: str | Sequence[str] | None = None,
        *,
        x: Literal["steps", "epochs"] = "steps",
        smooth: int | None = None,
        limits: tuple[float | None, float | None] = (None, None),
        only: Sequence[str] = (),
        each_seed: bool = False,
        beside: Sequence[Results] = (),
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
        beside: Sequence[Results],
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
                _compared_on(view, name, None)  # refuses a metric that is not recorded
            for name in named:
                one = _one_problem(view, name if len(view.problems) > 1 else None)
                pairs[view, one] = study
        labels = _told_apart([(study, one.name) for (_, one), study in pairs.items()])
        sources = [CurveSource(*pair, label) for pair, label in zip(pairs, labels, strict=True)]
        return sources, [name or sources[0].problem.metric for name in asked]

    def plot_sensitivity(
        self, metric: str | None = None, axes: Axes | None = None, problem: str | None = None
    ) -> Axes:
        """Draw final values over learning rates and return the axes; see `plot_curves`."""
        view = self.view(metric)
        one = _one_problem(view, problem)
        return plot(draw_sensitivity, view, one, one.metric, axes=axes)

    def plot_differences(
        self,
        metric: str | None = None,
        axes: Axes | None = None,
        better: Direction | None = None,
        problem: str | None = None,
    ) -> Axes:
        """Draw paired differences with their intervals and return the axes; see `compare`."""
        view = self._ordered_view(metric, better)
        return plot(draw_differences, _one_problem(view, problem), axes=axes)

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
        one = _one_problem(view, problem)
        target = self._target(view, one, metric, value)
        self._times_to(view, one, target, "steps")  # refuses what nothing can reach
        return plot(draw_targets, view, target_result(view, one, target), axes=axes)

    def plot_profiles(
        self, metric: str | None = None, value: float | None = None, axes: Axes | None = None
    ) -> Axes:
        """Draw on which share of the problems each optimizer is close to the fastest.

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
        one = _one_problem(view, problem)
        if not best_of_trials(one):
            raise StoreError(
                "no optimizer has two settings that ended and a validation metric to choose by."
            )
        return plot(draw_trials, view, one, axes=axes)

    def _target(
        self, view: StudyView, problem: ProblemView, metric: str | None, value: float | None
    ) -> Target:
        """Return the target that a call names, by default one of the study.

        Raises:
            StoreError: the study has no such target.
        """
        if metric is not None and value is not None:
            return Target(metric, value)
        targets = study_targets(view, problem)
        if target := next((t for t in targets if metric in (None, t.metric)), None):
            return target
        about = f" for {metric}" if metric else ""
        raise StoreError(
            f"the study has no target{about}; name its metric and value, such as "
            "('validation_accuracy', 0.95), or give the study targets: {validation_accuracy: 0.95}."
        )

    def plot_timing(self, axes: Axes | None = None, problem: str | None = None) -> Axes:
        """Draw training seconds per run and return the axes; see `plot_curves`."""
        view = self.view()
        return plot(draw_timing, view, _one_problem(view, problem), axes=axes)

    def confusion(
        self,
        split: str = "test",
        *,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> pd.DataFrame:
        """Return how many samples of each class the saved weights predict as each class.

        One row per optimizer, setting, true class and predicted class, summed over seeds, with the
        columns ``problem``, ``optimizer``, ``setting``, ``true``, ``predicted``, ``count`` and
        ``share``, of the true class.

        Args:
            split: "train", "validation" or "test".
            data_dir: folder of downloaded datasets.
            trust: see `Study.from_file`; the code of the study is imported.

        Raises:
            StoreError: no weights were saved, the code or the data of a run has changed, or the
                targets are no classes.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        rows = []
        for (problem, name), (table, names) in self._confusions(split, data_dir, trust).items():
            optimizer, _, setting = name.partition(" ")
            for true, counts in zip(names, table, strict=True):
                rows += [
                    {
                        "problem": problem,
                        "optimizer": optimizer,
                        "setting": setting,
                        "true": true,
                        "predicted": predicted,
                        "count": int(count),
                        "share": count / max(1, counts.sum()),
                    }
                    for predicted, count in zip(names, counts, strict=True)
                ]
        return pd.DataFrame(rows)

    def confusion_figure(
        self,
        split: str = "test",
        *,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Figure:
        """Return a figure with the confusion matrix of each contender; see `confusion`."""
        return confusion_figure(_by_label(self._confusions(split, data_dir, trust)))

    def boundary_figure(
        self,
        split: str = "test",
        *,
        seed: int | None = None,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Figure:
        """Return a figure of the decision boundary of each contender, for inputs of two numbers.

        Args:
            split: the samples to draw.
            seed: the run of each contender; by default its first one.
            data_dir: folder of downloaded datasets.
            trust: see `Study.from_file`; the code of the study is imported.

        Raises:
            StoreError: as `confusion`; or inputs are not two numbers, or there is no such seed.
        """
        boundaries = self._boundaries(split, seed, data_dir, trust, self.records)
        return boundary_figure(_by_label(boundaries))

    def _boundaries(
        self,
        split: str,
        seed: int | None,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        records: Sequence[Record],
    ) -> dict[tuple[str, str], Boundary]:
        """Return the boundary of the first of some runs of each contender, by problem and name.

        Raises:
            StoreError: see `boundary_figure`.
        """
        for record in records:
            _check_plane(record)
        boundaries: dict[tuple[str, str], Boundary] = {}
        run_ids = {r.run_id for r in records if seed is None or r.seed == seed}
        for name, one in self._predictions(split, data_dir, trust, run_ids):
            if (key := (one.record.problem, name)) not in boundaries:
                boundaries[key] = _boundary(one)
        if not boundaries:
            of_seed = "" if seed is None else f" and the seed {seed}"
            raise StoreError(f"{_NO_WEIGHTS}{of_seed}.")
        return boundaries

    def plot_confusion(
        self,
        optimizer: str | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
        *,
        split: str = "test",
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Axes:
        """Draw the confusion matrix of one optimizer, summed over seeds, and return the axes.

        Args:
            optimizer: name of an optimizer, with its setting if it has several, as in
                ``adam lr=0.01``; needed if the study compares several.
            axes: matplotlib axes to draw on; by default those of a new figure.
            problem: name of the problem; needed if the study has several.
            split: see `confusion`.
            data_dir: see `confusion`.
            trust: see `confusion`.

        Raises:
            StoreError: as `confusion`, or there is no such optimizer or problem.
        """
        runs = self._contender(optimizer, problem).records
        (table,) = self._confusions(split, data_dir, trust, {run.run_id for run in runs}).values()
        return plot(draw_confusion, *table, axes=axes)

    def plot_boundary(
        self,
        optimizer: str | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
        *,
        split: str = "test",
        seed: int | None = None,
        data_dir: str | Path | None = None,
        trust: Iterable[str | Path] | Trust = (),
    ) -> Axes:
        """Draw the decision boundary of one optimizer and return the axes.

        Args:
            optimizer: see `plot_confusion`.
            axes: see `plot_confusion`.
            problem: see `plot_confusion`.
            split: see `boundary_figure`.
            seed: see `boundary_figure`.
            data_dir: see `boundary_figure`.
            trust: see `boundary_figure`.

        Raises:
            StoreError: as `boundary_figure`, or there is no such optimizer or problem.
        """
        runs = self._contender(optimizer, problem).records
        (boundary,) = self._boundaries(split, seed, data_dir, trust, runs).values()
        return plot(draw_boundary, boundary, axes=axes)

    def _contender(self, optimizer: str | None, problem: str | None) -> Contender:
        """Return what a name stands for, or the only contender.

        Raises:
            StoreError: there is no such problem or optimizer, or several and none is named.
        """
        one = _one_problem(self.view(), problem)
        if optimizer is None and len(one.contenders) == 1:
            return one.contenders[0]
        if optimizer is None:
            names = suggest("", [entry.name for entry in one.contenders])
            raise StoreError(f"optimizer: the study compares several; name one. {names}")
        return _check_contender(one, optimizer)

    def _confusions(
        self,
        split: str,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        run_ids: Container[str] | None = None,
    ) -> dict[tuple[str, str], tuple[NDArray[np.int64], tuple[str, ...]]]:
        """Return counts by true and predicted class, and the names of the classes."""
        tables: dict[tuple[str, str], tuple[NDArray[np.int64], tuple[str, ...]]] = {}
        for name, one in self._predictions(split, data_dir, trust, run_ids):
            size = len(one.names)
            places = one.targets * size + np.minimum(one.predicted, size - 1)
            table = np.bincount(places, minlength=size * size).reshape(size, size)
            before = tables.get((one.record.problem, name))
            whole = table if before is None else before[0] + table
            tables[one.record.problem, name] = whole, one.names
        if not tables:
            raise StoreError(f"{_NO_WEIGHTS}.")
        return tables

    def _predictions(
        self,
        split: str,
        data_dir: str | Path | None,
        trust: Iterable[str | Path] | Trust,
        run_ids: Container[str] | None,
    ) -> Iterator[tuple[str, Predictions]]:
        """Yield the predictions of some runs, by default of every contender, with its name."""
        from optrial.saved import saved_predictions  # loads torch  # noqa: PLC0415

        if self.parts:
            records = {record.run_id: record for record in self.records}
            for part in self.parts:
                for name, one in part._predictions(split, data_dir, trust, run_ids):
                    yield name, one._replace(record=records[one.record.run_id])
            return
        contenders = [c for problem in self.view().problems for c in problem.contenders]
        names = {
            record.run_id: c.name
            for c in contenders
            for record in c.records
            if run_ids is None or record.run_id in run_ids
        }
        if run_ids is not None and not names:
            return  # these runs belong to other parts
        folder = None if data_dir is None else Path(data_dir)
        for one in saved_predictions(
            self.store, self.folder, names, split, as_trust(trust), data_dir=folder
        ):
            yield names[one.record.run_id], one

    def _read_curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        curves = self.store.curves(metric, run_ids)
        return {run_id: curve for (run_id, _), curve in curves.items()}

    def verify(self, *, repair: bool = False) -> list[Verification]:
        """Check everything stored, and the weights, against checksums; one result per study.

        See `optrial.records.verify`, which documents `repair`.

        Raises:
            StoreError: nothing can be read, or the store cannot be written.
        """
        if self.parts:
            return [result for part in self.parts for result in part.verify(repair=repair)]
        assert isinstance(self.store, Store)  # only joined results have another reader
        self.store.close()  # a repair replaces the file; the next call opens it again
        return [verify(self.store.location, repair=repair)]

    def model(self, run_id: str, trust: Iterable[str | Path] | Trust = ()) -> nn.Module:
        """Return the module of a run with its saved weights, on the CPU, in evaluation mode.

        Args:
            run_id: id of a run.
            trust: see `Study.from_file`; the code of the run is imported.

        Raises:
            StoreError: there is no such run, or its weights were not saved.
        """
        from optrial.saved import saved_model  # loads torch  # noqa: PLC0415

        for part in self.parts:
            if run_id in {record.run_id for record in part.records}:
                return part.model(run_id, trust)
        return saved_model(self.store, self.folder, run_id, as_trust(trust))

    def evaluate(
        self,
        split: str = "test",
        *,
        data_dir: str | Path | None = None,
        device: str = "auto",
        trust: Iterable[str | Path] | Trust = (),
    ) -> list[Evaluated]:
        """Evaluate the saved weights of every finished run again.

        Each run is evaluated in its stack, so that the values equal the recorded ones bit for bit
        if the split was evaluated during training.

        Args:
            split: "train", "validation" or "test".
            data_dir: folder of downloaded datasets.
            device: "auto", "cpu" or "cuda".
            trust: see `Study.from_file`; the code of the study is imported.

        Returns:
            One entry per run and metric, with the attributes ``record``, ``metric``, ``value``,
            ``recorded`` (None if the split was not evaluated at that step) and ``differs``.

        Raises:
            StoreError: no weights were saved, the code or the data of a run has changed, or user
                code raises an error.
            DataError: the dataset has no such split.
        """
        from optrial.saved import evaluate_saved  # loads torch  # noqa: PLC0415

        if self.parts:
            records = {record.run_id: record for record in self.records}
            return [
                replace(evaluated, record=records[evaluated.record.run_id])
                for part in self.parts
                for evaluated in part.evaluate(split, data_dir=data_dir, device=device, trust=trust)
            ]
        folder = None if data_dir is None else Path(data_dir)
        return evaluate_saved(
            self.store, self.folder, split, as_trust(trust), data_dir=folder, device=device
        )


def _check_plane(record: Record) -> None:
    """Refuse a run whose inputs are not two numbers.

    Raises:
        StoreError: they are not.
    """
    shape = record.facts.input_shape
    if shape is not None and tuple(shape) != (2,):
        text = " x ".join(map(str, shape))
        raise StoreError(
            f"a decision boundary needs inputs of two numbers; those of {record.problem} have "
            f"{text}. Confusion matrices need no such inputs: optrial confusion."
        )


def _by_label(values: Mapping[tuple[str, str], Item]) -> dict[str, Item]:
    """Return values by the name of the contender, with that of the problem if there are several."""
    several = len({problem for problem, _ in values}) > 1
    return {
        f"{name} ({problem})" if several else name: value
        for (problem, name), value in values.items()
    }


def _boundary(one: Predictions) -> Boundary:
    """Return the predictions of a run on a grid around its samples."""
    low, high = one.inputs.min(axis=0), one.inputs.max(axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    x, y = (np.linspace(*ends, GRID) for ends in zip(low - margin, high + margin, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    classes = one.predict(points.astype(np.float32)).reshape(GRID, GRID)
    return Boundary(x, y, classes, one.inputs, one.targets, one.predicted)


def _told_apart(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return what tells pairs of study and problem apart: one of the two, or both."""
    studies, problems = map(set, zip(*names, strict=True))
    several = len(studies) > 1, len(problems) > 1
    return [
        " ".join(text for text, shown in zip(pair, several, strict=True) if shown) for pair in names
    ]


def _with_keywords(remedy: Remedy, study: Mapping[str, Any]) -> Remedy:
    """Return a remedy with its settings as keyword arguments: whole values of top-level keys."""
    if not remedy.settings or remedy.studies:
        return remedy
    from optrial.config import override  # loads pydantic  # noqa: PLC0415

    changed = override(study, remedy.assignments)
    keys = dict.fromkeys(re.split(r"[.\[]", path)[0] for path in remedy.settings)
    return replace(remedy, keywords={key: without_none(changed[key]) for key in keys})


def _check_different(first: str, second: str) -> None:
    """Refuse to compare an optimizer with itself.

    Raises:
        StoreError: both names are the same.
    """
    if first == second:
        raise StoreError(f"'{first}' cannot be compared with itself; name two optimizers.")


def _check_contender(problem: ProblemView, name: str) -> Contender:
    """Return what is compared under a name.

    Raises:
        StoreError: nothing is.
    """
    contenders = {entry.name: entry for entry in problem.contenders}
    if name not in contenders:
        raise StoreError(f"'{name}' does not contend. {suggest(name, contenders)}")
    return contenders[name]


def _one_problem(view: StudyView, name: str | None) -> ProblemView:
    """Return the problem of a name, or the only one.

    Raises:
        StoreError: there is no such problem, or there are several and none is named.
    """
    problems = {problem.name: problem for problem in view.problems}
    if name is None and len(problems) == 1:
        return view.problems[0]
    if name not in problems:
        missing = "the study has several problems; name one" if name is None else f"no '{name}'"
        raise StoreError(f"problem: {missing}. {suggest(name, problems)}")
    return problems[name]


def _compared_on(view: StudyView, metric: str | None, better: Direction | None) -> StudyView:
    """Return the view with another metric to compare on.

    Raises:
        StoreError: the metric is not recorded; `better` is not a direction, or contradicts that of
            the metric.
    """
    recorded = {*view.metrics, TRAINING_SECONDS}
    if metric is not None and metric not in recorded:
        raise StoreError(f"no '{metric}' is recorded. {suggest(metric, sorted(recorded))}")
    if better is not None and better not in get_args(Direction):
        raise StoreError(f"better is 'lower' or 'higher', not {better!r}.")
    if metric is None and better is None:
        return view
    view = replace(view, chosen_metric=metric or "", better=better)
    try:
        view.directions  # noqa: B018  # refuses a contradiction
    except ValueError as error:
        raise StoreError(f"{error}; leave better out.") from error
    return view


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an OSError about a file or folder into a StoreError of one line."""
    try:
        yield
    except OSError as error:
        problem = error.strerror or type(error).__name__
        raise StoreError(f"'{path}' cannot be written: {problem}. Choose another place.") from error


def load(location: str | Path | Sequence[str | Path]) -> Results:
    """Open the results of a study, or those of several studies as one study of several problems.

    Args:
        location: the study's folder or a ``postgresql://`` URL; or a list of locations, of studies
            of different problems; see `optrial.joined.JoinedStore`.

    Raises:
        StoreError: no study is stored there, or the studies cannot be joined.
    """
    if isinstance(location, str | Path):
        return Results(Store.open(location), Path(shown_location(location)))
    places = list(map(str, location))
    if not places or len(set(places)) < len(places):
        raise StoreError("name one folder, or several different ones.")
    with ExitStack() as on_failure:
        parts = [on_failure.enter_context(load(place)) for place in places]
        if len(parts) == 1:
            results = parts[0]
        else:
            stores = {place: part.store for place, part in zip(places, parts, strict=True)}
            from optrial.joined import JoinedStore  # loads pydantic  # noqa: PLC0415

            results = Results(JoinedStore(stores), parts=parts)
        on_failure.pop_all()
    return results
