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
from optrial.engine.learner import Learner
from optrial.engine.training import Training
from optrial.errors import USER_CODE_ERRORS, CheckpointError, OptrialError, one_line
from optrial.plan import pack
from optrial.spec import RunSpec

__all__ = ["Resumption"]

_BEFORE, _AFTER = 3, 3
"""Steps before and after a checkpoint, to compare with uninterrupted training."""

_PIECE = 2**20
"""Numbers that are compared at a time."""

Arrays = Mapping[str, NDArray[Any]]


class Resumption:
    """Checks checkpoints.

    Args:
        build: returns a fresh learner of one run or of a stack.
    """

    def __init__(self, build: Callable[[Sequence[RunSpec]], Learner]) -> None:
        self._build = build
        self._reasons: dict[str, str] = {}  # by setting: why its runs cannot be resumed, or ""
        self._forms: set[tuple[str, str]] = set()  # forms of checkpoints known to restore exactly

    def check(self, training: Training, checkpoint: Arrays) -> None:
        """Check that a training can be resumed from one of its checkpoints.

        A checkpoint with a form that is new for its setting is restored into a fresh learner and
        compared with that learner's own checkpoint. For the first one, steps are compared too.

        Raises:
            CheckpointError: the resumed training would differ; the message says why.
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
            if spec.without_seed not in self._reasons:
                pair = pack(training.specs, 2)[0]
                self._reasons[spec.without_seed] = self._why_steps_differ(pair)
        if reason := self._reasons[spec.without_seed]:
            raise CheckpointError(reason)
        self._forms.add(form)

    def _check_restored(self, spec: RunSpec, checkpoint: Arrays) -> None:
        fresh = Training([spec], self._build([spec]))
        try:
            fresh.resume(checkpoint)
            again = fresh.checkpoint(shared=True)
        except OptrialError:
            raise
        except USER_CODE_ERRORS as error:
            raise CheckpointError(f"its state cannot be restored ({one_line(error)})") from error
        if not _equal(_without_generators(checkpoint), _without_generators(again)):
            raise CheckpointError("its state is not the same once it is restored")

    def _why_steps_differ(self, specs: Sequence[RunSpec]) -> str:
        """Take steps with and without a checkpoint in between; return why they differ, or ""."""
        whole, checkpoint = self._end_of(specs, None)
        resumed, _ = self._end_of(specs, checkpoint)
        if _equal(whole, resumed):
            return ""
        if not _equal(whole, self._end_of(specs, None)[0]):
            return ""  # its steps differ each time, so this shows nothing
        return "it does not take the same steps after it is restored"

    def _end_of(
        self, specs: Sequence[RunSpec], checkpoint: Arrays | None
    ) -> tuple[dict[str, NDArray[Any]], Arrays]:
        """Return losses and weights after some steps, and the checkpoint before them."""
        learner = self._build(specs)
        if checkpoint is None:
            learner.start(1)
            learner.advance(_BEFORE)
            learner.weights(0)  # switches model and optimizer to evaluation mode and back
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
        and all(map(np.array_equal, _bytes_of(one[name]), _bytes_of(other[name])))
        for name in one
    )


def _bytes_of(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of an array in pieces, because comparing takes as much memory again."""
    for piece in np.split(array.reshape(-1), range(_PIECE, array.size, _PIECE)):
        yield np.frombuffer(piece.tobytes(), np.uint8)


def _without_generators(checkpoint: Arrays) -> Arrays:
    """Drop the global generator of a script, which is restored when its batches begin."""
    return {name: a for name, a in checkpoint.items() if not name.startswith("rng.")}


def _form(checkpoint: Arrays) -> str:
    """Return the structure of a checkpoint, without its numbers."""
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
    """Restore every generator of the process afterwards; a run may be drawing from it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
