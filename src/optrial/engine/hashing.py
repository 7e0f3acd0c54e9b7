"""Hashes by which runs are shown to have started from, or arrived at, the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from optrial.spec import RunFacts

__all__ = ["StepHashes", "arrays_sha256", "module_sha256"]

_BATCHES, _EPOCHS = 10, 3
_NOTHING = bytes(32)


class StepHashes:
    """What a run was trained on, as hashes of what its first steps were given.

    They can be stored and taken up again, which a hash object cannot.

    Args:
        steps_per_epoch: of the run.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._chain = self._masks = _NOTHING
        self._epochs: list[bytes] = []

    def wants(self, step: int) -> bool:
        """Whether a step changes anything: one of the first ten, or the first of three epochs."""
        return step <= _BATCHES or self._begins_epoch(step)

    def _begins_epoch(self, step: int) -> bool:
        epoch, within = divmod(step - 1, self._steps_per_epoch)
        return within == 0 and epoch < _EPOCHS

    def add(self, step: int, rows: NDArray[np.int64], mask_keys: Sequence[int]) -> None:
        """Take note of a step's samples, and of the keys that its dropout layers had."""
        samples = np.asarray(rows, np.int64).tobytes()
        if step == 1 and mask_keys:
            self._masks = hashlib.sha256(repr(list(mask_keys)).encode()).digest()
        if step <= _BATCHES:
            before = b"" if self._chain == _NOTHING else self._chain
            self._chain = hashlib.sha256(before + samples).digest()
        if self._begins_epoch(step):
            self._epochs.append(hashlib.sha256(samples).digest())

    @property
    def facts(self) -> RunFacts:
        """The first ten batches together, the first of three epochs each, the first masks."""
        return RunFacts(
            first_batches_sha256="" if self._chain == _NOTHING else self._chain.hex(),
            epoch_batches_sha256=tuple(each.hex() for each in self._epochs),
            first_masks_sha256=None if self._masks == _NOTHING else self._masks.hex(),
        )

    def state(self) -> NDArray[np.uint8]:
        """Return all hashes, one after the other."""
        return np.frombuffer(b"".join([self._chain, self._masks, *self._epochs]), np.uint8)

    def load(self, state: NDArray[np.uint8]) -> None:
        """Take up what `state` returned."""
        self._chain, self._masks, *self._epochs = map(bytes, state.reshape(-1, len(_NOTHING)))


def module_sha256(module: nn.Module) -> str:
    """Return the SHA-256 of all parameters of a module, in its order."""
    return arrays_sha256(value.detach().cpu().numpy() for value in module.parameters())


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the dtypes, shapes and bytes of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
