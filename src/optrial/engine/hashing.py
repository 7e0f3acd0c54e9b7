"""Hashes by which runs are shown to have started from, or arrived at, the same numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

__all__ = ["arrays_sha256"]


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the dtypes, shapes and bytes of arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
