"""Checks of a training that repeat a few of its steps after its end.

The checks run only if the training was long enough, and take about 1 % of its time.
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
    """Return the results of all checks, by run; none if the training was too short.

    - `replicate_difference`: change of the loss when the same steps are repeated.
    - `evaluation_difference`: change of the loss when the same weights are evaluated again.
    - `stack_neighbour`: change of the loss when another run of the stack is not finite.
    - `stack_certificate`: relative difference of the first losses between the stack and the run
      trained alone, for one run of each rule.
    - `parity`: difference between the steps of the rule and those of its `torch.optim` class.

    Args:
        training: a training that has ended; its learner cannot continue afterwards.
        alone: builds a learner of a single run.
    """
    if training.step < _LEAST_STEPS or training.seconds < _LEAST_SECONDS:
        return {}
    done = [run for run, status in enumerate(training.status) if status is Status.DONE]
    facts_by_run: Certificates = {training.specs[run].run_id: RunFacts() for run in done}
    with process_for(training.learner):
        before = training.learner.state()
        once, twice = (_losses(training.learner, before) for _ in range(2))
        for run in done:
            difference = _difference(once[:, run], twice[:, run])
            facts_by_run[training.specs[run].run_id] |= RunFacts(replicate_difference=difference)
        if isinstance(training.learner, StackedEngine) and len(done) > 1:
            victim, *others = done
            _spoil(before, training.learner.shape, victim)
            beside = _losses(training.learner, before)
            for run in others:
                fact = Certificate(_difference(once[:, run], beside[:, run]), tolerance=0.0)
                facts_by_run[training.specs[run].run_id] |= RunFacts(stack_neighbour=fact)
            specs = training.specs
            first_of = {(specs[n].rule, specs[n].structure): n for n in reversed(done)}
            for run in list(first_of.values())[:_MOST_ALONE]:
                fact = _alone(training, run, alone)
                facts_by_run[training.specs[run].run_id] |= RunFacts(stack_certificate=fact)
    # The first evaluation of user code was repeated during the training.
    evaluated = done and training.specs[done[0]].evaluate_on
    if evaluated and training.evaluation_is_cheap and not training.specs[done[0]].code:
        difference = _evaluated_twice(training, training.specs[done[0]], alone)
        for run_id in facts_by_run:
            facts_by_run[run_id] |= RunFacts(evaluation_difference=difference)
    if parity_is_cheap(training.seconds):
        for spec, fact in _parities([training.specs[run] for run in done]):
            facts_by_run[spec.run_id] |= RunFacts(parity=fact)
    return facts_by_run


def _parities(specs: Sequence[RunSpec]) -> Iterator[tuple[RunSpec, Certificate]]:
    """Compare each setting's rule once, for the runs of all its seeds."""
    kept: dict[str, Certificate | None] = {}
    for spec in specs:
        whole = (spec.rule, spec.hyperparameters, spec.weight_decay, spec.decay)
        setting = repr((*whole, spec.groups))
        if setting not in kept:
            kept[setting] = parity(spec)
        if fact := kept[setting]:
            yield spec, fact


def _evaluated_twice(
    training: Training, spec: RunSpec, alone: Callable[[RunSpec], Learner]
) -> float:
    """Evaluate one model twice; the models of a training differ only in their weights."""
    learner = training.learner if len(training.specs) == 1 else alone(spec)
    once, twice = (learner.evaluate(spec.evaluate_on[0], training.step).losses for _ in range(2))
    return _difference(once, twice)


def _losses(
    learner: Learner, state: Mapping[str, NDArray[Any]], steps: int = FIRST_STEPS
) -> Floats:
    """Take steps from a state with the first batches; return losses, (steps, runs)."""
    learner.load(state, 0)
    learner.start(1)
    return learner.advance(steps).losses


def _spoil(state: Mapping[str, NDArray[Any]], shape: tuple[int, int], run: int) -> None:
    """Set the weights of one run to NaN in the state of a stack."""
    seed, setting = divmod(run, shape[1])
    for name, array in state.items():
        if name.startswith("model."):
            array[seed, setting] = np.nan


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
    """Return the largest absolute difference; huge if only one value of a pair is finite."""
    with np.errstate(invalid="ignore"):
        apart = np.where(np.isnan(one) & np.isnan(other) | (one == other), 0.0, np.abs(one - other))
    return float(np.nan_to_num(apart, nan=_HUGE, posinf=_HUGE).max())
