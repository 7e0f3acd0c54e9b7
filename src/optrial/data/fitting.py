"""Datasets that do not fit into memory: refused before they are read where their size is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optrial.errors import DataError
from optrial.memory import memory_limit, out_of_memory, shortage

__all__ = ["memory_errors", "require_memory"]

_WAY_OUT = "keep fewer samples, or a smaller type such as uint8, or free memory"


def require_memory(place: str, needed: float) -> None:
    """Check that the samples of a dataset fit into the memory that is free.

    Args:
        place: the file or dataset, for the message.
        needed: bytes of the samples as read and as float32, at least.

    Raises:
        DataError: they do not fit; the message says how much is needed and how much is free.
    """
    limit = memory_limit()
    if needed > limit.free:
        raise DataError(f"{place} {shortage(needed, limit)}; {_WAY_OUT}")


@contextmanager
def memory_errors(place: str) -> Iterator[None]:
    """Turn running out of memory into a `DataError` that names the dataset."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise DataError(
            f"{place} does not fit into memory: {memory_limit()}; {_WAY_OUT}"
        ) from error
