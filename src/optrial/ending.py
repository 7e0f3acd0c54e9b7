"""`os._exit` of user code ends a run, as `sys.exit` does, and not the process.

The process would otherwise end at once and in silence, often with the status of success.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import _exit
from typing import NoReturn

__all__ = ["contained_exit"]

_contexts: list[tuple[int, int]] = []
"""Process and thread of each context that is open."""


@contextmanager
def contained_exit() -> Iterator[None]:
    """Let `os._exit` raise SystemExit in this context, in the thread that enters it.

    Another thread that calls it ends the process with a message and a status other than 0. In
    processes that user code forks, it does what it always does. Code that imported the function
    itself, as optrial's own does, is not affected.
    """
    context = os.getpid(), threading.get_ident()
    _contexts.append(context)
    os._exit = _ended
    try:
        yield
    finally:
        _contexts.remove(context)  # contexts of generators may end in any order
        if not _contexts:
            os._exit = _exit


def _ended(status: int) -> NoReturn:
    process = os.getpid()
    if (process, threading.get_ident()) in _contexts:
        raise SystemExit(f"os._exit({status!r})")
    if process in dict(_contexts):
        text = f"error: a thread called os._exit({status!r}), which ends the process"
        os.write(2, f"{text}\n".encode())
        status = status or 1
    _exit(status)
