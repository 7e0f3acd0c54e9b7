"""Standard streams that may be closed, full, or without most characters."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

from optrial.descriptors import open_descriptors

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
    """Let everything be printed, whatever the standard streams are and user code does to them.

    Closed streams lead nowhere. Characters that the encoding of a stream lacks are written as plain
    ones. Notes that cannot be written, as on a full disk, do not end a command.
    """
    open_descriptors()
    sys.stdin = sys.stdin or _nowhere("r")
    with (
        _copied(sys.stdout or _nowhere(), 1) as output,
        _copied(sys.stderr or _nowhere(), 2) as errors,
    ):
        for stream in (output, errors):
            if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
                stream.reconfigure(errors=_HANDLER)
        with redirect_stdout(output), redirect_stderr(cast(TextIO, _Forgiving(errors))):
            yield


def _nowhere(mode: str = "w") -> TextIO:
    return cast(TextIO, Path(os.devnull).open(mode, encoding="utf-8"))


@contextmanager
def _copied(stream: TextIO, number: int) -> Iterator[TextIO]:
    """Yield a stream that user code does not close with a descriptor or with `sys.__stdout__`."""
    try:
        copy = os.dup(number) if stream.fileno() == number else -1
    except (AttributeError, OSError, ValueError):  # a stream without a descriptor
        copy = -1
    if copy < 0:
        yield stream
        return
    stream.flush()
    buffering = 1 if number == 2 or os.isatty(copy) else -1
    copied = os.fdopen(copy, "w", buffering, encoding=stream.encoding, errors=stream.errors)
    try:
        yield copied
    finally:
        with suppress(OSError):
            copied.close()


def is_of_stream(error: OSError) -> bool:
    """Return whether an error is that of a stream, which names no file."""
    return error.filename is None and error.errno in _OF_STREAMS


def drop_output() -> None:
    """Send further output nowhere, so that Python does not fail to flush it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Forgiving:
    """A stream that ignores what it cannot write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
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
