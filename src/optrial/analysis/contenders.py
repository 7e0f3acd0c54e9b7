"""Groups runs by optimizer and setting, and chooses the settings that contend.

Tables, figures, comparisons, claims and the audit all use these groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optrial.analysis.statistics import Values
from optrial.analysis.values import final_values
from optrial.records import Record
from optrial.spec import Directions, MetricName, RunSpec, Selection, SettingScore, Status

__all__ = [
    "Contender",
    "OptimizerRuns",
    "best_setting",
    "by_rung",
    "by_setting",
    "finished",
    "hyperparameters",
    "is_rate",
    "optimizers_of",
    "report_metric",
    "setting_score",
]

Settings = Mapping[str, tuple[Record, ...]]
"""Runs by the id of their setting."""


_USUAL = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")


@dataclass(frozen=True)
class Contender:
    """The runs that represent an optimizer in comparisons: those of its chosen setting.

    Attributes:
        name: that of the optimizer; followed by the setting where several of them contend.
        optimizer: name of the study's entry.
        setting: the values that vary.
        records: its runs, at least one.
    """

    name: str
    optimizer: str
    setting: str
    records: tuple[Record, ...]

    def values(self, metric: str) -> Values:
        """Return final values by seed or fold; see `final_values`."""
        return final_values(self.records, metric)

    @property
    def setting_id(self) -> str:
        """Id of the setting."""
        return self.records[0].setting_id

    @property
    def problem(self) -> str:
        """Name of the problem."""
        return self.records[0].problem

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [record.seed for record in self.records]

    @property
    def pairs(self) -> set[int]:
        """The seeds of its runs, or the folds of a cross-validation."""
        return {record.pair for record in self.records}

    def count(self, status: Status) -> int:
        """Return how many of its runs have a status."""
        return sum(record.status is status for record in self.records)

    @property
    def spec(self) -> RunSpec:
        """Spec of its first run; the others differ in their seeds."""
        return self.records[0].spec


@dataclass(frozen=True)
class OptimizerRuns:
    """One optimizer on one problem: the settings that were tried and those that contend.

    Attributes:
        name: of the study's entry.
        rungs: the runs among which a setting is chosen: those of the tuning phase, or all where
            the study has none. Several rungs with successive halving, the shortest budget first;
            values of different rungs cannot be compared.
        contenders: the chosen setting; where nothing may choose among several, each of them.
    """

    name: str
    rungs: tuple[Settings, ...]
    contenders: tuple[Contender, ...]

    @cached_property
    def tried(self) -> Settings:
        """Every setting, with its runs of the longest budget that it had."""
        return {name: runs for rung in self.rungs for name, runs in rung.items()}

    @cached_property
    def one_of_each(self) -> tuple[Record, ...]:
        """One run of each setting; the others differ in seed, fold and rung alone."""
        return tuple(runs[0] for runs in self.tried.values())

    @property
    def finalists(self) -> Settings:
        """The settings among which one is chosen: those of the last rung so far."""
        return self.rungs[-1]

    @property
    def problem(self) -> str:
        """Name of the problem."""
        return self.contenders[0].problem

    @property
    def chosen(self) -> Contender | None:
        """The setting that stands for the optimizer, or None where several contend."""
        return self.contenders[0] if len(self.contenders) == 1 else None

    @property
    def others(self) -> tuple[Contender, ...]:
        """The settings that were tried and do not contend."""
        contending = {contender.setting_id for contender in self.contenders}
        return tuple(
            _contender(self.name, runs, alone=False)
            for setting_id, runs in self.tried.items()
            if setting_id not in contending
        )

    @property
    def trials(self) -> list[Record]:
        """Every run among which a setting is chosen, in any rung."""
        return [record for rung in self.rungs for runs in rung.values() for record in runs]

    @property
    def reported(self) -> list[Record]:
        """The runs of all that contends for it."""
        return [record for contender in self.contenders for record in contender.records]

    @property
    def seeds(self) -> set[int]:
        """The seeds that are reported."""
        return {record.seed for record in self.reported}

    @cached_property
    def tuned(self) -> dict[str, list[float]]:
        """Increasing values of the hyperparameters that were tried with several numbers."""
        values: dict[str, set[float]] = {}
        for runs in self.tried.values():
            for name, value in hyperparameters(runs[0]).items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    values.setdefault(name, set()).add(float(value))
        return {name: sorted(tried) for name, tried in values.items() if len(tried) > 1}

    @property
    def best_rate(self) -> float | None:
        """Learning rate of the chosen setting; None if it has none."""
        rate = hyperparameters(self.chosen.records[0]).get("lr") if self.chosen else None
        return rate if isinstance(rate, int | float) else None

    @property
    def rule(self) -> str:
        """Name of the update rule."""
        return self.contenders[0].records[0].rule

    @property
    def spec(self) -> RunSpec:
        """Spec of its first reported run."""
        return self.contenders[0].spec

    @property
    def tuned_rates(self) -> dict[str, list[float]]:
        """Learning rates that were tried with several numbers, those of groups as "head.lr"."""
        return {name: values for name, values in self.tuned.items() if is_rate(name)}

    def rule_of(self, name: str) -> str:
        """Return the name of the rule that a hyperparameter belongs to."""
        groups = (g for g in self.spec.groups if g.rule and name.startswith(f"{g.name}."))
        return next((group.rule for group in groups if group.rule), self.rule)

    def with_value(self, name: str, value: float) -> list[Record]:
        """Return the finalists that have this value of a hyperparameter; they are comparable."""
        return [
            record
            for runs in self.finalists.values()
            if hyperparameters(runs[0]).get(name) == value
            for record in runs
        ]


def optimizers_of(
    records: Iterable[Record], selection: Selection | None
) -> tuple[OptimizerRuns, ...]:
    """Group the runs of one problem by optimizer, in the order of the plan.

    Args:
        records: the runs of one problem.
        selection: the metric that selects settings; None if nothing may.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.optimizer, []).append(record)
    return tuple(_optimizer_runs(name, runs, selection) for name, runs in groups.items())


