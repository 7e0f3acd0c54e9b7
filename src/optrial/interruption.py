"""Signals that stop a study: acknowledged at once, whatever the main thread is doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

__all__ = ["STOPPING", "Interrupted", "Stop", "stop_on_signal"]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU)
"""Ctrl-C, a request to end, a closed terminal, and a limit of CPU time (``ulimit -S -t``)."""


class Interrupted(BaseException):
    """A signal interrupts work whose loss costs nothing; user code cannot raise or catch it."""


class Stop(threading.Event):
    """Set when a signal asks to stop.

    Attributes:
        at_once: whether a signal interrupts the work under way, because nothing would be lost.
        number: the first signal; None before it.
        has_interrupted: whether `Interrupted` was raised.
        when_asked: called at the first signal, in the thread that reads signals.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at_once = True
        self.number: int | None = None
        self.has_interrupted = False
        self.when_asked: Callable[[], object] = lambda: None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second one always interrupts."""
        del frame
        again = self.is_set() and _insists(number)
        self.number = self.number or number
        self.set()
        if self.at_once or again:
            self.has_interrupted = True
            raise Interrupted(self.number)


@contextmanager
def stop_on_signal(tell: Callable[[int, bool], object] | None = None) -> Iterator[Stop]:
    """Turn the signals of `STOPPING` into an event, or into an interruption where nothing is lost.

    A thread reads the signals, so that they are acknowledged while the main thread computes.
    Outside the main thread, nothing changes. A signal that the process ignores, as SIGHUP below
    `nohup`, stays ignored. SIGINT does not, because a shell makes every command that it starts in
    the background ignore it.

    Args:
        tell: called in that thread, with each signal and whether it is a further one; by default,
            that of an outer context.

    Raises:
        KeyboardInterrupt: a signal interrupted the work; its argument is the number of the signal.
            Within another such context, `Interrupted` is raised instead.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = {number: signal.getsignal(number) for number in STOPPING}
    within = isinstance(getattr(earlier[signal.SIGINT], "__self__", None), Stop)

    def asked(number: int, again: bool) -> None:
        if tell is not None:
            with suppress(Exception):
                tell(number, again)
        if not again:
            stop.when_asked()

    with nullcontext() if within and tell is None else _signals_read(asked), _ignored() as ignored:
        try:
            for number, handler in earlier.items():
                if number == signal.SIGINT or handler is not signal.SIG_IGN:
                    signal.signal(number, stop.handle)
            yield stop
            if ignored:
                raise ignored[0]
        except BaseException as error:
            # An interruption may lead to another error, such as that of a rollback it cut short.
            led_to_it = stop.has_interrupted and not isinstance(error, SystemExit)
            if not isinstance(error, Interrupted) and not led_to_it:
                raise
            kind = Interrupted if within else KeyboardInterrupt
            first = error.args[0] if isinstance(error, Interrupted) else stop.number
            raise kind(first) from None
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


@contextmanager
def _ignored() -> Iterator[list[Interrupted]]:
    """Collect the interruptions that Python prints and ignores, as in `__del__`."""
    collected: list[Interrupted] = []
    earlier = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            collected.append(unraisable.exc_value)
        else:
            earlier(unraisable)

    sys.unraisablehook = hook
    try:
        yield collected
    finally:
        sys.unraisablehook = earlier


@contextmanager
def _signals_read(tell: Callable[[int, bool], object]) -> Iterator[None]:
    """Call `tell` from a thread for each signal that has a Python handler."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def read() -> None:
        known = False
        while number := int.from_bytes(os.read(reader, 1), "big"):
            if number in STOPPING:
                if not known or _insists(number):
                    with suppress(Exception):  # the study ends anyway
                        tell(number, known)
                known = True

    thread = threading.Thread(target=read, name="optrial-signals", daemon=True)
    thread.start()
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        os.write(writer, b"\0")
        thread.join()
        os.close(reader)
        os.close(writer)


def _insists(number: int) -> bool:
    """Return whether a further signal asks for more.

    A shell repeats that of a closed terminal, and the kernel that of a CPU time limit.
    """
    return number not in (signal.SIGHUP, signal.SIGXCPU)
