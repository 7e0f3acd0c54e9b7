"""Summary of each setting: means and standard deviations over seeds, failures counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from optrial.analysis.contenders import best_setting, by_setting
from optrial.errors import all_listed
from optrial.records import Record
from optrial.spec import MetricName, Selection, Status, metric_title

__all__ = ["SettingSummary", "Spread", "metrics_of", "missing_values", "summarize"]


@dataclass(frozen=True)
class Spread:
    """A metric over the seeds of one setting.

    Attributes:
        mean: over the finished runs.
        deviation: standard deviation with ddof 1; NaN for a single run.
        count: number of finished runs.
    """

    mean: float
    deviation: float
    count: int


@dataclass(frozen=True)
class SettingSummary:
    """Outcome of one optimizer with one setting.

    Attributes:
        optimizer: name of the optimizer.
        setting: the values that vary.
        statuses: number of runs by status; statuses without runs are left out.
        metrics: final values over seeds by metric, for metrics that any run has.
        problem: name of the problem.
        best: whether this is the optimizer's best setting by the metric that selects.
        setting_id: id of the setting.
    """

    optimizer: str
    setting: str
    statuses: Mapping[Status, int]
    metrics: Mapping[str, Spread]
    best: bool
    problem: str = ""
    setting_id: str = ""

    @property
    def runs(self) -> int:
        """Number of planned runs."""
        return sum(self.statuses.values())


def summarize(
    records: Sequence[Record], selection: Selection | None = None
) -> list[SettingSummary]:
    """Summarise runs by optimizer and setting, in the order of the plan.

    Runs that did not finish are counted, never imputed; a setting with fewer finished runs is
    never the best while there is one with more.

    Args:
        records: the runs of one problem.
        selection: the metric that selects the best setting; None marks none as best.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.optimizer, []).append(record)
    return [
        summary
        for optimizer, group in groups.items()
        for summary in _summaries(optimizer, by_setting(group), selection)
    ]


def _summaries(
    optimizer: str, settings: Mapping[str, Sequence[Record]], selection: Selection | None
) -> Iterator[SettingSummary]:
    best = best_setting(settings, selection) if selection else None
    for setting_id, records in settings.items():
        counts = Counter(record.status for record in records)
        yield SettingSummary(
            optimizer=optimizer,
            setting=records[0].setting,
            setting_id=setting_id,
            statuses={status: counts[status] for status in Status if status in counts},
            metrics=_spreads(records),
            best=setting_id == best,
            problem=records[0].problem,
        )


def metrics_of(records: Iterable[Record]) -> dict[str, None]:
    """Return the names of the metrics that any run recorded, as keys; most runs have the same."""
    return dict.fromkeys(chain.from_iterable({tuple(r.metrics): None for r in records}))


def missing_values(records: Iterable[Record]) -> list[str]:
    """Return one sentence per reason for which metrics of finished runs have no value.

    Means over seeds leave these runs out.
    """
    done = [record for record in records if record.status is Status.DONE]
    names = metrics_of(done)
    of_epochs = [name for name in names if MetricName.parse(name).epoch_mean]
    means = [n for n in of_epochs if any(r.metrics.get(n) is not None for r in done)]
    short = "trained for less than an epoch"
    runs: dict[tuple[str, str], list[Record]] = {}
    for record in (r for r in done if r.reason or None in map(r.metrics.get, means)):
        reasons = {name: short for name in means if record.metrics.get(name) is None}
        for metric, reason in {**reasons, **record.not_finite}.items():
            runs.setdefault((reason, metric), []).append(record)
    metrics: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, metric), missing in runs.items():
        metrics.setdefault((reason, _counts_by_setting(missing)), []).append(metric)
    return [
        f"{all_listed([metric_title(name) for name in names])} "
        f"{'has' if len(names) == 1 else 'have'} no value in {', '.join(counts)}: {reason}"
        for (reason, counts), names in metrics.items()
    ]


def _counts_by_setting(records: Iterable[Record]) -> tuple[str, ...]:
    counts = Counter(" ".join(filter(None, (r.optimizer, r.setting))) for r in records)
    return tuple(f"{n} run{'s' * (n > 1)} of {setting}" for setting, n in counts.items())


def _spreads(records: Sequence[Record]) -> dict[str, Spread]:
    finals = [record.metrics for record in records]
    values_of = {
        metric: [value for final in finals if (value := final.get(metric)) is not None]
        for metric in metrics_of(records)
    }
    return {metric: _spread(values) for metric, values in values_of.items() if values}


def _spread(values: Sequence[float]) -> Spread:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, len(values))
