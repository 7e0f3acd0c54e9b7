"""Times the training steps of single runs that take turns.

Times of stacked runs say nothing about one optimizer, and timing one optimizer after the other also
measures how busy the machine is meanwhile. Here every run trains alone in its turn and has one turn
in every round; the order changes from round to round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from optrial.engine import Learner, timed_steps
from optrial.errors import USER_CODE_ERRORS, one_line
from optrial.spec import RunFacts

__all__ = ["StepTimes", "time_steps"]

_WARM_UP_CHUNKS = 2
"""Chunks of steps before the first turn; the last one determines the length of a turn."""

_UNTIMED_STEPS = 2
"""Steps at the beginning of a turn that refill the caches."""


@dataclass(frozen=True)
class StepTimes:
    """Step times of one run.

    Attributes:
        seconds: mean time of a step, one value per round.
        first_step: time of the first step, which also allocates and may compile.
        threads: number of threads.
        device: device as PyTorch names it.
        implementation: code that updates the parameters.
        diverged: whether the run diverged, perhaps repeatedly, and was restarted.
        error: why the run could not be timed, in which case `seconds` is meaningless; or "".
    """

    seconds: tuple[float, ...]
    first_step: float
    threads: int
    device: str
    implementation: str
    diverged: bool = False
    error: str = ""


def time_steps(
    builders: Sequence[Callable[[], Learner]],
    rounds: int,
    *,
    turn_seconds: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> list[StepTimes]:
    """Time the training steps of some runs, each alone in its turn.

    A turn lasts at least `turn_seconds` and at least one chunk of the learner, so that it includes
    work that an optimizer does only every few steps. Pending work of the device is waited for
    before and after a turn.

    Args:
        builders: each returns a fresh learner of one run. All learners are kept in memory.
        rounds: number of turns of each run; the order within a round is random but reproducible.
        turn_seconds: least length of a turn.
        clock: returns the time in seconds.
        progress: called before each turn with the number of turns taken and their total.
    """
    contenders = [_Contender(build, clock) for build in builders]
    total = len(contenders) * (rounds + 1)
    order = np.random.default_rng(0)
    for done, contender in enumerate(contenders):
        progress(done, total)
        contender.attempt(partial(contender.warm_up, turn_seconds))
    for round_ in range(1, rounds + 1):
        for place, index in enumerate(order.permutation(len(contenders)).tolist()):
            progress(round_ * len(contenders) + place, total)
            contenders[index].attempt(contenders[index].turn)
    progress(total, total)
    return [contender.result() for contender in contenders]


class _Contender:
    """A run and its step times so far."""

    def __init__(self, build: Callable[[], Learner], clock: Callable[[], float]) -> None:
        self._build = build
        self._clock = clock
        self._learner: Learner | None = None
        self._chunks_per_turn = 1
        self._first_step = math.nan
        self._seconds: list[float] = []
        self._diverged = False
        self._error = ""

    def attempt(self, part: Callable[[], None]) -> None:
        """Do a part of the measurement unless an earlier one failed; the other runs go on."""
        if self._error:
            return
        try:
            part()
        except USER_CODE_ERRORS as error:
            self._error = one_line(error)
            self._learner = None

    def warm_up(self, turn_seconds: float) -> None:
        """Build the learner, let it compile and allocate, and fix the length of a turn."""
        learner = self._fresh()
        self._first_step = self._timed(1, 1)
        seconds = [self._timed(1, learner.chunk) for _ in range(_WARM_UP_CHUNKS)][-1]
        self._chunks_per_turn = max(1, math.ceil(turn_seconds / max(seconds * learner.chunk, 1e-9)))

    def turn(self) -> None:
        """Take one turn."""
        assert self._learner is not None
        self._timed(1, _UNTIMED_STEPS)
        self._seconds.append(self._timed(self._chunks_per_turn, self._learner.chunk))

    def result(self) -> StepTimes:
        """Return the step times."""
        learner = self._learner
        facts = learner.facts | learner.run_facts[0] if learner else RunFacts()
        return StepTimes(
            seconds=tuple(self._seconds),
            first_step=self._first_step,
            threads=(learner and learner.threads) or torch.get_num_threads(),
            device=facts.device or "",
            implementation=facts.implementation or "",
            diverged=self._diverged,
            error=self._error,
        )

    def _fresh(self) -> Learner:
        self._learner = self._build()
        self._learner.start(1)
        return self._learner

    def _timed(self, chunks: int, chunk: int) -> float:
        """Take steps and return the seconds of one; restart a run that diverged."""
        assert self._learner is not None
        seconds, diverged = timed_steps(self._learner, self._clock, chunk, chunks)
        if diverged:
            self._diverged = True
            self._fresh()
        return seconds
