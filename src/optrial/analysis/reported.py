"""Published values beside measured ones: the key `reported` of a study against its runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import special

from optrial.analysis.summary import SettingSummary, Spread
from optrial.errors import Problem, suggest

__all__ = ["SECONDS", "ReportedValue", "reported_problems", "reported_values", "tells"]

SECONDS = "seconds"
"""The key of `reported` that holds times and is no metric; `optrial.timing` reads it."""

Reported = Mapping[str, Mapping[str, float]]
"""Metric -> optimizer, followed by what tells its setting (`adam lr=0.01`) -> published value."""


@dataclass(frozen=True)
class ReportedValue:
    """What a publication says came out, and what was measured.

    Attributes:
        metric: name of the metric.
        name: of the optimizer, with what tells its setting where it has several.
        reported: the published value, taken for that of one run.
        measured: the same over the seeds of the study; None where no run of it is done.
    """

    metric: str
    name: str
    reported: float
    measured: Spread | None

    @property
    def difference(self) -> float:
        """Measured mean minus reported value; NaN where nothing is measured."""
        return self.measured.mean - self.reported if self.measured else math.nan

    @property
    def margin(self) -> float:
        """How far from the mean one more run lies in 19 of 20 cases; NaN below two runs.

        The prediction interval of normal values: t(0.975, n - 1) s sqrt(1 + 1/n).
        """
        if self.measured is None or self.measured.count < 2:
            return math.nan
        runs = self.measured.count
        quantile = float(special.stdtrit(runs - 1, 0.975))
        return quantile * self.measured.deviation * math.sqrt(1 + 1 / runs)

    @property
    def agrees(self) -> bool | None:
        """Whether the published value could be one more run; None where no spread is known."""
        return None if math.isnan(self.margin) else abs(self.difference) <= self.margin


def reported_values(reported: Reported, settings: Iterable[SettingSummary]) -> list[ReportedValue]:
    """Return every published value of a metric with what was measured, in the study's order."""
    summaries = list(settings)
    return [
        ReportedValue(metric, name, value, _measured(metric, name, summaries))
        for metric, values in reported.items()
        if metric != SECONDS
        for name, value in values.items()
    ]


def _measured(metric: str, name: str, summaries: Iterable[SettingSummary]) -> Spread | None:
    """Return the spread of the one setting that a name tells."""
    found = [each for each in summaries if tells(name, each.optimizer, each.setting)]
    return found[0].metrics.get(metric) if len(found) == 1 else None


def tells(name: str, optimizer: str, setting: str) -> bool:
    """Whether a name is that of an optimizer, followed by nothing but values of a setting.

    Args:
        name: as a study writes it: ``adam``, ``adam batch_size=16``.
        optimizer: name of the entry in the study.
        setting: the values that vary: ``lr=0.001 batch_size=16``.
    """
    rest = name.removeprefix(optimizer)
    named = name == optimizer or name.startswith(f"{optimizer} ")
    return named and set(rest.split()) <= set(setting.split())


def reported_problems(
    reported: Reported, optimizers: Iterable[str], metrics: Iterable[str]
) -> list[Problem]:
    """Return what is wrong with published values: names that nothing has, times of no length.

    Args:
        reported: as the study gives it.
        optimizers: names of the study's entries.
        metrics: what it records.
    """
    optimizers, keys = list(optimizers), [*metrics, SECONDS]
    problems = []
    for metric, values in reported.items():
        if metric not in keys:
            message = f"'{metric}' is not recorded. {suggest(metric, keys)}"
            problems.append(Problem("reported", message))
        for name in values:
            if not any(name == each or name.startswith(f"{each} ") for each in optimizers):
                message = f"'{name}' does not begin with an optimizer of this study. "
                problems.append(Problem(f"reported.{metric}", message + suggest(name, optimizers)))
    for name, seconds in reported.get(SECONDS, {}).items():
        if seconds <= 0:
            message = f"{seconds:g}: must be above 0, the time of a run or of an epoch; "
            message += "leave out a time that was not published."
            problems.append(Problem(f"reported.{SECONDS}.{name}", message))
    return problems
