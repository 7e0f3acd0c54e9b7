"""Reports of the training of a stack to the driver, in plain values."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from optrial.records import Segment

__all__ = [
    "Arrays",
    "Commit",
    "Died",
    "Ended",
    "Failure",
    "Hung",
    "Note",
    "Stepped",
    "Update",
    "merged_steps",
]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Stepped:
    """The training has paused after a step.

    Attributes:
        step: number of steps taken.
        count: number of steps since the last such update, summed over runs.
    """

    step: int
    count: int


@dataclass(frozen=True)
class Commit:
    """Progress to store in one transaction. The training waits until it is stored.

    Attributes:
        segments: new part of each run's record.
        checkpoint: arrays from which the training continues; None if every run has ended.
        weights: weights to save, by run id and name.
    """

    segments: Sequence[Segment]
    checkpoint: Arrays | None
    weights: Mapping[str, Arrays] = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """A message for the user, shown once per study.

    Attributes:
        text: the message.
        of_user_code: whether it is what user code printed in another process.
    """

    text: str
    of_user_code: bool = False


@dataclass(frozen=True)
class Failure:
    """Cause of the early end of a training.

    Attributes:
        reason: reason for the record of a run.
        memory_ran_out: whether memory ran out.
        timed_out: whether it took too long.
        hung: whether a single step did, perhaps because of one run.
    """

    reason: str
    memory_ran_out: bool = False
    timed_out: bool = False
    hung: bool = False


@dataclass(frozen=True)
class Hung:
    """A step exceeds the time limit and cannot be interrupted."""

    reason: str


@dataclass(frozen=True)
class Died:
    """The last update of a stack whose process has died.

    Attributes:
        reason: how it ended.
        blames_stack: whether the stack may be the cause.
    """

    reason: str
    blames_stack: bool = True


@dataclass(frozen=True)
class Ended:
    """The last update of a stack: it is done, was stopped, or failed."""

    failure: Failure | None = None


Update: TypeAlias = Stepped | Commit | Note | Hung | Died | Ended


def merged_steps(updates: Iterator[Update], seconds: float) -> Iterator[Update]:
    """Merge reports of steps, which are costly between processes.

    Args:
        updates: updates of a stack.
        seconds: least time between two reports of steps, unless another update follows.
    """
    step = count = 0
    reported_at = 0.0
    for update in updates:
        if isinstance(update, Stepped):
            step, count = update.step, count + update.count
            if time.monotonic() - reported_at < seconds:
                continue
        if count:
            yield Stepped(step, count)
            count, reported_at = 0, time.monotonic()
        if not isinstance(update, Stepped):
            yield update
        del update  # or else a checkpoint would take memory until the next one
