"""Published values beside measured ones: the key `reported` of a study and its runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scipy import special

from optrial.analysis.summary import SettingSummary, Spread
from optrial.errors import Problem, suggest

__all__ = [
    "SECONDS",
    "ReportedValue",
    "names_setting",
    "published",
    "reported_problems",
    "reported_values",
]

SECONDS = "seconds"
"""Key of `reported` that holds times instead of a metric; `optrial.timing` reads it."""

Reported = Mapping[str, Mapping[str, float]]
"""Metric -> name of an optimizer, followed by its setting (`adam lr=0.01`) -> published value."""


@dataclass(frozen=True)
class ReportedValue:
    """A published value and the measured one.

    Attributes:
        metric: name of the metric.
        name: name of the optimizer, followed by its setting if it has several.
        reported: the published value, taken as that of one run.
        measured: the measured values over seeds; None without a finished run.
    """

    metric: str
    name: str
    reported: float
    measured: Spread | None

    @property
    def difference(self) -> float:
        """Measured mean minus published value; NaN if nothing is measured."""
        return self.measured.mean - self.reported if self.measured else math.nan

    @property
    def margin(self) -> float:
        """Half-width of the 95 % prediction interval of one more run; NaN for fewer than two runs.

        For normal values it is t(0.975, n - 1) s sqrt(1 + 1/n).
        """
        if self.measured is None or self.measured.count < 2:
            return math.nan
        runs = self.measured.count
        quantile = float(special.stdtrit(runs - 1, 0.975))
        return quantile * self.measured.deviation * math.sqrt(1 + 1 / runs)

    @property
    def agrees(self) -> bool | None:
        """True if the published value may be one more run; None if the spread is unknown."""
        return None if math.isnan(self.margin) else abs(self.difference) <= self.margin


def published(study: Mapping[str, Any], problem: str) -> Reported:
    """Return the published values for one problem of a study.

    Args:
        study: after defaults, as a store holds it.
        problem: name of the problem, whose own `reported` replaces that of the study.
    """
    entry = (study.get("problem") or {}).get(problem)
    own = entry.get("reported") if isinstance(entry, Mapping) else None
    return (study.get("reported") or {}) if own is None else own


def reported_values(reported: Reported, settings: Iterable[SettingSummary]) -> list[ReportedValue]:
    """Return every published value of a metric with the measured one, in the order of the study."""
    summaries = list(settings)
    return [
        ReportedValue(metric, name, value, _measured(metric, name, summaries))
        for metric, values in reported.items()
        if metric != SECONDS
        for name, value in values.items()
    ]


def _measured(metric: str, name: str, summaries: Iterable[SettingSummary]) -> Spread | None:
    """Return the spread of the setting with this name; None if several settings have it."""
    named = [s for s in summaries if names_setting(name, s.optimizer, s.setting)]
    return named[0].metrics.get(metric) if len(named) == 1 else None


def names_setting(name: str, optimizer: str, setting: str) -> bool:
    """Return True if a name is that of an optimizer, followed only by values of its setting.

    Numbers may be written in any form: ``lr=1e-3`` names the setting ``lr=0.001``.

    Args:
        name: name as in a study: ``adam``, ``adam batch_size=16``.
        optimizer: name of the optimizer.
        setting: the values that vary: ``lr=0.001 batch_size=16``.
    """
    rest = name.removeprefix(optimizer)
    named = name == optimizer or name.startswith(f"{optimizer} ")
    return named and _values(rest) <= _values(setting)


def _values(setting: str) -> set[tuple[str, str]]:
    """Return hyperparameters and values, numbers with the six digits that settings show."""
    pairs = (text.partition("=") for text in setting.split())
    return {(name, _short(value)) for name, _, value in pairs}


def _short(value: str) -> str:
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value


def reported_problems(
    reported: Reported, optimizers: Iterable[str], metrics: Iterable[str]
) -> list[Problem]:
    """Return the problems with published values: unknown names, and times that are not positive.

    Args:
        reported: the key of the study.
        optimizers: names of the optimizers.
        metrics: names of the recorded metrics.
    """
    optimizers, keys = list(optimizers), [*metrics, SECONDS]
    problems = []
    for metric, values in reported.items():
        if metric not in keys:
            message = f"'{metric}' is not recorded. {suggest(metric, keys)}"
            problems.append(Problem("reported", message))
        for name in values:
            if not any(name == known or name.startswith(f"{known} ") for known in optimizers):
                message = f"'{name}' does not begin with an optimizer of this study. "
                problems.append(Problem(f"reported.{metric}", message + suggest(name, optimizers)))
    for name, seconds in reported.get(SECONDS, {}).items():
        if seconds <= 0:
            message = f"{seconds:g}: must be above 0, the time of a run or of an epoch; "
            message += "leave out a time that was not published."
            problems.append(Problem(f"reported.{SECONDS}.{name}", message))
    return problems
