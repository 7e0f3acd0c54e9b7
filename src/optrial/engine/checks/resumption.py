"""Checks that a training resumed from a checkpoint equals, bit by bit, one that never stopped.

Only user-defined code is checked, because it may keep state that no checkpoint sees.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from optrial.engine.backends.numpy_backprop import NumpyEngine
from optrial.engine.backends.reference import ReferenceEngine
from optrial.engine.training import Learner, Training
from optrial.errors import USER_CODE_ERRORS, CheckpointError, OptrialError, one_line
from optrial.plan import pack
from optrial.spec import RunSpec

__all__ = ["Resumption"]

_BEFORE, _AFTER = 3, 3
"""Steps before and after a checkpoint, to see whether training goes on the same."""

Arrays = Mapping[str, NDArray[Any]]


class Resumption:
    """Checks the checkpoints of runs.

    Args:
        build: returns a fresh learner of some runs: of one, by itself, or of a stack.
    """

    def __init__(self, build: Callable[[Sequence[RunSpec]], Learner]) -> None:
        self._build = build
        self._tried: dict[str, str] = {}  # by setting: why its runs cannot go on, or ""
        self._forms: set[tuple[str, str]] = set()  # of checkpoints that were restored exactly

    def check(self, training: Training, checkpoint: Arrays) -> None:
        """Check that a training can be resumed from a checkpoint of it.

        A checkpoint of a form that is new for its setting is restored into a fresh learner and
        stored again. The first time, steps are taken besides.

        Raises:
            CheckpointError: it would not go on the same; the message says why.
        """
        learner, spec = training.learner, training.specs[0]
        if not spec.code:
            return
        if isinstance(learner, NumpyEngine):
            return
        form = (spec.without_seed, _form(checkpoint))
        if form in self._forms:
            return
        with _undisturbed():
            if isinstance(learner, ReferenceEngine):  # the state of a stack is arrays only
                self._check_restored(spec, checkpoint)
            if spec.without_seed not in self._tried:
                some = pack(training.specs, 2)[0]
                self._tried[spec.without_seed] = self._why_steps_differ(some)
        if reason := self._tried[spec.without_seed]:
            raise CheckpointError(reason)
        self._forms.add(form)

    def _check_restored(self, spec: RunSpec, checkpoint: Arrays) -> None:
        fresh = Training([spec], self._build([spec]))
        try:
            fresh.resume(checkpoint)
            again = fresh.checkpoint()
        except OptrialError:
            raise
        except USER_CODE_ERRORS as error:
            raise CheckpointError(f"its state cannot be restored ({one_line(error)})") from error
        if not _equal(_without_generators(checkpoint), _without_generators(again)):
            raise CheckpointError("its state is not the same once it is restored")

    def _why_steps_differ(self, specs: Sequence[RunSpec]) -> str:
        """Take steps with and without a checkpoint between them; return why they differ, or ""."""
        whole, checkpoint = self._end_of(specs, None)
        resumed, _ = self._end_of(specs, checkpoint)
        if _equal(whole, resumed):
            return ""
        if not _equal(whole, self._end_of(specs, None)[0]):
            return ""  # it never takes the same steps twice, so that nothing can be told
        return "it does not take the same steps after it is restored"

    def _end_of(
        self, specs: Sequence[RunSpec], checkpoint: Arrays | None
    ) -> tuple[dict[str, NDArray[Any]], Arrays]:
        """Return losses and weights after some steps, and the checkpoint on the way."""
        learner = self._build(specs)
        if checkpoint is None:
            learner.start(1)
            learner.advance(_BEFORE)
            learner.weights(0)  # brings model and optimizer into evaluation mode
            checkpoint = learner.state()
        else:
            learner.load(checkpoint, _BEFORE)
            learner.start(_BEFORE + 1)
        losses = learner.advance(_AFTER).losses
        return {"losses": losses, **learner.weights(0)}, checkpoint


def _equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def _without_generators(checkpoint: Arrays) -> Arrays:
    """Leave out the global generator of a script, which is set where its batches begin."""
    return {name: a for name, a in checkpoint.items() if not name.startswith("rng.")}


def _form(checkpoint: Arrays) -> str:
    """Return everything about a checkpoint but the numbers in it."""
    shapes = {name: [str(a.dtype), a.shape] for name, a in checkpoint.items() if a.ndim != 1}
    tree = checkpoint.get("optimizer.tree", np.frombuffer(b"null", np.uint8))
    return json.dumps([sorted(checkpoint), shapes, _without_numbers(json.loads(tree.tobytes()))])


def _without_numbers(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {kind: _without_numbers(inner) for kind, inner in tree.items()}
    if isinstance(tree, list):
        return [_without_numbers(part) for part in tree]
    return tree if isinstance(tree, str) else type(tree).__name__


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave every generator of the process as it is; a run may be drawing from it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
