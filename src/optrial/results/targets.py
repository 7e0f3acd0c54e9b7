"""Steps and seconds to a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optrial.analysis.statistics import TargetComparison, compare_arrivals
from optrial.analysis.target_results import (
    arrivals_frame,
    study_targets,
    target_result,
    targets_frame,
)
from optrial.analysis.targets import Target, TargetTimes, Unit, target_metric_problem
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import StoreError
from optrial.results.reading import Reading, check_contender, check_different, one_problem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Targets"]


class Targets(Reading):
    """Time to the targets of a study."""

    def targets(self) -> pd.DataFrame:
        """Return the time to each target of the study: one row per target and optimizer.

        Targets are those of the key `targets` and of claims. Medians over seeds are Kaplan-Meier
        estimates, which count runs that never arrive; a median is infinite if fewer than half did.
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
            StoreError: the metric is not recorded, or has no declared direction.
        """
        return self._arrivals_frame(metric, value, "steps")

    def seconds_to(self, metric: str, value: float) -> pd.DataFrame:
        """Return how many seconds of training each run took; see `steps_to`.

        Evaluation is not included, and every step of a run counts the same.

        Raises:
            StoreError: as `steps_to`, or runs were trained in stacks, whose seconds are shared.
        """
        return self._arrivals_frame(metric, value, "seconds")

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
        one = one_problem(view, problem)
        target = self._target(view, one, metric, value)
        for name in (first, second):
            check_contender(one, name)
        check_different(first, second)
        times = self._times_to(view, one, target, unit)
        arrivals = {entry.contender.name: entry.arrivals for entry in times}
        return compare_arrivals(
            arrivals.get(first, {}),
            arrivals.get(second, {}),
            target=str(target),
            unit=unit,
            names=(first, second),
        )

    def _arrivals_frame(self, metric: str, value: float, unit: Unit) -> pd.DataFrame:
        view = self.view()
        target = Target(metric, value, view.directions.percent(metric))
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

    def _target(
        self, view: StudyView, problem: ProblemView, metric: str | None, value: float | None
    ) -> Target:
        """Return the target that a call names, by default one of the study.

        Raises:
            StoreError: the study has no such target.
        """
        if metric is not None and value is not None:
            return Target(metric, value, view.directions.percent(metric))
        targets = study_targets(view, problem)
        if target := next((t for t in targets if metric in (None, t.metric)), None):
            return target
        about = f" for {metric}" if metric else ""
        raise StoreError(
            f"the study has no target{about}; name its metric and value, such as "
            "('validation_accuracy', 0.95), or give the study targets: {validation_accuracy: 0.95}."
        )
