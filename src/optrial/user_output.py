"""Output of user code: what it prints, warns and logs becomes messages, each given once.

Standard output is for results, and text from a model would also tear the progress display apart.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Any, Self, TextIO, TypeVar, cast
from weakref import WeakSet

from optrial.code import is_library_file, name_of_user_code, short_path, user_frame
from optrial.errors import counted, printable

__all__ = ["UserOutput", "collected"]

_TEXTS_SHOWN = 20
"""Number of different texts of a function or class that are shown."""
_NAMES = 200
"""Number of functions and classes that are told apart."""
_TEXT_LENGTH = 300
"""Most characters of a text that are shown."""
_KEPT_LENGTH = 4000
"""Most characters of a text that are kept."""
_SECONDS = 0.3
"""Longest wait for a message while user code computes."""
_DEBUGGERS = {"pdb", "bdb", "cmd", "code", "ipdb"}
"""Modules whose texts are a dialogue with the user."""

T = TypeVar("T")


@contextmanager
def collected(tell: Callable[[str], object]) -> Iterator[UserOutput]:
    """Collect the output of user code in this context.

    Within another such context of the same thread, that one collects it.

    Args:
        tell: called with each message, perhaps from another thread.
    """
    outer = _owner_of(sys.stdout)
    if outer is not None and outer.is_of_this_thread:
        yield outer
        return
    with UserOutput(tell) as output:
        yield output


class UserOutput:
    """Turns the output of user code into messages: `m:Net printed: ...`.

    Replaced are ``sys.stdout``, ``sys.stderr``, the function that shows warnings, and these streams
    in handlers of `logging`; they are restored on exit. Each text is told once, at the next `apart`
    or after a moment. Threads that ran before, and those of optrial, print as before.

    Attributes:
        tell: called with each message.
        runs: names of the runs that are being trained, "" before training.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.tell = tell
        self.runs = ""
        self._thread = threading.current_thread()
        self._process = os.getpid()
        self._foreign = WeakSet(threading.enumerate())
        self._foreign.discard(self._thread)
        self._streams = _Stream(self, 0), _Stream(self, 1)
        self._lock = threading.RLock()
        self._partial: dict[tuple[int, int], _Text] = {}  # without an end yet
        self._known: set[str] = set()
        self._shown, self._left_out = Counter[str](), Counter[str]()
        self._pending: list[str] = []
        self._teller: threading.Thread | None = None
        self._closed = threading.Event()
        self._error: Exception | None = None  # of `tell` in another thread
        self._is_apart = False

    @property
    def is_of_this_thread(self) -> bool:
        """True in the thread that collects, while it does."""
        same = self._thread is threading.current_thread() and self.is_of_this_process
        return same and not self._closed.is_set()

    @property
    def is_of_this_process(self) -> bool:
        """False in a process that user code has forked."""
        return self._process == os.getpid()

    def __enter__(self) -> Self:
        self.originals = sys.stdout, sys.stderr
        self._show_warning = warnings.showwarning
        self._handlers = [
            (handler, stream)
            for handler in _stream_handlers()
            for stream, original in zip(self._streams, self.originals, strict=True)
            if handler.stream is original
        ]
        sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], self._streams)
        warnings.showwarning = self._warn
        for handler, stream in self._handlers:
            handler.setStream(stream)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._closed.set()
        for handler, stream in self._handlers:
            if handler.stream is stream:
                handler.setStream(self.originals[stream.index])
        owner = _owner_of(sys.stdout)
        # Another thread that began to collect meanwhile restores the streams itself.
        if owner is None or owner is self or owner._closed.is_set():
            sys.stdout, sys.stderr = self._earlier()
        if _owner_of(warnings.showwarning) in (None, self):
            warnings.showwarning = self._earlier_warning()
        if self._teller is not None:
            self._teller.join()
        with suppress(Exception) if error is not None else nullcontext():
            self._tell_the_rest()

    def _earlier(self) -> tuple[TextIO, TextIO]:
        """Return the earlier streams, without those of contexts that ended before this one."""
        earlier = self.originals
        while (owner := _owner_of(earlier[0])) is not None and owner._closed.is_set():
            earlier = owner.originals
        return earlier

    def _earlier_warning(self) -> Callable[..., None]:
        earlier = self._show_warning
        while (owner := _owner_of(earlier)) is not None and owner._closed.is_set():
            earlier = owner._show_warning
        return earlier

    def _tell_the_rest(self) -> None:
        for text in self._partial.values():
            self._add(text)
        self._tell_pending()
        for name, count in self._left_out.items():
            self.tell(f"{name}: {counted(count, 'further text')} not shown")

    def around(self, target: T) -> T:
        """Return a function that calls `target` apart, or an object whose methods are called so."""
        if inspect.isroutine(target):
            return cast(T, self._apart_from(target))
        return cast(T, _Apart(target, self._apart_from))

    def _apart_from(self, function: Callable[..., object]) -> Callable[..., object]:
        @wraps(function)
        def called(*arguments: object, **options: object) -> object:
            with self.apart():
                return function(*arguments, **options)

        return called

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Restore the streams in this context, for code that is not of the study, such as hooks.

        Threads that it starts print as before, too. What was collected is told first.
        """
        if not self.is_of_this_thread or self._is_apart:
            yield
            return
        replaced = sys.stdout, sys.stderr, warnings.showwarning
        before = set(threading.enumerate())
        self._is_apart = True
        try:
            sys.stdout, sys.stderr = self.originals
            warnings.showwarning = self._show_warning
            self._tell_pending()
            yield
        finally:
            self._foreign.update(set(threading.enumerate()) - before)
            self.originals, self._show_warning = (sys.stdout, sys.stderr), warnings.showwarning
            sys.stdout, sys.stderr, warnings.showwarning = replaced
            self._is_apart = False

    def flush(self) -> None:
        """Tell what was collected and not told yet."""
        with self.apart():
            pass

    def tell_once(self, message: str, runs: str) -> None:
        """Tell a message of user code in another process, unless it is known.

        Args:
            message: as that process collected it.
            runs: names of the runs that it trains.
        """
        with self._lock:
            self._keep(message.partition(" ")[0], message, runs)

    def _tell_pending(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
        with self._lock:
            messages, self._pending = self._pending, []
        for message in messages:
            self.tell(message)

    def collects(self, frame: FrameType) -> bool:
        """Return whether a text that a frame of this thread writes is of user code."""
        if self._closed.is_set() or not self.is_of_this_process:
            return False
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return False
        thread = threading.current_thread()
        if thread is self._thread:
            return not self._is_apart
        return thread not in self._foreign and not thread.name.startswith("optrial")

    def take(self, stream: int, text: str, frame: FrameType) -> None:
        """Collect a text that a frame writes to a stream: 0 is standard output, 1 is error."""
        key = threading.get_ident(), stream
        with self._lock:
            line = self._partial.pop(key, None)
            if line is None:
                line = _Text(name_of_user_code(frame), "printed", self.runs)
            line.append(text)
            if text.endswith("\n"):
                self._add(line)
            else:
                self._partial[key] = line

    def _warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        frame = sys._getframe(1)
        if file is not None or not self.collects(frame):
            self._show_warning(message, category, filename, lineno, file, line)
            return
        inner = user_frame(frame)
        if inner is not None and is_library_file(filename):
            filename, lineno = inner.f_code.co_filename, inner.f_lineno
        text = _Text(name_of_user_code(frame), "warned", self.runs)
        text.append(f"{category.__name__}: {message}")
        text.place = f" ({short_path(filename)}:{lineno})"
        with self._lock:
            self._add(text)

    def _add(self, text: _Text) -> None:
        """Keep a message for a text, unless it is known or there are too many."""
        known = text.name in self._shown or len(self._shown) < _NAMES
        name = text.name if text.name and known else "user code"
        shown = " ".join(printable(text.start).split())
        if len(shown) > _TEXT_LENGTH:
            shown = f"{shown[: _TEXT_LENGTH - 1]}… ({text.length:,} characters)"
        if shown:
            self._keep(name, f"{name} {text.verb}: {shown}", text.runs, text.place)

    def _keep(self, name: str, message: str, runs: str, place: str = "") -> None:
        if message in self._known:
            return
        if self._shown[name] >= _TEXTS_SHOWN:
            self._left_out[name] += 1
            return
        self._known.add(message)
        self._shown[name] += 1
        self._pending.append(f"{message}{place}{f' ({runs})' if runs else ''}")
        if self._teller is None and not self._closed.is_set():
            self._teller = threading.Thread(
                target=self._tell_at_times, name="optrial-output", daemon=True
            )
            self._teller.start()

    def _tell_at_times(self) -> None:
        """Tell what was collected while user code computes without a pause."""
        while not self._closed.wait(_SECONDS):
            try:
                self._tell_pending()
            except Exception as error:  # noqa: BLE001  the next `flush` raises it
                self._error = error


@dataclass
class _Text:
    """A text of user code: the name of the code, what it did, and the runs that were training."""

    name: str
    verb: str
    runs: str
    place: str = ""
    start: str = ""  # up to `_KEPT_LENGTH` characters
    length: int = 0

    def append(self, text: str) -> None:
        """Add characters; a terminal shows what follows a carriage return."""
        line_start = text.rstrip("\r\n").rfind("\r") + 1
        if line_start:
            self.start, self.length, text = "", 0, text[line_start:]
        self.start += text[: _KEPT_LENGTH - len(self.start)]
        self.length += len(text)


class _Stream:
    """A standard stream whose texts are collected where they are of user code."""

    def __init__(self, owner: UserOutput, index: int) -> None:
        self.owner, self.index = owner, index

    def __getattr__(self, name: str) -> Any:
        return getattr(self.owner.originals[self.index], name)

    @property
    def buffer(self) -> _Bytes:
        """The stream as one of bytes."""
        return _Bytes(self)

    def write(self, text: str) -> int:
        """Collect a text, or write it."""
        frame = sys._getframe(1)
        if self.owner.collects(frame):
            self.owner.take(self.index, text, frame)
        elif (stream := self._original) is not None:
            stream.write(text)
        return len(text)

    @property
    def _original(self) -> TextIO | None:
        # A forked process has no one to tell; standard output is for results there, too.
        return self.owner.originals[self.index if self.owner.is_of_this_process else 1]

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, which have their own ends of lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream itself."""
        if (stream := self._original) is not None:
            stream.flush()

    def isatty(self) -> bool:
        """Return False for user code, so that it draws nothing."""
        stream = self._original
        return stream is not None and not self.owner.collects(sys._getframe(1)) and stream.isatty()

    def close(self) -> None:
        """Leave the stream open, for others use it too."""


class _Bytes:
    """The bytes of a standard stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> int:
        """Collect a text in UTF-8, or write it."""
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)


class _Apart:
    """Calls the methods of another object by a function."""

    def __init__(
        self, target: object, call: Callable[[Callable[..., object]], Callable[..., object]]
    ) -> None:
        self._target, self._call = target, call

    def __getattr__(self, name: str) -> Any:
        return self._call(getattr(self._target, name))


def _owner_of(replacement: object) -> UserOutput | None:
    """Return what collects by a stream or a function that shows warnings."""
    if isinstance(replacement, _Stream):
        return replacement.owner
    method_of = getattr(replacement, "__self__", None)
    return method_of if isinstance(method_of, UserOutput) else None


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler):
                yield handler
