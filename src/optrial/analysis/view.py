"""One view of a study: everything that tables, pages, figures and the audit show of its records."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from itertools import chain, zip_longest
from operator import attrgetter
from statistics import fmean
from typing import Any, Literal, TypedDict, cast

import numpy as np

from optrial.analysis.bands import Band, FoldsOfRuns, make_band, points_shown
from optrial.analysis.claims import Claim, parse_claims
from optrial.analysis.contenders import (
    Contender,
    OptimizerRuns,
    by_rung,
    by_setting,
    optimizers_of,
    report_metric,
)
from optrial.analysis.costs import Cost, cost_of
from optrial.analysis.rates import RateLine, rate_line
from optrial.analysis.reported import ReportedValue, published, reported_values
from optrial.analysis.statistics import (
    Comparison,
    Comparisons,
    RankComparison,
    Values,
    compare,
    compare_all,
    compare_ranks,
    known_values,
    value_text,
)
from optrial.analysis.summary import SettingSummary, metrics_of, summarize
from optrial.errors import Problem, counted
from optrial.records import Curve, Record
from optrial.spec import (
    FAILED,
    FINAL,
    HASHED_STEPS,
    TRAINING_SECONDS,
    Direction,
    Directions,
    MetricName,
    RunFacts,
    Selection,
    Status,
    metric_label,
    metric_title,
    undeclared,
)

__all__ = ["CurveReader", "PlanVersion", "ProblemView", "Search", "StudyView"]

CurveReader = Callable[[str], Mapping[str, Curve]]
"""Maps the name of a metric to its curves by run id."""

MOST_CONTENDERS = 40
"""More contenders make too many pairs to read, and the correction leaves no verdict."""


class AboutMetric(TypedDict):
    """Arguments of `compare` about the metric."""

    metric: str
    higher_is_better: bool
    percent: bool


@dataclass(frozen=True)
class PlanVersion:
    """One plan of a study.

    Attributes:
        study: the study after defaults.
        ended: number of runs that had ended when the plan was saved.
    """

    study: Mapping[str, Any]
    ended: int


@dataclass(frozen=True)
class Search:
    """The trials among which the setting of an optimizer was chosen.

    Attributes:
        optimizer: name of the optimizer.
        metric: the metric that selects.
        trials: the settings, in the order of the plan.
        chosen: the chosen setting; the best so far while tuning goes on.
        chosen_id: id of that setting.
        rung: number and length of the rung of successive halving; empty without.
    """

    optimizer: str
    metric: str
    trials: tuple[SettingSummary, ...]
    chosen: str
    chosen_id: str
    rung: str = ""

    @property
    def title(self) -> str:
        """The optimizer, and the rung: ``adam, rung 1 of 3: 20 steps``."""
        return f"{self.optimizer}, {self.rung}" if self.rung else self.optimizer


@dataclass(frozen=True, eq=False)
class ProblemView:
    """The runs of a study on one problem.

    Attributes:
        name: name of the problem.
        records: all runs, trials of tuning included.
        optimizers: the optimizers, in the order of the study.
        selection: the metric that selects settings; None if only the test split could.
        metric: the metric that optimizers are compared on; empty if nothing is recorded.
        directions: directions of the metrics.
        seed: seed of the bootstrap resamples.
    """

    name: str
    records: tuple[Record, ...]
    optimizers: tuple[OptimizerRuns, ...]
    selection: Selection | None
    metric: str
    directions: Directions
    seed: int
    _rates: dict[str, tuple[RateLine, ...]] = field(default_factory=dict)

    @property
    def select(self) -> str | None:
        """Name of the metric that selects."""
        return self.selection.metric if self.selection else None

    @cached_property
    def reported(self) -> tuple[Record, ...]:
        """The runs that are results; the trials, of the last rung, while the study still tunes."""
        results = tuple(record for record in self.records if record.phase == "report")
        return results or tuple(by_rung(self.records)[-1])

    @cached_property
    def reported_settings(self) -> dict[str, tuple[Record, ...]]:
        """The runs that are results by id of their setting, in the order of the plan."""
        return by_setting(self.reported)

    @cached_property
    def contenders(self) -> tuple[Contender, ...]:
        """The settings that are compared."""
        return tuple(
            contender for optimizer in self.optimizers for contender in optimizer.contenders
        )

    def covers_an_optimizer(self, contenders: Collection[str]) -> bool:
        """Return whether these include every compared setting of an optimizer.

        Args:
            contenders: names of contenders.
        """
        return any(
            all(contender.name in contenders for contender in optimizer.contenders)
            for optimizer in self.optimizers
        )

    @property
    def pairing(self) -> Literal["seed", "fold"]:
        """The number that paired runs of different optimizers share."""
        return "fold" if any(record.spec.fold for record in self.records) else "seed"

    @property
    def chooses(self) -> bool:
        """True if one setting contends for each optimizer."""
        return len(self.contenders) == len(self.optimizers)

    @property
    def contestants(self) -> str:
        """The word for what is compared: "optimizers", or "settings" if one has several."""
        return "optimizers" if self.chooses else "settings"

    @property
    def finishing(self) -> tuple[Contender, ...]:
        """The contenders with at least one finished run."""
        return tuple(c for c in self.contenders if c.count(Status.DONE))

    @property
    def compared(self) -> list[Record]:
        """The runs that are compared."""
        return [record for contender in self.contenders for record in contender.records]

    @property
    def trials(self) -> list[Record]:
        """The runs among which settings are chosen."""
        return [record for optimizer in self.optimizers for record in optimizer.trials]

    @cached_property
    def summaries(self) -> tuple[SettingSummary, ...]:
        """Summaries of the settings of the reported runs."""
        return tuple(summarize(self.reported, self.selection))

    @cached_property
    def _values(self) -> dict[str, Values]:
        return {c.name: values for c in self.contenders if (values := c.values(self.metric))}

    @property
    def untrained(self) -> bool:
        """True if no run has a step: values of initial weights say nothing of an optimizer."""
        return not any(record.steps for record in self.records)

    @property
    def not_compared(self) -> str:
        """Reason why nothing is compared, in one sentence; empty if there are comparisons."""
        count = len(self._values)
        if not self.metric or not count:
            return "No run has ended: there is nothing to compare yet."
        if reason := self._no_outcome:
            return reason
        if self.directions.better(self.metric) is None:
            way_out = "declare it under problem.metrics of the study, with better: lower or higher"
            return f"No order is shown: {undeclared(self.metric)}; {way_out}."
        if count == 1:
            ((name, values),) = self._values.items()
            known = [v for v in values.values() if v is not None and math.isfinite(v)]
            mean = value_text(known, percent=self.directions.percent(self.metric))
            shown = f"{mean} {metric_title(self.metric)}"
            return f"{name}: {shown}; there is nothing to compare it with."
        if count > MOST_CONTENDERS:
            return (
                f"{count} settings contend, too many to compare all pairs. Evaluate on a "
                "validation split to choose one setting per optimizer."
            )
        return ""

    @property
    def _no_outcome(self) -> str:
        """Reason why no value is the outcome of training, in one sentence; empty if one is."""
        ended = [value for values in self._values.values() for value in values.values()]
        if not any(value is not None and math.isfinite(value) for value in ended):
            so_far = any(record.status not in FINAL for record in self.records)
            diverged = f"Every run {'so far ' * so_far}diverged"
            unknown = f"No finished run has a value of {metric_title(self.metric)}"
            return f"{unknown if None in ended else diverged}: there is nothing to compare."
        if self.untrained:
            return f"Nothing was trained: {self._initial} of the initial weights."
        return ""

    @property
    def _initial(self) -> str:
        """The value before training, with a verb; that there are values if settings differ."""
        first, *others = map(known_values, self._values.values())
        finite = [value for value in first.values() if math.isfinite(value)]
        if not finite or any(other != first for other in others):
            return "these are values"
        shown = value_text(finite, percent=self.directions.percent(self.metric))
        return f"{shown} is the {metric_title(self.metric)}"

    @cached_property
    def comparisons(self) -> Comparisons | None:
        """All pairs of contenders on the metric; None if nothing can be compared."""
        if self.not_compared:
            return None
        return compare_all(self._values, seed=self.seed, **self._about_metric)

    @cached_property
    def pairs(self) -> tuple[Comparison, ...]:
        """The comparisons, each with the leading optimizer first; those of the best come first."""
        if self.comparisons is None:
            return ()
        place = {name: index for index, name in enumerate(self.comparisons.order)}
        pairs = (
            pair if place[pair.first] < place[pair.second] else pair.swapped()
            for pair in self.comparisons.pairs
        )
        return tuple(sorted(pairs, key=lambda pair: (place[pair.first], place[pair.second])))

    def pair(self, first: str, second: str) -> Comparison:
        """Return the comparison of two contenders as in `comparisons`.

        A pair of a problem without comparisons, such as one with too many contenders, forms a
        family alone.
        """
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair if pair.first == first else pair.swapped()
        return compare(
            self._values.get(first, {}),
            self._values.get(second, {}),
            names=(first, second),
            seed=self.seed,
            **self._about_metric,
        )

    @property
    def _about_metric(self) -> AboutMetric:
        return {
            "metric": self.metric,
            "higher_is_better": self.directions.better(self.metric) == "higher",
            "percent": self.directions.percent(self.metric),
        }

    def sensitivity(self, metric: str) -> tuple[RateLine, ...]:
        """Return final values by learning rate for each optimizer tried with several.

        If the study has a tuning phase, these are values of its trials; with successive halving, of
        those in the last rung.
        """
        if metric not in self._rates:
            lines = (
                rate_line(optimizer.name, optimizer.finalists, metric, self.directions, self.seed)
                for optimizer in self.optimizers
            )
            self._rates[metric] = tuple(line for line in lines if line)
        return self._rates[metric]

    @cached_property
    def searches(self) -> tuple[Search, ...]:
        """Trials of each optimizer and rung; empty if the study has no tuning phase."""
        return tuple(
            Search(
                optimizer.name,
                self.select or "",
                tuple(summarize(list(chain.from_iterable(rung.values())), self.selection)),
                optimizer.contenders[0].setting,
                optimizer.contenders[0].setting_id,
                _rung_of(next(iter(rung.values()))[0], len(optimizer.rungs)),
            )
            for optimizer in self.optimizers
            if any(record.phase == "tune" for record in optimizer.trials)
            for rung in optimizer.rungs
        )

    @cached_property
    def costs(self) -> tuple[Cost, ...]:
        """Recorded training times of the finished runs of each contender."""
        return tuple(cost for contender in self.contenders if (cost := cost_of(contender)))

    def bands(
        self,
        metric: str,
        curves: Mapping[str, Curve],
        points: int,
        settings: Collection[str] | None = None,
        further: Iterable[Record] = (),
    ) -> dict[str, Band]:
        """Return the curves of one metric by setting id of the reported runs.

        Args:
            metric: name of the metric.
            curves: curves by run id.
            points: greatest number of points per curve.
            settings: ids of settings; by default all.
            further: runs of settings that are not reported.
        """
        bands = {}
        for setting, records in (self.reported_settings | by_setting(further)).items():
            if settings is not None and setting not in settings:
                continue
            known = {r.run_id: r for r in records if len(curves.get(r.run_id, ()))}
            if known:
                bands[setting] = make_band(
                    {run_id: curves[run_id] for run_id in known},
                    self.seed,
                    points=points,
                    bounds=self.directions.bounds(metric),
                    folds=FoldsOfRuns.of(known.values(), metric),
                )
        return bands


@dataclass(frozen=True, eq=False)
class StudyView:
    """Everything that is shown of a study, computed when it is first asked for.

    Attributes:
        study: the study after defaults, as stored.
        records: the runs of the current plan.
        read_curves: reads the curves of one metric; called once per metric.
        chosen_metric: the metric that optimizers are compared on; by default `report_metric`.
        better: direction of that metric, if the study does not declare it.
        former: runs of earlier plans only.
        plans: every plan of the study, oldest first.
        sources: location of each problem's study, if several studies are joined.
        seed: seed of the bootstrap resamples.
    """

    study: Mapping[str, Any]
    records: tuple[Record, ...]
    read_curves: CurveReader
    chosen_metric: str = ""
    better: Direction | None = None
    former: tuple[Record, ...] = ()
    plans: tuple[PlanVersion, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    _curves: dict[str, Mapping[str, Curve]] = field(default_factory=dict)
    _published: dict[str, list[ReportedValue]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.study.get("name", "study"))

    def curves(self, metric: str) -> Mapping[str, Curve]:
        """Return the curves of a metric by run id; empty if no run recorded it."""
        if metric not in self._curves:
            known = metric in self.metrics
            self._curves[metric] = self.read_curves(metric) if known else {}
        return self._curves[metric]

    def published(self, problem: ProblemView) -> list[ReportedValue]:
        """Return every published value of a problem beside the measured one."""
        if problem.name not in self._published:
            values = published(self.study, problem.name)
            self._published[problem.name] = reported_values(
                values, problem.summaries, problem.reported, self.curves
            )
        return self._published[problem.name]

    @property
    def metric(self) -> str:
        """The metric that optimizers are compared on; empty if nothing is recorded."""
        return self.chosen_metric or self.report_metric

    @cached_property
    def directions(self) -> Directions:
        """Directions of the metrics, from the catalogue, the study or `better`."""
        declared = Directions.of(self.study)
        return declared.declaring(self.metric, self.better) if self.better else declared

    @cached_property
    def report_metric(self) -> str:
        """The default metric of a report, that of the first claim or one on the test split."""
        claimed = [
            claim.metric
            for claim in self.claims
            if claim.metric in self.metrics and not claim.target and not claim.about_seconds
        ]
        return report_metric(self.metrics, Directions.of(self.study), claimed)

    @cached_property
    def selection(self) -> Selection | None:
        """The metric that selects settings; None if only the test split could."""
        return _selection(self.records, self.directions)

    @property
    def select(self) -> str | None:
        """Name of the metric that selects settings."""
        return self.selection.metric if self.selection else None

    @cached_property
    def _parsed_claims(self) -> tuple[list[Claim], list[Problem]]:
        return parse_claims(
            list(self.study.get("claims") or ()),
            self.optimizer_names,
            directions=Directions.of(self.study),
        )

    @property
    def claims(self) -> list[Claim]:
        """The claims of the study that can be read."""
        return self._parsed_claims[0]

    @property
    def claim_problems(self) -> list[Problem]:
        """Problems with the other claims."""
        return self._parsed_claims[1]

    @cached_property
    def problems(self) -> tuple[ProblemView, ...]:
        """The runs by problem, in the order of the plan."""
        groups: dict[str, list[Record]] = {}
        for record in self.records:
            groups.setdefault(record.problem, []).append(record)
        return tuple(self._problem(name, records) for name, records in groups.items())

    def _problem(self, name: str, records: Sequence[Record]) -> ProblemView:
        """Return one problem; its own metrics decide which is compared and which selects."""
        recorded = metrics_of(records)
        selection = _selection(records, self.directions)
        if any(record.spec.fold for record in records):
            selection = None  # the validation samples of a fold are test samples of others
        if not any(record.steps for record in records):
            selection = None  # settings have no effect before training
        metric = self.metric
        if metric not in recorded and metric != TRAINING_SECONDS:
            metric = report_metric(recorded, self.directions)
        return ProblemView(
            name,
            tuple(records),
            optimizers_of(records, selection),
            selection,
            metric,
            self.directions,
            self.seed,
        )

    @cached_property
    def contenders(self) -> tuple[Contender, ...]:
        """The settings that are compared, on every problem."""
        return tuple(c for problem in self.problems for c in problem.contenders)

    @property
    def compared(self) -> list[Record]:
        """The runs that are compared, on every problem."""
        return [record for problem in self.problems for record in problem.compared]

    @cached_property
    def ended(self) -> tuple[Record, ...]:
        """The runs that finished or diverged."""
        return tuple(record for record in self.records if record.status in FINAL)

    @cached_property
    def has_tuning(self) -> bool:
        """True if the study has a tuning phase."""
        return any(record.phase == "tune" for record in self.records)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that any run recorded."""
        return tuple(metrics_of(self.records))

    @cached_property
    def optimizer_names(self) -> tuple[str, ...]:
        """Names of the optimizers, in the order of the study."""
        return tuple(dict.fromkeys(record.optimizer for record in self.records))

    @cached_property
    def ranked_optimizers(self) -> tuple[str, ...]:
        """Names of the optimizers, best first; the best of each of several problems come first."""
        optimizers = {c.name: c.optimizer for problem in self.problems for c in problem.contenders}
        orders = [problem.comparisons.order for problem in self.problems if problem.comparisons]
        ranked = (optimizers[name] for names in zip_longest(*orders) for name in names if name)
        return tuple(dict.fromkeys([*ranked, *self.optimizer_names]))

    @cached_property
    def optimizers(self) -> tuple[OptimizerRuns, ...]:
        """Every optimizer on every problem."""
        return tuple(optimizer for problem in self.problems for optimizer in problem.optimizers)

    @cached_property
    def statuses(self) -> dict[Status, int]:
        """Number of runs by status; statuses without runs are left out."""
        counts = Counter(record.status for record in self.records)
        return {status: counts[status] for status in Status if counts[status]}

    @cached_property
    def failures(self) -> tuple[Record, ...]:
        """The runs that diverged or ended with an error."""
        return tuple(record for record in self.records if record.status in FAILED)

    @property
    def budget_unit(self) -> Literal["step", "epoch"]:
        """Unit in which the study gives the length of a training."""
        return "epoch" if (self.study.get("budget") or {}).get("epochs") else "step"

    @property
    def points(self) -> int:
        """Number of points of a curve that is drawn."""
        return points_shown(len(self.records), len(self.metrics))

    @cached_property
    def ranks(self) -> RankComparison | None:
        """Ranks of the optimizers over all problems.

        None for fewer than two problems or optimizers, if a metric has no direction, or if nothing
        was trained on a problem.
        """
        if len(self.problems) < 2 or any(problem.untrained for problem in self.problems):
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
        """Number of runs by recorded fact and value."""
        counts: dict[str, Counter[str]] = {}
        columns = zip(*(_shared_facts(record.facts) for record in self.records), strict=True)
        for name, values in zip(_SHARED_FACTS, columns, strict=False):  # none without records
            distinct = {id(value): value for value in values}  # many runs share one object
            for key, runs in Counter(map(id, values)).items():
                value = distinct[key]
                plain = value if not is_dataclass(value) else asdict(cast(Any, value))
                for dotted, text in _flat({name: plain}):
                    counts.setdefault(dotted, Counter())[text] += runs
        return {name: dict(texts.most_common()) for name, texts in counts.items()}

    @cached_property
    def paired_seeds(self) -> tuple[int, int]:
        """Number of seeds on which all runs started alike, and of seeds with at least two runs."""
        starts: dict[tuple[int, int | None, str], list[Record]] = {}
        models: dict[str, str] = {}
        for record in self.records:
            if record.facts.initial_parameters_sha256 and record.facts.first_batches_sha256:
                if record.setting_id not in models:
                    spec = record.spec
                    about = [spec.model, spec.model_arguments, spec.batch_size]
                    models[record.setting_id] = json.dumps(about)
                key = record.seed, record.fold, models[record.setting_id]
                starts.setdefault(key, []).append(record)
        shared = [records for records in starts.values() if len(records) > 1]
        return sum(map(_started_alike, shared)), len(shared)


