"""Targets of the fuzzers, and the judgement of one input."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from optrial.errors import OptrialError, printable

__all__ = ["MOST_BYTES", "MOST_SECONDS", "Target", "judged", "limited_memory"]

MOST_SECONDS = 5.0
"""Processor time that an input may take."""
MOST_BYTES = 2**30
"""Memory that inputs may take beside the program itself."""

_MESSAGE_LENGTH = 40_000
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Target:
    """Something that reads input.

    Attributes:
        name: of the target.
        make: a valid or mutated input.
        read: reads an input in an empty folder; raises OptrialError where it refuses it.
        share: of the inputs of all targets.
    """

    name: str
    make: Callable[[Random], bytes]
    read: Callable[[bytes, Path], object]
    share: float

    def numbered(self, number: int) -> bytes:
        """Return input `number`, the same in every process."""
        return self.make(Random(f"{self.name} {number}"))


class _TooSlowError(BaseException):
    pass


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Limit the process to `MOST_BYTES` more memory than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def judged(target: Target, content: bytes, folder: Path) -> str:
    """Return why a target fails on an input, with the traceback; empty if it does not."""
    started = time.process_time()
    try:
        with _limited_time(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("error")
            target.read(content, folder)
    except OptrialError as error:
        message = str(error)
        if not message or len(message) > _MESSAGE_LENGTH or printable(message) != message:
            return f"not a message to show, {len(message)} characters: {message[:300]!r}"
    except _TooSlowError:
        return f"takes more than {MOST_SECONDS} s:\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001  every other error is what the fuzzers look for
        return traceback.format_exc()
    seconds = time.process_time() - started
    return f"takes {seconds:.1f} s" if seconds > MOST_SECONDS else ""
