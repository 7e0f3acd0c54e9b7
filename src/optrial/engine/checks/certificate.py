"""What a training shows of itself by taking a few steps again, after its end.

Then nothing can be disturbed any more. It is done where the steps are few beside those of the
training, and costs about a hundredth of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.engine.backends.stacked import StackedEngine
from optrial.engine.checks.parity import parity, parity_is_cheap
from optrial.engine.learner import Floats, Learner
from optrial.engine.process import process_for
from optrial.engine.training import FIRST_STEPS, Training
from optrial.spec import Certificate, RunFacts, RunSpec, Status

__all__ = ["certificates"]

Certificates = dict[str, RunFacts]
"""Facts by run id."""

_LEAST_STEPS = 300
_LEAST_SECONDS = 5.0
_HUGE = float(np.finfo(np.float64).max)  # infinity is no JSON
_MOST_ALONE = 3  # runs of a stack that are trained alone: each takes about 20 ms to build
_SAME_LOSS = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}
"""Relative difference of a loss that rounding explains after two steps, by precision."""


def certificates(training: Training, alone: Callable[[RunSpec], Learner]) -> Certificates:
    """Return what a training that has ended shows of itself; nothing where that would cost much.

    `replicate_difference` is by how much a loss changes when the same steps are taken again,
    `evaluation_difference` the same of evaluating the same weights again. Of a stack,
    `stack_neighbour` is by how much it changes where the run beside it is not finite, and
    `stack_certificate` by how much, relatively, the first losses of one run of each rule differ
    from those of the run alone. `parity` is by how much the rule's steps differ from those of its
    counterpart in `torch.optim`.

    Args:
        training: its learner cannot go on afterwards.
        alone: builds a learner of a single run.
    """
    if training.step < _LEAST_STEPS or training.seconds < _LEAST_SECONDS:
        return {}
    done = [run for run, status in enumerate(training.status) if status is Status.DONE]
    found: Certificates = {training.specs[run].run_id: RunFacts() for run in done}
    with process_for(training.learner):
        before = training.learner.state()
        once, twice = (_losses(training.learner, before) for _ in range(2))
        for run in done:
            difference = _difference(once[:, run], twice[:, run])
            found[training.specs[run].run_id] |= RunFacts(replicate_difference=difference)
        if isinstance(training.learner, StackedEngine) and len(done) > 1:
            victim, *others = done
            beside = _losses(training.learner, _spoiled(before, training.learner.shape, victim))
            for run in others:
                fact = Certificate(_difference(once[:, run], beside[:, run]), tolerance=0.0)
                found[training.specs[run].run_id] |= RunFacts(stack_neighbour=fact)
            first_of = {training.specs[run].rule: run for run in reversed(done)}
            for run in list(first_of.values())[:_MOST_ALONE]:
                fact = _alone(training, run, alone)
                found[training.specs[run].run_id] |= RunFacts(stack_certificate=fact)
    # Where user code may draw, the first evaluation was repeated at once.
    if done and training.evaluation_is_cheap and not training.specs[done[0]].code:
        difference = _evaluated_twice(training, training.specs[done[0]], alone)
        for run_id in found:
            found[run_id] |= RunFacts(evaluation_difference=difference)
    if parity_is_cheap(training.seconds):
        for spec, fact in _parities([training.specs[run] for run in done]):
            found[spec.run_id] |= RunFacts(parity=fact)
    return found


def _parities(specs: Sequence[RunSpec]) -> Iterator[tuple[RunSpec, Certificate]]:
    """Compare each setting's rule once, for the runs of all its seeds."""
    kept: dict[str, Certificate | None] = {}
    for spec in specs:
        setting = repr((spec.rule, spec.hyperparameters, spec.weight_decay, spec.decay))
        if setting not in kept:
            kept[setting] = parity(spec)
        if fact := kept[setting]:
            yield spec, fact


def _evaluated_twice(
    training: Training, spec: RunSpec, alone: Callable[[RunSpec], Learner]
) -> float:
    """Evaluate one model twice: all of a training are the same but for their weights."""
    learner = training.learner if len(training.specs) == 1 else alone(spec)
    once, twice = (learner.evaluate(spec.evaluate_on[0], training.step).losses for _ in range(2))
    return _difference(once, twice)


def _losses(
    learner: Learner, state: Mapping[str, NDArray[Any]], steps: int = FIRST_STEPS
) -> Floats:
    """Take the first steps' batches from a state; return losses, (steps, runs)."""
    learner.load(state, 0)
    learner.start(1)
    return learner.advance(steps).losses


def _spoiled(
    state: Mapping[str, NDArray[Any]], shape: tuple[int, int], run: int
) -> dict[str, NDArray[Any]]:
    """Return the state of a stack in which the weights of one run are not numbers."""
    seed, setting = divmod(run, shape[1])
    spoiled = {name: array.copy() for name, array in state.items()}
    for name, array in spoiled.items():
        if name.startswith("model."):
            array[seed, setting] = np.nan
    return spoiled


def _alone(training: Training, run: int, alone: Callable[[RunSpec], Learner]) -> Certificate:
    spec, stacked = training.specs[run], training.first_losses[:, run]
    learner = alone(spec)
    learner.start(1)
    losses = learner.advance(len(stacked)).losses[:, 0]
    scale = np.abs(losses).max()
    return Certificate(
        difference=_difference(losses / scale, stacked / scale),
        tolerance=_SAME_LOSS[spec.precision],
        steps=len(stacked),
    )


def _difference(one: Floats, other: Floats) -> float:
    """Return the largest absolute difference; huge where only one of two is a number."""
    with np.errstate(invalid="ignore"):
        apart = np.where(np.isnan(one) & np.isnan(other) | (one == other), 0.0, np.abs(one - other))
    return float(np.nan_to_num(apart, nan=_HUGE, posinf=_HUGE).max())
