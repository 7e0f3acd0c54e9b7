"""Planned, started and completed runs per optimizer and phase."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from optrial.analysis.contenders import hyperparameters
from optrial.records import Record
from optrial.spec import ENDED, Status

__all__ = ["Flow", "funnel"]


@dataclass(frozen=True)
class Flow:
    """Number of runs of one optimizer in one phase, by outcome.

    Attributes:
        problem: name of the problem.
        optimizer: name of the optimizer.
        phase: "tune" for the trials that choose a setting, "report" for results.
        settings: number of settings.
        planned: number of runs.
        run: number of runs that have ended, with or without a result.
        used: number of finished runs; only these have final values.
        diverged: number of runs that diverged, which counts as worse than any value.
        error: number of runs that could not be trained.
        chosen: the setting that tuning chose; only in the phase "report" of a study that tunes.
        at_edge: hyperparameters whose chosen value is the lowest or highest that was tried.
    """

    problem: str
    optimizer: str
    phase: Literal["tune", "report"]
    settings: int
    planned: int
    run: int
    used: int
    diverged: int
    error: int
    chosen: str
    at_edge: tuple[str, ...]


def funnel(records: Iterable[Record]) -> list[Flow]:
    """Count the runs of each problem and optimizer by phase, in the order of the plan."""
    groups: dict[tuple[str, str, Literal["tune", "report"]], list[Record]] = {}
    for record in records:
        groups.setdefault((record.problem, record.optimizer, record.phase), []).append(record)
    flows = []
    for problem, optimizer in dict.fromkeys(key[:2] for key in groups):
        trials = groups.get((problem, optimizer, "tune"), [])
        reported = groups.get((problem, optimizer, "report"), [])
        if trials:
            flows.append(_flow(trials, "", ()))
        if reported:
            chosen = reported[0].setting if trials else ""
            flows.append(_flow(reported, chosen, _at_edge(reported[0], trials)))
    return flows


def _flow(records: Sequence[Record], chosen: str, at_edge: tuple[str, ...]) -> Flow:
    statuses = [record.status for record in records]
    return Flow(
        problem=records[0].problem,
        optimizer=records[0].optimizer,
        phase=records[0].phase,
        settings=len({record.setting_id for record in records}),
        planned=len(records),
        run=sum(status in ENDED for status in statuses),
        used=statuses.count(Status.DONE),
        diverged=statuses.count(Status.DIVERGED),
        error=statuses.count(Status.ERROR),
        chosen=chosen,
        at_edge=at_edge,
    )


def _at_edge(chosen: Record, trials: Sequence[Record]) -> tuple[str, ...]:
    names = []
    for name, value in _numbers(chosen).items():
        tried = [numbers[name] for numbers in map(_numbers, trials) if name in numbers]
        if len(set(tried)) > 1 and value in (min(tried), max(tried)):
            names.append(name)
    return tuple(names)


def _numbers(record: Record) -> dict[str, float]:
    """Return the hyperparameters that are numbers."""
    return {
        name: value
        for name, value in hyperparameters(record).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
