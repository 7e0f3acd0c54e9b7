"""Published values beside measured ones: the key `reported` of a study and its runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import scipy  # imports its modules when they are first used

from optrial.analysis.summary import SettingSummary, Spread
from optrial.errors import Problem, suggest
from optrial.records import Curve, Record
from optrial.spec import RUNNING_MEAN, MetricName, metric_title

__all__ = [
    "SECONDS",
    "ReportedValue",
    "agreement",
    "names_setting",
    "published",
    "published_seconds",
    "reported_problems",
    "reported_values",
]

SECONDS = "seconds"
"""Key of `reported` that holds times instead of a metric; `optrial.timing` reads it."""

Reported = Mapping[str, Mapping[str, Any]]
"""Metric -> name of an optimizer, followed by its setting (`adam lr=0.01`) -> published value.

The value is the final one, ``{"epochs": {"5": 1.59}}`` or ``{"steps": {"500": 0.35}}``. A list in
the place of a value holds those of several runs.
"""


SAME_DIGITS = 1e-6
"""Relative difference below which two float32 computations gave the same value."""


@dataclass(frozen=True)
class ReportedValue:
    """A published value and the measured one.

    Attributes:
        metric: name of the metric.
        name: name of the optimizer, followed by its setting if it has several.
        reported: the published value, taken as that of one run.
        measured: the measured values over seeds; None without a run that got there.
        at: when it was measured, such as "epoch 5"; empty for the final value.
        setting_id: id of the setting; empty if the name is that of several or of none.
        step: the step of the value; None for the final value.
        half_a_digit: half a unit of the last printed digit.
    """

    metric: str
    name: str
    reported: float
    measured: Spread | None
    at: str = ""
    setting_id: str = ""
    step: int | None = None
    half_a_digit: float = 0.0

    @property
    def label(self) -> str:
        """The name, followed by when the value was measured."""
        return f"{self.name}, {self.at}" if self.at else self.name

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
        quantile = float(scipy.special.stdtrit(runs - 1, 0.975))
        return quantile * self.measured.deviation * math.sqrt(1 + 1 / runs)

    @property
    def deviations(self) -> float:
        """Distance in standard deviations over seeds; NaN for fewer than two runs."""
        if self.measured is None or self.measured.count < 2:
            return math.nan
        if self.difference == 0:
            return 0.0
        deviation = self.measured.deviation
        return abs(self.difference) / deviation if deviation else math.inf

    @property
    def agrees(self) -> bool | None:
        """True if the published value may be one more run, or equals the measured one to its last
        printed digit or to six digits; None if one run alone differs, so the spread is unknown.
        """
        if self.measured is None:
            return None
        if abs(self.difference) <= max(self.half_a_digit, SAME_DIGITS * abs(self.reported)):
            return True
        return None if math.isnan(self.margin) else abs(self.difference) <= self.margin


def _half_a_digit(values: Iterable[float]) -> float:
    """Return half a unit of the last decimal of numbers that are printed in one format.

    Trailing zeros are lost, so the number with the most decimals decides.
    """
    exponents = [int(Decimal(repr(value)).as_tuple().exponent) for value in values]
    return 0.5 * 10.0 ** min(exponents, default=0) * (1 + 1e-9)  # an exact half rounds either way


def agreement(values: Sequence[ReportedValue]) -> list[str]:
    """Return how many published values agree, and one sentence per value that does not.

    The largest distance comes first. Values that were not measured are only counted, and those that
    differ from a single run are counted apart, because its spread is not known.
    """
    measured = [value for value in values if value.measured]
    agreeing = sum(value.agrees is True for value in measured)
    text = f"{agreeing} of {len(values)} published values agree"
    if unjudged := sum(value.agrees is None for value in measured):
        text += f", {unjudged} cannot be judged from one run"
    if missing := len(values) - len(measured):
        text += f", {missing} not measured"
    off = sorted(
        (value for value in measured if value.agrees is not True),
        key=lambda value: (-_distance(value), value.metric, value.name),
    )
    return [text, *map(_departure, off)]


def _distance(value: ReportedValue) -> float:
    """Return how far a value is off: in standard deviations, or relative to the published one."""
    if not math.isnan(value.deviations):
        return value.deviations
    return abs(value.difference) / (abs(value.reported) or 1.0)


def _departure(value: ReportedValue) -> str:
    assert value.measured is not None
    distance = "one run, so its spread is unknown"
    if value.deviations == math.inf:
        distance = f"{value.measured.count} equal runs"
    elif not math.isnan(value.deviations):
        distance = f"{value.deviations:.1f} standard deviations off"
    return (
        f"{metric_title(value.metric)} of {value.label}: published {value.reported:.6g}, here "
        f"{value.measured.mean:.6g} ({distance})"
    )


def published(study: Mapping[str, Any], problem: str) -> Reported:
    """Return the published values for one problem of a study.

    Args:
        study: after defaults, as a store holds it.
        problem: name of the problem, whose own `reported` replaces that of the study.
    """
    entry = (study.get("problem") or {}).get(problem)
    replaced = entry.get("reported") if isinstance(entry, Mapping) else None
    return (study.get("reported") or {}) if replaced is None else replaced


def published_seconds(reported: Reported) -> dict[str, float]:
    """Return the published times by name; a name has one."""
    return {name: float(seconds) for name, seconds in reported.get(SECONDS, {}).items()}


def reported_values(
    reported: Reported,
    settings: Iterable[SettingSummary],
    records: Iterable[Record] = (),
    curves: Callable[[str], Mapping[str, Curve]] = lambda _: {},
) -> list[ReportedValue]:
    """Return every published value of a metric with the measured one, in the order of the study.

    Args:
        reported: the published values.
        settings: summaries of the settings.
        records: the runs of these settings; values during training need them.
        curves: curves by run id of a metric.
    """
    if not reported:
        return []
    summaries = list(settings)
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(record.setting_id, []).append(record)
    values: list[ReportedValue] = []
    for metric, by_name in reported.items():
        for name, numbers in by_name.items() if metric != SECONDS else ():
            named = [s for s in summaries if names_setting(name, s.optimizer, s.setting)]
            setting = named[0] if len(named) == 1 else None
            if isinstance(numbers, Mapping):
                runs = members.get(setting.setting_id, []) if setting else []
                values += _during(metric, name, numbers, runs, curves)
            else:
                measured = setting.metrics.get(metric) if setting else None
                setting_id = setting.setting_id if setting else ""
                values += (
                    ReportedValue(metric, name, number, measured, setting_id=setting_id)
                    for number in _each_run(numbers)
                )
    digits = {
        metric: _half_a_digit(value.reported for value in values if value.metric == metric)
        for metric in reported
    }
    return [replace(value, half_a_digit=digits[value.metric]) for value in values]


def _during(
    metric: str,
    name: str,
    numbers: Mapping[str, Mapping[str, float | Sequence[float]]],
    runs: Sequence[Record],
    curves: Callable[[str], Mapping[str, Curve]],
) -> Iterator[ReportedValue]:
    """Yield published values of epochs or steps with those of the runs that reached them."""
    read = _running_mean if metric.endswith(RUNNING_MEAN) else _value_at
    by_run = curves(metric.removesuffix(RUNNING_MEAN)) if runs else {}
    own = [by_run[record.run_id] for record in runs if record.run_id in by_run]
    for unit, points in numbers.items():
        length = runs[0].steps_per_epoch if runs and unit == "epochs" else 1
        for at, published_values in points.items():
            step = int(at) * length
            measured = [value for curve in own if (value := read(curve, step)) is not None]
            for number in _each_run(published_values):
                yield ReportedValue(
                    metric,
                    name,
                    number,
                    _spread(measured),
                    at=f"{unit.removesuffix('s')} {at}",
                    setting_id=runs[0].setting_id if runs else "",
                    step=step,
                )


def _each_run(value: float | Sequence[float]) -> Sequence[float]:
    """Return the published values of one or several runs."""
    return value if isinstance(value, Sequence) else [value]


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Spread(float(np.mean(values)), deviation, len(values))


def _value_at(curve: Curve, step: int) -> float | None:
    place = int(np.searchsorted(curve.steps, step))
    if place == len(curve) or curve.steps[place] != step or not np.isfinite(curve.values[place]):
        return None
    return float(curve.values[place])


def _running_mean(curve: Curve, step: int) -> float | None:
    """Return the mean of the first `step` steps; None if one of them is missing."""
    values = curve.values[:step]
    complete = (
        0 < step == len(values) and curve.steps[step - 1] == step and np.isfinite(values).all()
    )
    return float(values.mean()) if complete else None


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
    problems: list[Problem] = []
    unknown: dict[str, list[str]] = {}
    for metric, values in reported.items():
        if metric.removesuffix(RUNNING_MEAN) not in keys:
            message = f"'{metric}' is not recorded. {suggest(metric, keys)}"
            problems.append(Problem("reported", message))
        for name in values:
            if not any(name == known or name.startswith(f"{known} ") for known in optimizers):
                unknown.setdefault(name, []).append(metric)
        if metric.endswith(RUNNING_MEAN):
            problems += _running_mean_problems(metric, values)
    for name, seconds in reported.get(SECONDS, {}).items():
        if not isinstance(seconds, float):
            message = "must be one time in seconds, of a run or of an epoch."
            problems.append(Problem(f"reported.{SECONDS}.{name}", message))
        elif seconds <= 0:
            message = f"{seconds:g}: must be above 0, the time of a run or of an epoch; "
            message += "leave out a time that was not published."
            problems.append(Problem(f"reported.{SECONDS}.{name}", message))
    for name, (first, *others) in unknown.items():
        also = f", here and in {', '.join(others)}" if others else ""
        message = f"'{name}' does not begin with an optimizer of this study{also}. "
        message += f"{suggest(name, optimizers)} To leave out all published values: reported: {{}}."
        problems.append(Problem(f"reported.{first}", message))
    return problems


def _running_mean_problems(metric: str, values: Mapping[str, object]) -> Iterator[Problem]:
    """Yield the problems of means over all steps so far: only metrics of batches have them."""
    base = MetricName.parse(metric.removesuffix(RUNNING_MEAN))
    if not base.of_batches or base.epoch_mean:
        message = "must be the running mean of a metric of each step, such as "
        message += f"train_loss{RUNNING_MEAN}."
        yield Problem(f"reported.{metric}", message)
    for name, value in values.items():
        if not isinstance(value, Mapping):
            message = "needs the epoch or step of each value, such as {epochs: {1: 2.1}}"
            yield Problem(f"reported.{metric}.{name}", message)
