"""The collection of reference cycles, which visits every object again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collecting_no_garbage"]


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Pause the collection of reference cycles while many objects are made."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
