"""Times a few steps of candidate stacks, to choose the fastest way to train them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from optrial.data import Dataset
from optrial.engine.learner import Learner
from optrial.engine.process import (
    has_fixed_threads,
    process_for,
    release_memory,
    threads_for,
)
from optrial.engine.select.busy import LEAST_CPU_SHARE, Clocks, cpu_share, share_of_products
from optrial.engine.select.speeds import Measured, Speeds
from optrial.plan import estimate
from optrial.spec import RunSpec

__all__ = [
    "Build",
    "Candidate",
    "KeptTimes",
    "ModelledTimes",
    "NotKeptError",
    "StepTime",
    "StepTimer",
    "Times",
    "Trial",
    "least_seconds",
    "most_seconds",
    "take_turns",
    "timed_steps",
]

_TIMED_SECONDS, _TIMED_TURNS = 0.15, 3  # at least, if there is time
_COMPARED_TURNS = 7  # if several candidates are compared
_LEAST_STEPS = 3  # that timing takes: the first one often takes as long as two
_MOST_OF_TRAINING, _ALWAYS_SECONDS = 0.1, 2.0

Build = Callable[[str, Sequence[RunSpec]], Learner]
"""Returns a fresh learner of the runs of a stack for an engine."""

Candidate = tuple[str, Sequence[RunSpec]]
"""An engine and the stack that it would train."""


class StepTime(NamedTuple):
    """Speed of a candidate.

    Attributes:
        seconds: seconds per run and step.
        first_step: seconds of the first step, which may compile.
    """

    seconds: float
    first_step: float


class Times(Protocol):
    """Speeds of candidates, wherever they come from.

    Attributes:
        modelled: True if they are computed, not measured.
    """

    modelled: bool

    @property
    def busy(self) -> bool:
        """True if another program used the processor during a measurement."""

    @property
    def spent(self) -> float:
        """Seconds that measurements have taken."""

    def are_known(self, *candidates: Candidate) -> bool:
        """Return whether `times` takes no step."""

    def times(self, *candidates: Candidate, within: float = math.inf) -> list[StepTime]:
        """Return the speeds of candidates, to be compared with each other.

        Args:
            candidates: the candidates.
            within: seconds after which no more turns are taken; each candidate has one at least.
        """


class NotKeptError(Exception):
    """No speed of a candidate is kept."""


class StepTimer:
    """Times steps of candidates, or returns what the cache of this machine has.

    Args:
        build: returns a learner of a candidate.
        dataset: training data of all runs.
        place: device on which they are trained.
        clocks: clocks of the measurement.

    Attributes:
        spent: seconds that measurements have taken.
    """

    modelled = False

    def __init__(self, build: Build, dataset: Dataset, place: torch.device, clocks: Clocks) -> None:
        self._build = build
        self._dataset = dataset
        self._clocks = clocks
        self._on_cuda = place.type == "cuda"
        self._speeds = Speeds(place)
        self._share = 1.0  # of the last measurement
        self.spent = 0.0

    @property
    def busy(self) -> bool:
        """True if another program used the processor during a measurement."""
        return self._speeds.busy

    def are_known(self, *candidates: Candidate) -> bool:
        """Return whether the speeds of candidates are kept."""
        return self._kept(*candidates) is not None

    def times(self, *candidates: Candidate, within: float = math.inf) -> list[StepTime]:
        """Return the speeds of candidates, timed side by side; see `Times`."""
        keys = [self._key(*candidate) for candidate in candidates]
        started = self._clocks.wall()
        try:
            measured = self._speeds.measured(keys, lambda: self._measure(candidates, within))
        finally:
            release_memory()  # of learners that were built to be timed
            self.spent += self._clocks.wall() - started
        return _in_pairs(measured)

    def kept_times(self, *candidates: Candidate) -> list[StepTime]:
        """Return kept speeds of candidates.

        Raises:
            NotKeptError: there are none.
        """
        seconds = self._kept(*candidates)
        if seconds is None:
            raise NotKeptError
        return _in_pairs(seconds)

    def _kept(self, *candidates: Candidate) -> list[float] | None:
        return self._speeds.kept([self._key(*candidate) for candidate in candidates])

    def _key(self, engine: str, specs: Sequence[RunSpec]) -> dict[str, Any]:
        """Return everything that the time of a step depends on."""
        fields = (
            *("model", "model_arguments", "loss", "batch_size", "precision", "metrics", "code"),
            *("probes", "accumulate", "sam_adaptive"),
        )
        first = specs[0].as_dict()
        return {name: first.get(name) for name in fields} | {
            "engine": engine,
            "sam": specs[0].sam_rho is not None,
            "threads": threads_for(specs, self._dataset),
            "inputs": self._dataset.input_shape,
            "outputs": self._dataset.classes,
            "seeds": len({spec.seed for spec in specs}),
            "rules": [f"{spec.rule}{spec.structure}" for spec in specs],
        }

    def _measure(self, candidates: Sequence[Candidate], within: float) -> Measured:
        """Time candidates alternately.

        Each is compared with the first one round by round, because the machine's pace changes. The
        time of the first one is its median over the rounds. Steps on one thread are compared by CPU
        time, which other programs affect least. On a busy machine all take one thread, because
        steps on several would wait for threads that have lost their cores, a hundred times as long.
        """
        learners = [self._build(*candidate) for candidate in candidates]
        shares = [] if self._on_cuda else [self._share_of_threads(learners)]
        if min(shares, default=1.0) < LEAST_CPU_SHARE:
            for learner, (_, specs) in zip(learners, candidates, strict=True):
                if not has_fixed_threads(specs[0]):
                    learner.threads = 1
        trials = [Trial(learner, self._clocks) for learner in learners]
        take_turns(trials, self._clocks.wall, within)
        by_cpu = not self._on_cuda and all(trial.on_one_thread for trial in trials)
        rounds = [np.array(trial.cpu_turns if by_cpu else trial.turns) for trial in trials]
        seconds, pace = [], np.median(trials[0].turns)
        for trial, taken, (_, specs) in zip(trials, rounds, candidates, strict=True):
            step = pace * np.median(taken / rounds[0])
            seconds += [float(step) / len(specs), trial.first_step]
        if not self._on_cuda:  # there the processor waits for the device
            shares += [self._share_of_threads(learners), *(trial.cpu_share for trial in trials)]
        self._share = min(shares, default=1.0)
        return Measured(seconds, self._share)

    def _share_of_threads(self, learners: Sequence[Learner]) -> float:
        """Return the share that the threads of the learner with most of them have.

        A machine that was busy once counts as busy: looking again takes long there.
        """
        if self.busy:
            return self._share
        most = max(learners, key=_threads)
        if _threads(most) == 1:
            return 1.0
        with process_for(most):
            return share_of_products(self._clocks)


class KeptTimes:
    """The speeds that a timer has kept; no step is taken."""

    modelled, busy, spent = False, False, 0.0

    def __init__(self, timer: StepTimer) -> None:
        self._timer = timer
        self.are_known = timer.are_known

    def times(self, *candidates: Candidate, within: float = math.inf) -> list[StepTime]:
        """Return the kept speeds of candidates.

        Raises:
            NotKeptError: there are none.
        """
        del within
        return self._timer.kept_times(*candidates)


class ModelledTimes:
    """Speeds from a model of the cost; no step is taken. Those of compiled steps are unknown."""

    modelled, busy, spent = True, False, 0.0

    def __init__(self, dataset: Dataset, place: torch.device) -> None:
        self._dataset = dataset
        self._on_cuda = place.type == "cuda"

    def are_known(self, *candidates: Candidate) -> bool:
        """Return that no step is taken."""
        del candidates
        return True

    def times(self, *candidates: Candidate, within: float = math.inf) -> list[StepTime]:
        """Return the expected speeds of candidates."""
        del within
        return [StepTime(self._seconds(*candidate), 0.0) for candidate in candidates]

    def _seconds(self, engine: str, specs: Sequence[RunSpec]) -> float:
        cost = estimate(specs, self._dataset, len(specs), on_cuda=self._on_cuda)
        seconds = cost.stacked_seconds if engine == "stacked" else cost.seconds
        return seconds / max(1, sum(spec.steps for spec in specs))


def _in_pairs(seconds: Sequence[float]) -> list[StepTime]:
    return [StepTime(*pair) for pair in zip(seconds[::2], seconds[1::2], strict=True)]


def _threads(learner: Learner) -> int:
    return learner.threads or torch.get_num_threads()


def most_seconds(training: float) -> float:
    """Return the seconds that timing steps may take to choose how a training is done.

    Args:
        training: seconds of the training by the fastest way that is known.
    """
    return max(_ALWAYS_SECONDS, _MOST_OF_TRAINING * training)


def least_seconds(pace: float, runs: int) -> float:
    """Return the seconds that timing stacks takes at least.

    Args:
        pace: seconds per run and step.
        runs: number of their runs.
    """
    return _LEAST_STEPS * pace * runs


class Trial:
    """Steps of a learner, as many at once as in training unless that takes too long.

    Args:
        learner: takes the steps.
        clocks: clocks of the measurement.

    Attributes:
        threads: number of its threads.
        first_step: seconds of the first step.
        turns: seconds per step, one value per turn.
        cpu_turns: the same in CPU time of the thread that takes the steps.
    """

    def __init__(self, learner: Learner, clocks: Clocks) -> None:
        self._learner = learner
        self.threads = _threads(learner)
        self._clocks = clocks
        learner.start(1)
        self.turns: list[float] = []
        self.cpu_turns: list[float] = []
        self._wall = self._cpu = 0.0
        self._at_once = 0  # unknown
        self.first_step = self._timed(1)

    def enough(self, turns: int) -> bool:
        """Return whether it had that many turns and enough time."""
        return len(self.turns) >= turns and sum(self.turns) * self._at_once >= _TIMED_SECONDS

    def take_turn(self) -> None:
        """Take steps and time them. The first turn finds how many steps a turn has."""
        steps = self._at_once or 1
        wall, cpu = self._clocks.wall(), self._clocks.thread()
        seconds = self._timed(steps)
        elapsed, used = self._clocks.wall() - wall, self._clocks.thread() - cpu
        if not self._at_once:
            wanted = int(_TIMED_SECONDS / _TIMED_TURNS / seconds)
            self._at_once = min(max(wanted, 1), self._learner.chunk)
            if self._at_once > 1:
                return self.take_turn()
        self.turns.append(seconds)
        self.cpu_turns.append(used / steps)
        self._wall += elapsed
        self._cpu += used
        return None

    @property
    def on_one_thread(self) -> bool:
        """True if one thread takes the steps, and its CPU clock measures them."""
        return self.threads == 1 and all(self.cpu_turns)

    @property
    def cpu_share(self) -> float:
        """Share of the processor that the thread which takes the steps had in all turns."""
        return cpu_share(self._cpu, self._wall)

    def _timed(self, steps: int) -> float:
        seconds, _ = timed_steps(self._learner, self._clocks.wall, steps)
        return seconds


def take_turns(trials: Sequence[Trial], clock: Callable[[], float], within: float) -> None:
    """Let learners take turns, because the machine's pace changes.

    Args:
        trials: the learners.
        clock: returns the time in seconds.
        within: seconds after which no more turns are taken; each learner has one at least.
    """
    turns = _TIMED_TURNS if len(trials) == 1 else _COMPARED_TURNS
    until = clock() + within
    while not all(trial.enough(turns) for trial in trials):
        for trial in trials:
            trial.take_turn()
        if clock() >= until:
            break


def timed_steps(
    learner: Learner, clock: Callable[[], float], chunk: int, chunks: int = 1
) -> tuple[float, bool]:
    """Take steps, and return the seconds of one and whether the learner diverged on the way.

    Pending CUDA work is waited for before and afterwards.

    Args:
        learner: a learner that was started.
        clock: returns the time in seconds.
        chunk: number of steps at once.
        chunks: number of times that they are taken, unless the learner diverges.
    """
    taken, diverged = 0, False
    with process_for(learner):
        _wait_for(learner)
        started = clock()
        for _ in range(chunks):
            steps = len(learner.advance(chunk).losses)
            taken += steps
            if diverged := steps < chunk:
                break
        _wait_for(learner)
        return (clock() - started) / taken, diverged


def _wait_for(learner: Learner) -> None:
    if (learner.facts.device or "").startswith("cuda"):
        torch.cuda.synchronize()
