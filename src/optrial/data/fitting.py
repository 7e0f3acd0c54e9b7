"""Datasets that do not fit into memory: refused before they are read where their size is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Protocol

from optrial.errors import DataError
from optrial.memory import gigabytes, memory_limit, out_of_memory, shortage

__all__ = ["Readable", "memory_errors", "require_memory", "unpacked"]

_WAY_OUT = "keep fewer samples, or a smaller type such as uint8, or free memory"
_CHUNK = 2**20  # bytes


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


class Readable(Protocol):
    """A file that is read in parts."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size` of them; none at the end."""


def unpacked(place: str, compressed: Readable, copies: float) -> bytes:
    """Read a compressed file, and stop where its content no longer fits into memory.

    A small file may hold any amount of data, so its size says nothing about its content.

    Args:
        place: the file, for the message.
        compressed: the file, opened by a module such as `gzip`.
        copies: copies of the content that reading the dataset takes, at least.

    Raises:
        DataError: the copies do not fit into the memory that is free.
    """
    limit = memory_limit()
    most = int(limit.free / copies)
    content = BytesIO()
    while chunk := compressed.read(_CHUNK):
        content.write(chunk)
        if content.tell() > most:
            raise DataError(
                f"{place} unpacks to more than {gigabytes(most)}, which does not fit into memory: "
                f"{limit}; {_WAY_OUT}"
            )
    return content.getvalue()


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
