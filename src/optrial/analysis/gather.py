"""Records and curves -> the plain data that every table, figure and page of a study shows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from optrial.analysis.bands import Band, make_band, points_shown
from optrial.analysis.contenders import Contender, ProblemRuns, problems_of, report_metric
from optrial.analysis.costs import Cost, cost_of
from optrial.analysis.rates import RateLine, RatePoint, rate_line
from optrial.analysis.statistics import (
    Comparison,
    Comparisons,
    RankComparison,
    Values,
    compare_all,
    compare_ranks,
    known_values,
)
from optrial.analysis.summary import SettingSummary, summarize
from optrial.records import Curve, Record
from optrial.spec import FAILED, TRAINING_SECONDS, Directions, Selection, Status, undeclared

__all__ = [
    "Contender",
    "Cost",
    "ProblemView",
    "RateLine",
    "RatePoint",
    "ReadCurves",
    "Search",
    "StudyView",
    "gather",
]

ReadCurves = Callable[[str], Mapping[str, Curve]]
"""Metric -> run id -> curve."""

MOST_CONTENDERS = 40
"""Beyond that many the pairs are too many to be read, and Holm's correction leaves nothing."""


@dataclass(frozen=True)
class Search:
    """What was tried before an optimizer's setting was chosen.

    Attributes:
        optimizer: name of the study's entry.
        metric: what chose.
        trials: the settings, in the order of the plan.
        chosen: the setting that was chosen; while none is, the best so far.
        chosen_id: id of that setting.
    """

    optimizer: str
    metric: str
    trials: tuple[SettingSummary, ...]
    chosen: str
    chosen_id: str