def _optimizer_runs(
    name: str, records: Sequence[Record], selection: Selection | None
) -> OptimizerRuns:
    """Return what contends: the best setting, or the first of an optimizer that never finished."""
    rungs = by_rung(r for r in records if r.phase == "tune")
    results = by_setting(r for r in records if r.phase == "report")
    reported = results or by_setting(rungs[-1])
    contending = list(reported)
    if selection is not None:
        best = best_setting(reported, selection)
        contending = contending[:1] if best is None else [best]
    contenders = tuple(
        _contender(name, reported[setting_id], alone=len(contending) == 1)
        for setting_id in contending
    )
    tried = tuple(map(by_setting, rungs)) if rungs else (results,)
    return OptimizerRuns(name, tried, contenders)


def _contender(optimizer: str, records: tuple[Record, ...], *, alone: bool) -> Contender:
    setting = records[0].setting
    return Contender(optimizer if alone else f"{optimizer} {setting}", optimizer, setting, records)


def by_rung(records: Iterable[Record]) -> list[list[Record]]:
    """Group trials by rung of successive halving, the shortest budget first; one group without."""
    groups: dict[float, list[Record]] = {}
    for record in records:
        groups.setdefault(math.inf if record.rung is None else record.rung, []).append(record)
    return [groups[place] for place in sorted(groups)]


def by_setting(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    """Group the runs of one optimizer by setting, in the order of the plan."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.setting_id, []).append(record)
    return {setting_id: tuple(group) for setting_id, group in groups.items()}


def best_setting(settings: Mapping[str, Sequence[Record]], selection: Selection) -> str | None:
    """Return the setting with the most runs that have a value, then the best mean; None if none."""
    scores = {name: setting_score(records, selection) for name, records in settings.items()}
    best = max(scores, key=scores.__getitem__, default=None)
    return best if best is not None and scores[best].succeeded else None


def setting_score(records: Iterable[Record], selection: Selection) -> SettingScore:
    """Return the score of a setting from the final values of its runs."""
    return SettingScore.of(selection.score(r.final(selection.metric)) for r in records)


def report_metric(
    recorded: Collection[str], directions: Directions, claimed: Sequence[str] = ()
) -> str:
    """Return the default metric of a report: of the first claim, else of the test split.

    Of metrics on the test split, the one that `tune.select` chooses by comes first. Metrics with a
    known direction come first; of training metrics, those over the most samples.

    Args:
        recorded: names of metrics; empty gives an empty name.
        directions: directions of the metrics.
        claimed: recorded metrics of claims, in their order.
    """
    names = {text: directions.parse(text) for text in recorded}
    evaluated = sorted(n for n in names if names[n].split in ("test", "validation"))
    usual = [n for n in _USUAL if n in evaluated and names[n].label not in directions.user_metrics]
    training = sorted(names, key=lambda n: (_place_in_training(names[n]), n))
    select = directions.parse(directions.select).label if directions.select else ""
    selecting = [n for n in evaluated if names[n].label == select and names[n].split == "test"]
    candidates = [*claimed, *selecting, *usual, *evaluated, *training]
    return next((n for n in candidates if directions.better(n)), next(iter(candidates), ""))


def _place_in_training(metric: MetricName) -> tuple[bool, bool]:
    """Sort evaluations on the whole training split first, then means over epochs, then batches."""
    return metric.split != "train_eval", not metric.epoch_mean


def finished(records: Iterable[Record], metric: str) -> list[float]:
    """Return the final values of the runs that have one."""
    return [value for r in records if (value := r.final(metric)) is not None]


def is_rate(name: str) -> bool:
    """Return whether a hyperparameter is a learning rate, or a factor of one, of any group."""
    return name == "lr" or name.endswith((".lr", ".lr.times"))


def hyperparameters(record: Record) -> dict[str, Any]:
    """Return the hyperparameters of a run and its groups, with weight decay and clipping."""
    options = {
        "weight_decay": record.spec.weight_decay,
        "clip_norm": record.spec.clip_norm,
        "clip_value": record.spec.clip_value,
    }
    known = {name: value for name, value in options.items() if value is not None}
    return {**record.hyperparameters, **known, **record.hyperparameters}
