"""From what was planned to what is used: how many runs of each optimizer came how far."""

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
    """How far the runs of one optimizer came, in one phase of the study.

    Attributes:
        optimizer: name of the study's entry.
        phase: "tune" for the trials that choose a setting, "report" for results.
        settings: number of settings.
        planned: number of runs.
        run: how many of these have ended, well or not.
        used: how many ended well: only these have numbers that count.
        diverged: how many diverged; that counts as worse than any number.
        error: how many could not be trained.
        chosen: the setting that tuning chose, in the report of a study that tunes.
        at_edge: the hyperparameters whose chosen value is the least or greatest that was tried.
    """

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
    """Count the runs of each optimizer by phase, in the order of the plan, trials first."""
    groups: dict[tuple[str, Literal["tune", "report"]], list[Record]] = {}
    for record in records:
        groups.setdefault((record.optimizer, record.phase), []).append(record)
    flows = []
    for optimizer in dict.fromkeys(optimizer for optimizer, _ in groups):
        trials = groups.get((optimizer, "tune"), [])
        reported = groups.get((optimizer, "report"), [])
        if trials:
            flows.append(_flow(trials, "", ()))
        if reported:
            chosen = reported[0].setting if trials else ""
            flows.append(_flow(reported, chosen, _at_edge(reported[0], trials)))
    return flows


def _flow(records: Sequence[Record], chosen: str, at_edge: tuple[str, ...]) -> Flow:
    statuses = [record.status for record in records]
    return Flow(
        optimizer=records[0].optimizer,
        phase=records[0].phase,
        settings=len({record.setting for record in records}),
        planned=len(records),
        run=sum(status in ENDED for status in statuses),
        used=statuses.count(Status.DONE),
        diverged=statuses.count(Status.DIVERGED),
        error=statuses.count(Status.ERROR),
        chosen=chosen,
        at_edge=at_edge,
    )


def _at_edge(chosen: Record, trials: Sequence[Record]) -> tuple[str, ...]:
    found = []
    for name, value in _numbers(chosen).items():
        tried = [numbers[name] for numbers in map(_numbers, trials) if name in numbers]
        if len(set(tried)) > 1 and value in (min(tried), max(tried)):
            found.append(name)
    return tuple(found)


def _numbers(record: Record) -> dict[str, float]:
    """The numbers that an optimizer is set by."""
    given = hyperparameters(record).items()
    numbers = {k: v for k, v in given if isinstance(v, int | float)}
    return {k: v for k, v in numbers.items() if not isinstance(v, bool)}
