"""Reading a study: its records, one view of everything shown, and the parts that calls name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

from optrial.analysis.contenders import Contender
from optrial.analysis.view import PlanVersion, ProblemView, StudyView
from optrial.errors import StoreError, suggest
from optrial.records import Curve, Record, StoreReader
from optrial.spec import TRAINING_SECONDS, Direction, Directions, Selection, undeclared

__all__ = ["Reading", "check_contender", "check_different", "compared_on", "one_problem"]


class Reading:
    """The stored records of a study.

    Args:
        store: the study's records.
        folder: folder of the study, with its weights and measured times.
        parts: results of each study, if several are joined.
    """

    def __init__(
        self, store: StoreReader, folder: Path = Path(), parts: Sequence[Self] = ()
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
        view = StudyView(
            self.study,
            tuple(records),
            partial(self._read_curves, [record.run_id for record in records]),
            former=tuple(record for record in every if record.run_id not in planned),
            plans=tuple(PlanVersion(study, ended) for study, ended in plans),
            sources=self.store.sources,
        )
        return compared_on(view, metric, better)

    def ordered_view(self, metric: str | None, better: Direction | None) -> StudyView:
        """Return the view on a metric of known direction; the arguments are those of `view`.

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

    def _read_curves(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        curves = self.store.curves(metric, run_ids)
        return {run_id: curve for (run_id, _), curve in curves.items()}


def check_different(first: str, second: str) -> None:
    """Refuse to compare an optimizer with itself.

    Raises:
        StoreError: both names are the same.
    """
    if first == second:
        raise StoreError(f"'{first}' cannot be compared with itself; name two optimizers.")


def check_contender(problem: ProblemView, name: str) -> Contender:
    """Return what is compared under a name.

    Raises:
        StoreError: nothing is.
    """
    contenders = {entry.name: entry for entry in problem.contenders}
    if name not in contenders:
        raise StoreError(f"'{name}' is not among those compared. {suggest(name, contenders)}")
    return contenders[name]


def one_problem(view: StudyView, name: str | None) -> ProblemView:
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


def compared_on(view: StudyView, metric: str | None, better: Direction | None) -> StudyView:
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
