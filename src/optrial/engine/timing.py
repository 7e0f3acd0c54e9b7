"""Measures how long a training step takes: each run by itself, in turns with others.

Times of stacked runs say nothing of one optimizer, and times taken one optimizer after the other
also say how busy the machine was meanwhile. Here every run is alone in its turn, and in every round
each has one, in a new order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from optrial.engine.process import process_for
from optrial.engine.training import Learner
from optrial.errors import USER_CODE_ERRORS, one_line

__all__ = ["StepTimes", "time_steps"]

_WARM_UP_CHUNKS = 2
"""Of steps before anything counts; the last says how many make a turn."""

_UNTIMED_STEPS = 2
"""At the beginning of a turn, after which caches hold again what they hold in a run."""


@dataclass(frozen=True)
class StepTimes:
    """What was measured of one run.

    Attributes:
        seconds: of a step, one value a round: the mean over the steps of that turn.
        first_step: seconds of the first step, which also allocates and, if compiled, compiles.
        threads: how many trained it.
        device: where, as PyTorch names it.
        implementation: whose code updates the parameters.
        diverged: whether it diverged and was begun anew, perhaps many times.
        error: why it could not be timed; then `seconds` counts for nothing.
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
    told: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> list[StepTimes]:
    """Time the training steps of some runs, each alone in its turn.

    A turn is as many steps as last `turn_seconds`, and at least one chunk of the learner, so that
    what an optimizer does every few steps is in it. The device is waited for at both ends.

    Args:
        builders: of fresh learners of one run each. All learners are kept at the same time.
        rounds: how many turns each has; within a round in a random order, the same every time.
        turn_seconds: least length of a turn.
        clock: gives seconds.
        told: called before each turn with how many were taken, and how many there will be.
    """
    contenders = [_Contender(build, clock) for build in builders]
    total = len(contenders) * (rounds + 1)
    order = np.random.default_rng(0)
    for done, contender in enumerate(contenders):
        told(done, total)
        contender.attempt(partial(contender.warm_up, turn_seconds))
    for round_ in range(1, rounds + 1):
        for place, index in enumerate(order.permutation(len(contenders)).tolist()):
            told(round_ * len(contenders) + place, total)
            contenders[index].attempt(contenders[index].turn)
    told(total, total)
    return [contender.result() for contender in contenders]


class _Contender:
    """A run under way, and its times so far."""

    def __init__(self, build: Callable[[], Learner], clock: Callable[[], float]) -> None:
        self._build = build
        self._clock = clock
        self._learner: Learner | None = None
        self._chunks = 1  # in a turn
        self._first_step = math.nan
        self._seconds: list[float] = []
        self._diverged = False
        self._error = ""

    def attempt(self, part: Callable[[], None]) -> None:
        """Do a part of the measurement, unless one failed: the others go on."""
        if self._error:
            return
        try:
            part()
        except USER_CODE_ERRORS as error:  # whatever an optimizer of the user's raises
            self._error = one_line(error)
            self._learner = None

    def warm_up(self, turn_seconds: float) -> None:
        """Build the learner, let it compile and allocate, and find out how long a turn is."""
        learner = self._fresh()
        self._first_step = self._timed(1, 1)
        seconds = [self._timed(1, learner.chunk) for _ in range(_WARM_UP_CHUNKS)][-1]
        self._chunks = max(1, math.ceil(turn_seconds / max(seconds * learner.chunk, 1e-9)))

    def turn(self) -> None:
        """Take one turn."""
        assert self._learner is not None
        self._timed(1, _UNTIMED_STEPS)
        self._seconds.append(self._timed(self._chunks, self._learner.chunk))

    def result(self) -> StepTimes:
        """Return what was measured."""
        facts = self._learner.facts if self._learner else {}
        own = self._learner.run_facts[0] if self._learner else {}
        return StepTimes(
            seconds=tuple(self._seconds),
            first_step=self._first_step,
            threads=(self._learner and self._learner.threads) or torch.get_num_threads(),
            device=facts.get("device", ""),
            implementation=facts.get("implementation") or own.get("implementation", ""),
            diverged=self._diverged,
            error=self._error,
        )

    def _fresh(self) -> Learner:
        self._learner = self._build()
        self._learner.start(1)
        return self._learner

    def _timed(self, chunks: int, chunk: int) -> float:
        """Take steps and return the seconds of one; a run that diverges begins anew afterwards."""
        assert self._learner is not None
        taken, diverged = 0, False
        with process_for(self._learner):
            self._wait()
            started = self._clock()
            for _ in range(chunks):
                taken_now = len(self._learner.advance(chunk).losses)
                taken += taken_now
                if diverged := taken_now < chunk:
                    break
            self._wait()
            seconds = self._clock() - started
        if diverged:
            self._diverged = True
            self._fresh()
        return seconds / taken

    def _wait(self) -> None:
        """Let a device finish what it was given; the CPU has."""
        assert self._learner is not None
        if str(self._learner.facts.get("device", "")).startswith("cuda"):
            torch.cuda.synchronize()
