"""Standard streams that may be closed, full, or without most characters."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

__all__ = ["drop_output", "is_of_stream", "usable_streams"]

_PLAIN = {
    **{
        "±": "+/-",
        "—": "-",
        "–": "-",
        "…": "...",
        "→": "->",
        "←": "<-",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
    },
    **{"×": "x", "·": "*", "−": "-", "’": "'", "“": '"', "”": '"', "√": "sqrt", "∞": "inf"},
}
_OF_STREAMS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)
_HANDLER = "optrial-plain"


@contextmanager
def usable_streams() -> Iterator[None]:
    """Let everything be printed, whatever the standard streams are.

    Closed streams lead nowhere. Characters that the encoding of a stream lacks are written as plain
    ones. Notes that cannot be written, as on a full disk, do not end a command.
    """
    _open_descriptors()
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_HANDLER)
    with redirect_stderr(cast(TextIO, _Forgiving(sys.stderr or _nowhere()))):
        yield


def _nowhere(mode: str = "w") -> TextIO:
    return cast(TextIO, Path(os.devnull).open(mode, encoding="utf-8"))


def is_of_stream(error: OSError) -> bool:
    """Return whether an error is that of a stream, which names no file."""
    return error.filename is None and error.errno in _OF_STREAMS


def drop_output() -> None:
    """Send further output nowhere, so that Python does not fail to flush it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed; a file of the study would get their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


class _Forgiving:
    """A stream that ignores what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write characters that an encoding lacks as plain ones, or as their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _PLAIN.get(character) or base or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_HANDLER, _plain)
