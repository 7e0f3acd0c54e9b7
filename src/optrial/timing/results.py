"""Step times of optimizers timed alone: quartiles, ratios, and the file that keeps them.

Seconds belong to the machine on which they were measured. Ratios of two optimizers at the same
batch size and model carry over to other machines; every round of the measurement gives one.
Published times come from yet another machine, so they too are compared as ratios.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from optrial.analysis.reported import names_setting
from optrial.errors import OptrialError, StoreError
from optrial.files import write_whole

__all__ = [
    "ENGINE",
    "Quartiles",
    "ReportedTime",
    "SettingTiming",
    "StudyTiming",
    "read_timing",
    "reported_times",
    "write_timing",
]

ENGINE = "engine"
"""Condition that names the engine, where several were timed."""

_FORMAT = 1
"""Version of the file; raised when an existing key changes its meaning."""


@dataclass(frozen=True)
class Quartiles:
    """Median and middle half of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Quartiles:
        """Return the quartiles of at least one value, interpolated linearly."""
        low, median, high = np.quantile(list(values), (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)

    def times(self, factor: float) -> Quartiles:
        """Return the quartiles of the values multiplied by a positive factor."""
        return Quartiles(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class SettingTiming:
    """One optimizer at one batch size with one model, timed alone.

    Attributes:
        optimizer: name of the entry in the study.
        setting: hyperparameters that vary and can change the time of a step; "" if none do.
        conditions: batch size and model arguments, by name.
        steps: the study's budget.
        engine: "reference", "stacked", "compiled" (stacked, with a compiled step) or "numpy".
        implementation: code that updates the parameters.
        threads: number of threads.
        first_step_seconds: time of the first step, which also allocates and may compile.
        step_seconds: mean time of a step, one value per round.
        memory_bytes: peak memory, defined by `StudyTiming.memory`; None if not measured.
        stands_for: settings whose steps take the same time, written as in every other table.
        steps_per_epoch: steps of an epoch; 0 if an earlier version timed it.
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
    steps_per_epoch: int = 0

    @property
    def epoch(self) -> Quartiles | None:
        """Seconds of training per epoch; None if its steps are not known."""
        return self.step.times(self.steps_per_epoch) if self.steps_per_epoch else None

    @property
    def step(self) -> Quartiles:
        """Seconds per step over the rounds."""
        return Quartiles.of(self.step_seconds)

    @property
    def run(self) -> Quartiles:
        """Extrapolated seconds to train a whole run, without evaluation and the first step."""
        return self.step.times(self.steps)


@dataclass(frozen=True)
class StudyTiming:
    """Step times of every optimizer of a study, each timed alone.

    Attributes:
        study: name of the study.
        engine: engine that was asked for.
        device: "cpu" or "cuda:0", ...
        precision: floating-point type.
        rounds: number of turns of each setting.
        machine: processors, load and versions of the machine.
        memory: what `SettingTiming.memory_bytes` counts; "" if it was not measured.
        settings: timed settings, by batch size and model, then in the order of the study.
        notes: remarks for the reader.
        failures: settings that could not be timed, with the reason.
        reported_seconds: published time of a run or an epoch, by the name of a setting.
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
        """Name of the study's first optimizer, the reference of `to_first`."""
        return self.settings[0].optimizer

    def to_first(self, timing: SettingTiming) -> Quartiles | None:
        """Return the ratio of a setting's step time to that of the study's first optimizer.

        Both have the same batch size and model; None if the first optimizer has no such setting.
        """
        peers = (peer for peer in self._peers(timing) if peer.optimizer == self.first)
        first = next(peers, None)
        return None if first is None else _ratio(timing, first)

    def to_fastest(self, timing: SettingTiming) -> Quartiles:
        """Return the ratio of a setting's step time to the fastest with its batch size and model.

        The fastest setting has the smallest median ratio within the rounds.
        """
        peers = self._peers(timing)
        fastest = min(peers, key=lambda peer: _ratio(peer, peers[0]).median)
        return _ratio(timing, fastest)

    def to_first_engine(self, timing: SettingTiming) -> Quartiles | None:
        """Return the ratio of a setting's step time to its step time in the first engine.

        None if one engine was timed, or the first one lacks the setting.
        """
        engines = [entry.conditions.get(ENGINE) for entry in self.settings]
        same = {**timing.conditions, ENGINE: engines[0]}
        for entry in self.settings if engines[0] else ():
            names = entry.optimizer == timing.optimizer and entry.setting == timing.setting
            if names and dict(entry.conditions) == same:
                return _ratio(timing, entry)
        return None

    def named(self, name: str) -> SettingTiming | None:
        """Return the timing that a name refers to; None unless exactly one fits.

        Args:
            name: an optimizer and values that select its setting, such as ``adam batch_size=16``.
        """
        matches = [
            timing
            for timing in self.settings
            if any(names_setting(name, timing.optimizer, setting) for setting in timing.stands_for)
        ]
        return matches[0] if len(matches) == 1 else None

    def shown_conditions(self, timing: SettingTiming) -> dict[str, Any]:
        """Return the conditions of a setting that differ between settings."""
        shown = {name: value for name, value in timing.conditions.items() if self._varies(name)}
        return {name: tuple(v) if isinstance(v, list) else v for name, v in shown.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values, with medians, quartiles and ratios."""
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
                "name": time.name,
                "reported": time.reported,
                "measured": time.measured and asdict(time.measured),
                "measured_to_reported": time.quotient and asdict(time.quotient),
            }
            for time in reported_times(self.reported_seconds, self)
        ]
        fields = {"format": _FORMAT, **asdict(self), "first": self.first}
        return fields | {"settings": settings, "reported_times": times}

    def as_json(self) -> str:
        """Return `as_dict` as the text of a file."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, content: object) -> StudyTiming:
        """Return the timing that `as_dict` turned into `content`, possibly by way of JSON.

        Raises:
            ValueError: it is no timing, or has another format.
        """
        version = content.get("format") if isinstance(content, dict) else None
        if version != _FORMAT:
            raise ValueError(f"its format is {version!r}, not {_FORMAT}")
        return TypeAdapter(cls).validate_python(content)

    def _peers(self, timing: SettingTiming) -> list[SettingTiming]:
        return [peer for peer in self.settings if peer.conditions == timing.conditions]

    def _varies(self, name: str) -> bool:
        return len({repr(timing.conditions.get(name)) for timing in self.settings}) > 1


@dataclass(frozen=True)
class ReportedTime:
    """A published and a measured time, as ratios to those of the first published name.

    Attributes:
        name: name of the setting in the study.
        reported: published ratio.
        measured: measured ratio of whole runs (steps x time of a step) over the rounds; None if
            this name or the first one does not select exactly one timing.
        timing: timing that the name selects; None unless there is exactly one.
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
    """Return every published time with its measured counterpart, in the order of the study.

    Args:
        seconds: positive time of a run or an epoch, by the name of a setting.
        timing: None if nothing was timed.
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
    """Read a file written by `write_timing`.

    Raises:
        StoreError: the file is missing or holds no timing.
    """
    try:
        return StudyTiming.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        message = f"'{path}' holds no timing ({_reason(error)}); to write it: optrial timing STUDY."
        raise StoreError(message) from error


def write_timing(timing: StudyTiming, path: Path) -> None:
    """Write a timing as JSON; an existing file is replaced.

    Raises:
        OptrialError: the file cannot be written.
    """
    try:
        write_whole(path, timing.as_json())
    except OSError as error:
        raise OptrialError(f"'{path}' cannot be written: {error.strerror}.") from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _ratio(timing: SettingTiming, base: SettingTiming) -> Quartiles:
    """Compare round by round, so that both share the state of the machine."""
    pairs = zip(timing.step_seconds, base.step_seconds, strict=True)
    return Quartiles.of(seconds / base_seconds for seconds, base_seconds in pairs)


def _run_ratio(timing: SettingTiming | None, base: SettingTiming | None) -> Quartiles | None:
    """Compare whole runs, whose numbers of steps differ if their batch sizes do."""
    if timing is None or base is None or not base.steps:
        return None
    return _ratio(timing, base).times(timing.steps / base.steps)
