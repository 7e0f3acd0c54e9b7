"""Hashes by which runs are shown to have started from, or arrived at, the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["HASHED_BATCHES", "arrays_sha256", "chain_batches"]

HASHED_BATCHES = 10


def chain_batches(chain: bytes, step: int, rows: NDArray[np.int64]) -> bytes:
    """Add a step's samples to the hash of a run's first ten batches; later ones change nothing.

    The chain can be stored and taken up again, which a hash object cannot.
    """
    if step > HASHED_BATCHES:
        return chain
    return hashlib.sha256(chain + np.asarray(rows, np.int64).tobytes()).digest()


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the dtypes, shapes and bytes of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