def _selection(records: Sequence[Record], directions: Directions) -> Selection | None:
    """Return the metric that selects; before a run has finished, of those to be evaluated."""
    finished = any(record.status is Status.DONE for record in records)
    return directions.selection(metrics_of(records) if finished else _evaluated_metrics(records))


def _evaluated_metrics(records: Iterable[Record]) -> set[str]:
    """Return the names of the metrics that the runs evaluate, if they get that far."""
    return {
        str(MetricName.evaluation(label, split))
        for record in records
        for split in record.spec.evaluate_on
        for label in ("loss", *map(metric_label, record.spec.metrics))
    }


def _rung_of(trial: Record, rungs: int) -> str:
    """Return number and length of the rung of a trial; empty without successive halving."""
    rung = trial.spec.rung
    if rung is None and rungs == 1:
        return ""
    number, total = (rung.place + 1, rung.total) if rung else (rungs, rungs)
    return f"rung {number} of {total}: {counted(trial.steps, 'step')}"


def _started_alike(records: Sequence[Record]) -> bool:
    """Return whether runs have the same weights and first batch, and batches as far as they went.

    The batches of the first steps are compared among the runs that took as many of them: others may
    have diverged before, or be shorter.
    """
    batches: dict[int, set[str | None]] = {}
    for record in records:
        hashed = min(HASHED_STEPS, record.steps)
        if record.step >= hashed:
            batches.setdefault(hashed, set()).add(record.facts.first_batches_sha256)
    hashes: tuple[set[Any], ...] = (
        {r.facts.initial_parameters_sha256 for r in records},
        {r.facts.epoch_batches_sha256[:1] for r in records if r.facts.epoch_batches_sha256},
        *batches.values(),
    )
    return all(len(distinct) <= 1 for distinct in hashes)


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


_SHARED_FACTS = [entry.name for entry in fields(RunFacts) if not entry.name.startswith(_OF_ONE_RUN)]
_shared_facts = attrgetter(*_SHARED_FACTS)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield facts by dotted name as text; facts that differ in every run are left out."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and name not in _OF_ONE_RUN:
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None and not name.startswith(_OF_ONE_RUN):
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)
