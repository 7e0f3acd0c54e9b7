"""Hashes used to verify that runs are paired, and that they arrive at the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from optrial.spec import HASHED_STEPS, RunFacts

__all__ = ["StepHashes", "arrays_sha256", "module_sha256"]

_EPOCHS = 3
_NOTHING = bytes(32)


class StepHashes:
    """Hashes of the samples and dropout masks of the first steps of a run.

    Unlike a hash object, they can be stored and restored.

    Args:
        steps_per_epoch: number of steps in an epoch of the run.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._chain = self._masks = _NOTHING
        self._epochs: list[bytes] = []

    def wants(self, step: int) -> bool:
        """Return whether a step is hashed: one of the first ten, or the first of three epochs."""
        return step <= HASHED_STEPS or self._begins_epoch(step)

    def _begins_epoch(self, step: int) -> bool:
        epoch, within = divmod(step - 1, self._steps_per_epoch)
        return within == 0 and epoch < _EPOCHS

    def add(self, step: int, rows: NDArray[np.int64], mask_keys: Sequence[int]) -> None:
        """Add the samples of a step and the keys of its dropout masks."""
        samples = np.asarray(rows, np.int64).tobytes()
        if step == 1 and mask_keys:
            self._masks = hashlib.sha256(repr(list(mask_keys)).encode()).digest()
        if step <= HASHED_STEPS:
            before = b"" if self._chain == _NOTHING else self._chain
            self._chain = hashlib.sha256(before + samples).digest()
        if self._begins_epoch(step):
            self._epochs.append(hashlib.sha256(samples).digest())

    @property
    def facts(self) -> RunFacts:
        """Hash of the first ten batches, of the first batch of three epochs, of the first masks."""
        return RunFacts(
            first_batches_sha256="" if self._chain == _NOTHING else self._chain.hex(),
            epoch_batches_sha256=tuple(digest.hex() for digest in self._epochs),
            first_masks_sha256=None if self._masks == _NOTHING else self._masks.hex(),
        )

    def state(self) -> NDArray[np.uint8]:
        """Return all hashes, concatenated."""
        return np.frombuffer(b"".join([self._chain, self._masks, *self._epochs]), np.uint8)

    def load(self, state: NDArray[np.uint8]) -> None:
        """Restore what `state` returned."""
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