@dataclass(frozen=True, eq=False)
class ProblemView:
    """The runs of a study on one problem.

    Attributes:
        runs: all of them, those that tuned included, and what contends.
        metric: what optimizers are compared on; empty where nothing is recorded.
        directions: directions of the metrics.
        seed: of the bootstrap resamples: the same records give the same numbers.
    """

    runs: ProblemRuns
    metric: str
    directions: Directions
    seed: int

    @property
    def selection(self) -> Selection | None:
        """The metric that selects settings; None where nothing may."""
        return self.runs.selection

    @property
    def select(self) -> str | None:
        """Name of the metric that selects."""
        return self.selection.metric if self.selection else None

    @property
    def name(self) -> str:
        """Name of the problem."""
        return self.runs.name

    @property
    def records(self) -> tuple[Record, ...]:
        """Every run, those that tuned included."""
        return self.runs.records

    @cached_property
    def reported(self) -> tuple[Record, ...]:
        """The runs that are results; while a study still tunes, its trials."""
        results = tuple(record for record in self.records if record.phase == "report")
        return results or self.records

    @property
    def optimizers(self) -> tuple[str, ...]:
        """Names of the study's entries that it was trained with."""
        return tuple(optimizer.name for optimizer in self.runs.optimizers)

    @cached_property
    def summaries(self) -> tuple[SettingSummary, ...]:
        """Every setting of the reported runs."""
        return tuple(summarize(self.reported, self.selection))

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """What stands for each optimizer in comparisons."""
        return self.runs.contenders

    @property
    def compared(self) -> str:
        """What is compared: "optimizers", or "settings" where one has several that contend."""
        return "optimizers" if self.runs.chooses else "settings"

    @cached_property
    def _values(self) -> dict[str, Values]:
        return {c.name: values for c in self.contenders if (values := c.values(self.metric))}

    @property
    def not_compared(self) -> str:
        """Why there are no comparisons, one sentence; empty where there are."""
        count = len(self._values)
        if not self.metric or not count:
            return "No run has ended: nothing can be said yet."
        if reason := self._nothing_finite:
            return f"{reason}: there is nothing to compare."
        if self.directions.better(self.metric) is None:
            way_out = "declare it under problem.metrics of the study, with better: lower or higher"
            return f"No order is shown: {undeclared(self.metric)}; {way_out}."
        if count == 1:
            return f"{next(iter(self._values))} is alone: there is nothing to compare it with."
        if count > MOST_CONTENDERS:
            return (
                f"{count} settings contend, too many to compare every two of them. Evaluate on a "
                "validation split, so that one of each optimizer can be chosen."
            )
        return ""

    @property
    def _nothing_finite(self) -> str:
        """Why no finished run has a finite value of the metric; empty if one has."""
        ended = [value for values in self._values.values() for value in values.values()]
        if any(value is not None and math.isfinite(value) for value in ended):
            return ""
        if None in ended:
            return f"No run that ended has a value of {self.metric}"
        return "Every run that ended diverged"

    @cached_property
    def comparisons(self) -> Comparisons | None:
        """All pairs of contenders on the metric; None where there is nothing to be compared."""
        if self.not_compared:
            return None
        return compare_all(
            self._values,
            metric=self.metric,
            higher_is_better=self.directions.better(self.metric) == "higher",
            percent=self.directions.percent(self.metric),
            seed=self.seed,
        )

    @cached_property
    def pairs(self) -> tuple[Comparison, ...]:
        """The comparisons, in each the optimizer that leads first; those of the best one first."""
        if self.comparisons is None:
            return ()
        place = {name: index for index, name in enumerate(self.comparisons.order)}
        pairs = (
            pair if place[pair.first] < place[pair.second] else pair.swapped()
            for pair in self.comparisons.pairs
        )
        return tuple(sorted(pairs, key=lambda pair: (place[pair.first], place[pair.second])))

    def sensitivity(self, metric: str) -> tuple[RateLine, ...]:
        """Return final values by learning rate, for each optimizer that was tried with several.

        Those of the tuning phase where there is one.
        """
        better = self.directions.better(metric)
        return tuple(
            line
            for optimizer in self.runs.optimizers
            if (line := rate_line(optimizer.name, optimizer.tried, metric, better, self.seed))
        )

    @cached_property
    def searches(self) -> tuple[Search, ...]:
        """How each optimizer was tuned; nothing where the study has no tuning phase."""
        tuned = [record for record in self.records if record.phase == "tune"]
        trials = summarize(tuned, self.selection)
        return tuple(
            Search(
                optimizer.name,
                self.select or "",
                tuple(trial for trial in trials if trial.optimizer == optimizer.name),
                optimizer.contenders[0].setting,
                optimizer.contenders[0].setting_id,
            )
            for optimizer in self.runs.optimizers
            if any(record.phase == "tune" for record in optimizer.trials)
        )

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """What the finished runs of every contender took, as far as it is recorded."""
        return tuple(cost for contender in self.contenders if (cost := cost_of(contender)))

    def bands(self, curves: Mapping[str, Curve], points: int) -> dict[str, Band]:
        """Return the curves of one metric by setting id of the reported runs.

        Args:
            curves: run id -> curve.
            points: how many to keep of each at most.
        """
        generator = np.random.default_rng(self.seed)
        settings: dict[str, dict[str, Curve]] = {}
        for record in self.reported:
            curve = curves.get(record.run_id)
            if curve is not None and len(curve):
                own = settings.setdefault(record.setting_id, {})
                own[record.run_id] = curve
        return {
            setting: make_band(found, generator, points=points)
            for setting, found in settings.items()
        }


