"""User code that hangs: reported by a thread, and interrupted after a time limit."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Self

from optrial.code import place_in_user_code, user_frame

__all__ = ["TimedOut", "Watch"]

PATIENCE = 30.0
"""Seconds without a step after which a training is reported, if steps usually take less.

Other work, such as loading the data, is reported after as long."""
GRACE_SECONDS = 10.0
"""Seconds in which an interrupted step must end."""

_UNUSUAL = 20  # times the longest time between two pauses so far
_LOOK_SECONDS = 0.2
_AGAIN_SECONDS = 2.0  # between two interruptions of the same step
_SIGNAL = signal.SIGURG  # ignored by default, and used by hardly any program


class TimedOut(BaseException):
    """Work took longer than its `timeout`; user code is not expected to catch it.

    Attributes:
        is_step: whether a single step took longer, perhaps because of one run of a stack.
    """

    def __init__(self, reason: str, *, is_step: bool) -> None:
        super().__init__(reason)
        self.is_step = is_step


class Watch:
    """Watches a thread: says where it hangs, and interrupts steps of training after a limit.

    Enter it in the thread to watch. A step can be interrupted in the main thread alone.

    Args:
        tell: called with a message about work that hangs, from another thread.
        timeout: seconds that a step may take, with its evaluation, or other work that is limited;
            None for no limit.
        give_up: called from another thread, with the reason, if a step took longer and does not end
            when it is interrupted.
    """

    def __init__(
        self,
        tell: Callable[[str], object],
        timeout: float | None = None,
        give_up: Callable[[str], object] = lambda reason: None,  # noqa: ARG005
    ) -> None:
        self._tell = tell
        self._timeout = timeout
        self._give_up = give_up
        self._gate = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="optrial-watch", daemon=True)
        self._trainer = threading.get_ident()
        self._runs = ""
        self._step: Callable[[], str] = str
        self._task = ""  # other work under way
        self._is_limited = False
        self._since: float | None = None  # when the work under way began; None between
        self._longest = 0.0
        self._next_report = PATIENCE
        self._interrupted_at: float | None = None
        self._signalled_at = 0.0
        self._reason = ""

    def __enter__(self) -> Self:
        self._trainer = threading.get_ident()
        if self._interrupts:
            self._earlier = signal.signal(_SIGNAL, self._handle)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        if self._interrupts:
            signal.signal(_SIGNAL, self._earlier)

    @property
    def _interrupts(self) -> bool:
        return self._timeout is not None and self._trainer == threading.main_thread().ident

    def begin(self, runs: str, step: Callable[[], str]) -> None:
        """Begin to watch another training.

        Args:
            runs: names of its runs.
            step: returns its last step, such as "after step 3 of 40".
        """
        self._runs, self._step, self._longest = runs, step, 0.0

    @contextmanager
    def busy(self, task: str, *, limited: bool = False) -> Iterator[None]:
        """Watch other work than a training in this context; it does not count as outer work.

        Args:
            task: the work, such as "loading the data".
            limited: whether the limit applies.

        Raises:
            TimedOut: limited work took longer than the limit.
        """
        began = time.monotonic()
        with self._gate:
            before = self._task, self._is_limited, self._next_report
            outer = self._since
            self._task, self._is_limited, self._next_report = task, limited, PATIENCE
            self._since = began
        try:
            yield
        finally:
            with self._gate:
                self._task, self._is_limited, self._next_report = before
                self._since = None if outer is None else outer + time.monotonic() - began
                self._interrupted_at = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Watch a step in this context.

        Raises:
            TimedOut: it took longer than the limit.
        """
        with self._gate:
            self._task, self._is_limited, self._since = "", True, time.monotonic()
            self._next_report = max(PATIENCE, _UNUSUAL * self._longest)
        try:
            yield
        finally:
            self.rest()

    def pauses(self, training: Iterator[None], *, first: bool) -> Iterator[None]:
        """Watch a training from one of its pauses to the next.

        Args:
            training: yields at each pause.
            first: whether to watch until its first pause too, during which it may compile.
        """
        watches = first
        while True:
            with self.working() if watches else nullcontext():
                try:
                    next(training)
                except StopIteration:
                    return
            with self.busy("work between two steps"):
                yield
            watches = True

    def rest(self) -> None:
        """Watch no longer, until the next work."""
        try:
            self._stop_watching()
        except TimedOut:  # an interruption that was under way
            self._stop_watching()
            raise

    def _stop_watching(self) -> None:
        with self._gate:
            if self._since is not None:
                self._longest = max(self._longest, time.monotonic() - self._since)
            self._since = self._interrupted_at = None

    def _look(self) -> None:
        pause = min(_LOOK_SECONDS, (self._timeout or _LOOK_SECONDS) / 4)
        while not self._closed.wait(pause):
            with self._gate:
                if self._since is None:
                    continue
                seconds = time.monotonic() - self._since
                report = ""
                if self._is_limited and self._timeout is not None and seconds > self._timeout:
                    self._interrupt()
                elif seconds > self._next_report:
                    self._next_report *= 2
                    report = self._report(seconds)
            if report:
                self._tell(report)

    def _report(self, seconds: float) -> str:
        if self._task:
            runs = f" ({self._runs})" if self._runs else ""
            return f"{self._task} has taken {seconds:.0f} s so far{runs}{self._place()}"
        return f"no step for {seconds:.0f} s {self._step()} ({self._runs}){self._place()}"

    def _place(self) -> str:
        """Return where the trainer is; within a task, only if that is user code."""
        frame = sys._current_frames().get(self._trainer)
        if self._task and user_frame(frame) is None:
            return ""
        place = place_in_user_code(frame)
        return f", in {place}" if place else ""

    def _interrupt(self) -> None:
        """Interrupt the step under way, again and again; give up after a grace period."""
        now = time.monotonic()
        if self._interrupted_at is None:
            self._interrupted_at = self._signalled_at = now
            step = "" if self._task else f", {self._step()}"
            self._reason = (
                f"{self._task or 'a step'} took longer than timeout {self._timeout:g} s"
                f"{step}{self._place()}"
            )
        elif now - self._interrupted_at > GRACE_SECONDS:
            self._interrupted_at = float("inf")  # give up once
            self._give_up(self._reason)
        if self._interrupts and now >= self._signalled_at:
            self._signalled_at = now + _AGAIN_SECONDS
            signal.pthread_kill(self._trainer, _SIGNAL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._interrupted_at is not None:
            raise TimedOut(self._reason, is_step=True)
