"""Step times of optimizers that were measured alone: quartiles, ratios, and the file that has them.

Seconds belong to the machine they were measured on; what can be compared between machines is the
ratio of two optimizers at the same batch size and model, of which every round gives one. So can
published times, which are of yet another machine: as ratios to the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from optrial.analysis.reported import tells
from optrial.errors import StoreError

__all__ = [
    "Quartiles",
    "ReportedTime",
    "SettingTiming",
    "StudyTiming",
    "read_timing",
    "reported_times",
]

_FORMAT = 1
"""Raised when the same keys of the file come to mean something else."""


@dataclass(frozen=True)
class Quartiles:
    """The middle of some values, and between which two their middle half lies."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quartiles:
        """Return the quartiles of at least one value, interpolated linearly."""
        low, median, high = np.quantile(list(values), (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)

    def times(self, factor: float) -> Quartiles:
        """Return the quartiles of the values, each multiplied by a positive factor."""
        return Quartiles(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class SettingTiming:
    """One optimizer at one batch size with one model, timed alone.

    Attributes:
        optimizer: name of the entry in the study.
        setting: its own values that vary and could change the time of a step; "" if none do.
        conditions: batch size and arguments of the model, by name.
        steps: the study's budget.
        engine: "reference", "stacked", "compiled" (stacked, its step compiled) or "numpy".
        implementation: whose code updates the parameters.
        threads: how many trained it.
        first_step_seconds: of the first step, which also allocates and, if compiled, compiles.
        step_seconds: of a step, one value a round: the mean over the steps of that turn.
        memory_bytes: at its peak, as `StudyTiming.memory` says; None where it was not measured.
        stands_for: the settings whose steps take as long, as every other table writes them.
    """

    optimizer: str
    setting: str
    conditions: Mapping[str, Any]
    steps: int
    engine: str
    implementation: str
    threads: int
    first_step_seconds: float
    step_seconds: tuple[float, ...]
    memory_bytes: int | None = None
    stands_for: tuple[str, ...] = ()

    @property
    def step(self) -> Quartiles:
        """Seconds of a step, over the rounds."""
        return Quartiles.of(self.step_seconds)

    @property
    def run(self) -> Quartiles:
        """Seconds of training a whole run, extrapolated; without evaluation and first step."""
        return self.step.times(self.steps)


@dataclass(frozen=True)
class StudyTiming:
    """Every optimizer of a study, each timed alone, in turns.

    Attributes:
        study: its name.
        engine: which engine was asked for.
        device: "cpu" or "cuda:0", ...
        precision: floating-point type.
        rounds: how many turns each setting had.
        machine: what a reader needs to judge the seconds: processors, load, versions.
        memory: what `memory_bytes` counts; "" where it was not measured.
        settings: what was timed, by batch size and model, then in the order of the study.
        notes: what the reader should know.
        failures: what could not be timed, and why.
        reported_seconds: published times of a run or of an epoch, by name of a setting.
    """

    study: str
    engine: str
    device: str
    precision: str
    rounds: int
    machine: Mapping[str, Any]
    memory: str
    settings: tuple[SettingTiming, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    reported_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """Name of the optimizer that `to_first` compares with: the study's first."""
        return self.settings[0].optimizer

    def to_first(self, timing: SettingTiming) -> Quartiles | None:
        """Return how many times as long a step takes as one of the study's first optimizer.

        At the same batch size and model; None where the first optimizer has no such setting.
        """
        peers = (each for each in self._peers(timing) if each.optimizer == self.first)
        first = next(peers, None)
        return None if first is None else _ratio(timing, first)

    def to_fastest(self, timing: SettingTiming) -> Quartiles:
        """Return how many times as long a step takes as that of the fastest optimizer.

        At the same batch size and model; the fastest is the one that is so within the rounds.
        """
        peers = self._peers(timing)
        fastest = min(peers, key=lambda each: _ratio(each, peers[0]).median)
        return _ratio(timing, fastest)

    def named(self, name: str) -> SettingTiming | None:
        """Return what was timed for the settings that a name tells; None if that is not one thing.

        Args:
            name: an optimizer, followed by what tells its setting: ``adam batch_size=16``.
        """
        found = [
            each
            for each in self.settings
            if any(tells(name, each.optimizer, setting) for setting in each.stands_for)
        ]
        return found[0] if len(found) == 1 else None

    def shown_conditions(self, timing: SettingTiming) -> dict[str, Any]:
        """Return those of a setting's conditions that are not the same in all settings."""
        shown = {name: value for name, value in timing.conditions.items() if self._varies(name)}
        return {name: tuple(v) if isinstance(v, list) else v for name, v in shown.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it, medians, quartiles and ratios included."""
        settings = [
            asdict(timing)
            | {
                "step": asdict(timing.step),
                "run": asdict(timing.run),
                "to_first": (to_first := self.to_first(timing)) and asdict(to_first),
                "to_fastest": asdict(self.to_fastest(timing)),
            }
            for timing in self.settings
        ]
        times = [
            {
                "name": each.name,
                "reported": each.reported,
                "measured": each.measured and asdict(each.measured),
                "measured_to_reported": each.quotient and asdict(each.quotient),
            }
            for each in reported_times(self.reported_seconds, self)
        ]
        own = {"format": _FORMAT, **asdict(self), "first": self.first}
        return own | {"settings": settings, "reported_times": times}

    def as_json(self) -> str:
        """Return `as_dict` as text of a file in UTF-8."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> StudyTiming:
        """Return the timing whose `as_dict` this is, perhaps by way of JSON.

        Raises:
            KeyError, TypeError, ValueError: it is not one.
        """
        if found["format"] != _FORMAT:
            raise ValueError(f"format {found['format']!r} is not {_FORMAT}")
        settings = tuple(
            SettingTiming(**_own(SettingTiming, each, "step_seconds", "stands_for"))
            for each in found["settings"]
        )
        own = _own(cls, found, "notes", "failures")
        return cls(**own | {"settings": settings})

    def _peers(self, timing: SettingTiming) -> list[SettingTiming]:
        return [each for each in self.settings if each.conditions == timing.conditions]

    def _varies(self, name: str) -> bool:
        return len({repr(each.conditions.get(name)) for each in self.settings}) > 1


@dataclass(frozen=True)
class ReportedTime:
    """A published time and a measured one, each as a ratio to that of the first named setting.

    Attributes:
        name: of the setting, as the study writes it.
        reported: the published ratio.
        measured: that of whole runs, steps times the time of a step, over the rounds; None where
            the name, or the first one, tells not one thing that was timed.
        timing: what was timed for the name; None where that is not one thing.
    """

    name: str
    reported: float
    measured: Quartiles | None
    timing: SettingTiming | None

    @property
    def quotient(self) -> Quartiles | None:
        """The measured ratio divided by the published one."""
        return self.measured and self.measured.times(1 / self.reported)


def reported_times(seconds: Mapping[str, float], timing: StudyTiming | None) -> list[ReportedTime]:
    """Return every published time with what was measured, in the order of the study.

    Args:
        seconds: of a run, or of an epoch, by name of a setting; above 0.
        timing: None where nothing was timed.
    """
    timed = {name: timing.named(name) if timing else None for name in seconds}
    first = next(iter(seconds), "")
    return [
        ReportedTime(
            name, value / seconds[first], _run_ratio(timed[name], timed[first]), timed[name]
        )
        for name, value in seconds.items()
    ]


def read_timing(path: Path) -> StudyTiming:
    """Read what `optrial timing` wrote.

    Raises:
        StoreError: there is no such file, or it is another one.
    """
    try:
        return StudyTiming.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"'{path}' holds no timing ({reason}); to write it: optrial timing STUDY."
        raise StoreError(message) from error


def _ratio(timing: SettingTiming, base: SettingTiming) -> Quartiles:
    """Compare within each round, where both met the same state of the machine."""
    pairs = zip(timing.step_seconds, base.step_seconds, strict=True)
    return Quartiles.of(own / other for own, other in pairs)


def _run_ratio(timing: SettingTiming | None, base: SettingTiming | None) -> Quartiles | None:
    """Compare whole runs, whose numbers of steps differ where their batch sizes do."""
    if timing is None or base is None:
        return None
    return _ratio(timing, base).times(timing.steps / base.steps)


def _own(kind: Any, found: Mapping[str, Any], *tuples: str) -> dict[str, Any]:
    """Return the fields of a dataclass among what was found, lists as tuples where so wanted."""
    own = {name: found[name] for name in kind.__dataclass_fields__ if name in found}
    return own | {name: tuple(own[name]) for name in tuples if name in own}
