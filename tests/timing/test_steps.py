"""Step times by a clock that only learners move."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optrial.engine.learner import Steps
from optrial.spec import RunFacts
from optrial.timing.steps import StepTimes, time_steps
from tests.tolerance import STATISTIC_FLOAT64

TURN = 1.0


class Machine:
    """A clock, what ran on it, and whose data its caches hold."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[list[str]] = []  # of each turn, who took its steps
        self.warm = ""

    def clock(self) -> float:
        return self.now

    def progress(self, done: int, total: int) -> None:
        assert done == len(self.log)
        self.log.append([])
        self.total = total


class FakeLearner:
    """Takes so many seconds a step: `seconds` of the number of the step."""

    chunk = 10
    threads = None
    facts = RunFacts(device="cpu", implementation="made up", flushes_denormals=False)
    run_facts = (RunFacts(),)

    def __init__(
        self,
        machine: Machine,
        name: str,
        seconds: Callable[[int], float],
        diverges_at: int | None = None,
    ) -> None:
        self.machine, self.name, self.seconds = machine, name, seconds
        self.diverges_at = diverges_at

    def start(self, first_step: int) -> None:
        self.step = first_step - 1

    def advance(self, steps: int) -> Steps:
        taken = 0
        while taken < steps and not (taken and self.step == self.diverges_at):
            self.step += 1
            taken += 1
            cold = 100.0 * (self.machine.warm != self.name)
            self.machine.now += self.seconds(self.step) + cold
            self.machine.warm = self.name
            self.machine.log[-1].append(self.name)
        return Steps(np.ones((taken, 1)), np.ones((taken, 1, 1)), np.ones(taken))


def timed(
    machine: Machine, rounds: int = 20, **seconds: Callable[[int], float]
) -> dict[str, StepTimes]:
    """Time learners that take as long as their functions say."""
    builders = [
        lambda name=name, cost=cost: FakeLearner(machine, name, cost)
        for name, cost in seconds.items()
    ]
    times = time_steps(
        builders, rounds, turn_seconds=TURN, clock=machine.clock, progress=machine.progress
    )
    return dict(zip(seconds, times, strict=True))


def test_every_round_has_a_turn_of_each_alone_and_in_changing_order() -> None:
    machine = Machine()
    timed(machine, a=lambda step: 0.01, b=lambda step: 0.02, c=lambda step: 0.03)
    assert machine.total == 3 * 21
    turns = machine.log[3:-1]
    assert all(len(set(turn)) == 1 for turn in turns)
    rounds = ["".join(turn[0] for turn in turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert len(rounds) == 20
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 3


def test_times_are_those_of_warm_steps_in_turns_of_the_length_asked_for() -> None:
    machine = Machine()
    times = timed(
        machine,
        quick=lambda step: 0.001,
        slow=lambda step: 0.5,
        compiled=lambda step: 60.0 if step == 1 else 0.02,
    )
    assert len(times["quick"].seconds) == 20
    for name, wanted in (("quick", 0.001), ("slow", 0.5), ("compiled", 0.02)):
        assert times[name].seconds == pytest.approx([wanted] * 20, rel=STATISTIC_FLOAT64)
    assert times["compiled"].first_step == pytest.approx(160.0, rel=STATISTIC_FLOAT64)
    steps = {turn[0]: len(turn) - 2 for turn in machine.log[3:-1]}  # two are not counted
    assert steps["slow"] == 10  # one chunk, however long it takes
    assert 0.001 * steps["quick"] >= TURN
    assert 0.02 * steps["compiled"] >= TURN


def test_what_is_done_every_tenth_step_is_in_the_time() -> None:
    times = timed(Machine(), shampoo=lambda step: 9.1 if step % 10 == 0 else 0.1)
    assert times["shampoo"].seconds == pytest.approx([1.0] * 20, rel=STATISTIC_FLOAT64)


def test_a_run_that_diverges_is_begun_anew_and_timed() -> None:
    machine = Machine()
    built = []

    def build() -> FakeLearner:
        built.append(FakeLearner(machine, "wild", lambda step: 0.25, diverges_at=34))
        return built[-1]

    (times,) = time_steps(
        [build], 5, turn_seconds=TURN, clock=machine.clock, progress=machine.progress
    )
    assert times.diverged
    assert len(built) > 1
    assert times.seconds == pytest.approx([0.25] * 5, rel=STATISTIC_FLOAT64)


def test_one_that_fails_does_not_keep_the_others_from_being_timed() -> None:
    machine = Machine()

    def fail(step: int) -> float:
        if step > 50:
            raise RuntimeError("no more\nafter a line")
        return 0.1

    times = timed(machine, good=lambda step: 0.1, bad=fail)
    assert times["bad"].error == "RuntimeError: no more"
    assert times["good"].error == ""
    assert times["good"].seconds == pytest.approx([0.1] * 20, rel=STATISTIC_FLOAT64)