@dataclass(frozen=True, eq=False)
class StudyView:
    """Everything that a report shows of a study.

    Attributes:
        study: after defaults, as it is stored.
        records: the runs of the current plan.
        metric: what optimizers are compared on; empty where nothing is recorded.
        directions: directions of the metrics.
        problems: the runs by problem.
        read_curves: metric -> run id -> curve.
    """

    study: Mapping[str, Any]
    records: tuple[Record, ...]
    metric: str
    directions: Directions
    problems: tuple[ProblemView, ...]
    read_curves: ReadCurves

    @property
    def name(self) -> str:
        """That of the study."""
        return str(self.study.get("name", "study"))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that any run recorded."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.metrics))

    @cached_property
    def optimizers(self) -> tuple[str, ...]:
        """Names of the study's entries."""
        return tuple(dict.fromkeys(record.optimizer for record in self.records))

    @cached_property
    def statuses(self) -> dict[Status, int]:
        """How many runs have each status; absent ones are left out."""
        found = Counter(record.status for record in self.records)
        return {status: found[status] for status in Status if found[status]}

    @cached_property
    def failures(self) -> tuple[Record, ...]:
        """The runs that diverged or could not be trained."""
        return tuple(record for record in self.records if record.status in FAILED)

    @property
    def points(self) -> int:
        """How many points of a curve are kept for drawing."""
        return points_shown(len(self.records), len(self.metrics))

    @cached_property
    def ranks(self) -> RankComparison | None:
        """The optimizers over all problems; None for fewer than two problems or optimizers.

        None as well where nothing declares which values of the metric are better.
        """
        if len(self.problems) < 2:
            return None
        merits = []
        for problem in self.problems:
            better = self.directions.better(problem.metric)
            if better is None:
                return None
            sign = 1 if better == "higher" else -1
            values = {c.name: sign * _mean(c.values(problem.metric)) for c in problem.contenders}
            merits.append(values)
        common = [name for name in merits[0] if all(name in values for values in merits)]
        table = [[values[name] for name in common] for values in merits]
        if len(common) < 2 or np.isnan(table).all():
            return None
        return compare_ranks(table, common, higher_is_better=True)

    @cached_property
    def facts(self) -> dict[str, dict[str, int]]:
        """What runs recorded of their circumstances: name -> value -> number of runs."""
        found: dict[str, Counter[str]] = {}
        for record in self.records:
            for name, value in _flat(asdict(record.facts)):
                found.setdefault(name, Counter())[value] += 1
        return {name: dict(counts.most_common()) for name, counts in found.items()}

    @cached_property
    def paired_seeds(self) -> tuple[int, int]:
        """For how many seeds all runs began alike, and how many have two runs that tell."""
        starts: dict[tuple[int, str], list[tuple[str, str]]] = {}
        for record in self.records:
            weights = record.facts.initial_parameters_sha256
            batches = record.facts.first_batches_sha256
            if weights and batches:
                spec = record.spec
                model = json.dumps([spec.model, spec.model_arguments, spec.batch_size])
                starts.setdefault((record.seed, model), []).append((weights, batches))
        told = [found for found in starts.values() if len(found) > 1]
        return sum(len(set(found)) == 1 for found in told), len(told)


def gather(
    study: Mapping[str, Any],
    records: Iterable[Record],
    read_curves: ReadCurves,
    metric: str,
    *,
    directions: Directions | None = None,
    seed: int = 0,
) -> StudyView:
    """Return what is to be shown of a study, computed when it is asked for.

    Args:
        study: after defaults, as it is stored.
        records: the runs of the current plan.
        read_curves: metric -> run id -> curve.
        metric: what optimizers are compared on, if a problem records it; else its usual metric.
        directions: directions of the metrics; by default as the study declares.
        seed: of the bootstrap resamples.
    """
    records = tuple(records)
    directions = directions or Directions.of(study)
    problems = problems_of(records, directions) or (ProblemRuns("", (), ()),)
    views = tuple(
        ProblemView(runs, _metric_of(runs, metric, directions), directions, seed)
        for runs in problems
    )
    return StudyView(study, records, metric, directions, views, read_curves)


def _metric_of(runs: ProblemRuns, metric: str, directions: Directions) -> str:
    """Return the metric to compare on: the one asked for, or the usual one of the problem."""
    recorded = {name for record in runs.records for name in record.metrics}
    if metric in recorded or metric == TRAINING_SECONDS:
        return metric
    return report_metric(recorded, directions)


def _mean(values: Values) -> float:
    """Return the mean over seeds; NaN, which ranks last, if any run has no finite value."""
    known = known_values(values)
    return fmean(known.values()) if known and len(known) == len(values) else math.nan


_OF_ONE_RUN = (
    "seconds",
    "warm_up_seconds",
    "parameters_sha256",
    "initial_parameters",
    "first_batches",
    "warnings",
)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield facts by dotted name as text, without those that every run has its own of."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and name not in _OF_ONE_RUN:
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and not name.startswith(_OF_ONE_RUN):
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)
