"""The descriptors 0, 1 and 2 of a process, which user code may close or replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["kept_descriptors", "open_descriptors"]

_STANDARD = range(3)


def open_descriptors() -> None:
    """Open those that are closed; a file of the study would get their number."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


@contextmanager
def kept_descriptors() -> Iterator[None]:
    """Restore the descriptors on exit; those that cannot be copied stay as they are."""
    copies = dict[int, int]()
    for number in _STANDARD:
        with suppress(OSError):  # it is closed, or no number is free
            copies[number] = os.dup(number)
    files = {number: _file(copy) for number, copy in copies.items()}
    try:
        yield
    finally:
        for number, copy in copies.items():
            with suppress(OSError):
                if _file(copy) == files[number]:  # user code may have closed the copy, too
                    os.dup2(copy, number)
                    os.close(copy)


def _file(descriptor: int) -> tuple[int, int]:
    """Return what identifies the open file of a descriptor."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
