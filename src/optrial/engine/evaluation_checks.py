"""Checks that an evaluation does not affect the training, and that it is reproducible."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple, Self

import numpy as np
import torch

from optrial.engine.evaluation import Evaluation
from optrial.engine.hashing import arrays_sha256
from optrial.engine.learner import Floats, Learner
from optrial.models import seeded_draws
from optrial.spec import EvaluationCheck, RunFacts, RunSpec, TrainingCheck

__all__ = ["Untouched", "change_when_repeated"]

_OTHER_STEP = 0
"""A step without evaluation: user code draws other random numbers there."""
_HUGE = float(np.finfo(np.float64).max)  # infinity is no JSON


class Untouched(NamedTuple):
    """State that an evaluation must not change."""

    modules: Mapping[str, bool]
    buffers_sha256: str
    generators_sha256: str

    @classmethod
    def of(cls, learner: Learner) -> Self:
        """Return the state of a learner and of the global generators."""
        generators = [
            torch.get_rng_state().numpy(),
            np.asarray(np.random.get_state(legacy=False)["state"]["key"]),
        ]
        return cls(learner.modules(), learner.buffers_sha256(), arrays_sha256(generators))

    def facts(self, learner: Learner) -> RunFacts:
        """Return facts about the evaluation since `of` was called."""
        after = Untouched.of(learner)
        evaluated = learner.evaluated_modules()
        return RunFacts(
            training=TrainingCheck(tuple(name for name, on in self.modules.items() if not on)),
            evaluation=EvaluationCheck(
                training_modules=tuple(name for name, on in evaluated.items() if on),
                buffers_sha256=(self.buffers_sha256, after.buffers_sha256),
                generators_sha256=(self.generators_sha256, after.generators_sha256),
            ),
        )


def change_when_repeated(
    learner: Learner, spec: RunSpec, evaluations: Mapping[str, Evaluation]
) -> Floats | None:
    """Return the largest change of a value, (runs,), when user code draws other random numbers.

    None if no user code is evaluated, or if it would draw from a script's generator on a GPU, which
    cannot be restored here.
    """
    script = spec.rng == "script"
    evaluated = {spec.model, spec.loss, *spec.metrics} & spec.code.keys()
    if not evaluated or (script and learner.facts.device != "cpu"):
        return None
    split, once = next(iter(evaluations.items()))
    with seeded_draws(_OTHER_STEP) if script else nullcontext():
        again = learner.evaluate(split, _OTHER_STEP)
    before = np.column_stack([once.losses, once.metrics])
    after = np.column_stack([again.losses, again.metrics])
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    with np.errstate(invalid="ignore"):
        changes = np.where(same, 0.0, np.abs(before - after))
    largest: Floats = np.nan_to_num(changes, nan=_HUGE, posinf=_HUGE).max(axis=1)
    return largest
