"""Hooks that are called while a study trains."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from optrial.records import Store
    from optrial.spec import Status

__all__ = ["Callback", "Callbacks"]

_STOPPING = "stopping after the current step; press Ctrl-C again to stop now"
_LOGGER = logging.getLogger("optrial")


class Callback:
    """Base class for objects that follow a study while it trains.

    Every hook does nothing by default; override the ones you need and pass objects of the class as
    ``callbacks=[...]`` to `Study.run` or `compare`:

        class CountRuns(optrial.Callback):
            finished = 0

            def on_run_end(self, run_id, status, steps_left):
                self.finished += 1

    Hooks are called in the order of the list, in the thread that trains. An exception from a hook
    stops the study; what was committed is kept, and running the study again continues it.
    """

    def on_prepare(self, task: str) -> None:
        """Called before work that may take seconds and precedes training, such as trying models."""

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """Called before a file is downloaded; `total_bytes` is 0 if its size is unknown."""

    def on_bytes(self, count: int) -> None:
        """Called after `count` further bytes of the file."""

    def on_file_end(self) -> None:
        """Called when the download of a file has ended, complete or not."""

    def on_start(self, store: Store) -> None:
        """Called once, with the study's store, before the first wave of training."""

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Called when the runs of a wave are known; a study with `tune` may have several waves.

        Args:
            runs: number of runs in the plan so far.
            steps: their training steps.
            runs_left: runs that are still to be trained.
            steps_left: training steps that are still to be taken.
        """

    def on_step(self, count: int) -> None:
        """Called after `count` further training steps, summed over runs; negative on a restart."""

    def on_values(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Called when values of a run are stored, about once per second.

        Args:
            run_id: id of the run.
            step: steps that it has taken.
            values: the latest value of each metric that was recorded since the last call.
        """

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:
        """Called when a run ends; a run that diverged or failed leaves `steps_left` untrained."""

    def on_message(self, text: str) -> None:
        """Called with a one-line message for the user, perhaps from another thread.

        Messages that no callback takes go to the logger ``optrial``.
        """

    def on_signal(self, number: int, again: bool) -> None:
        """Called at once when SIGINT, SIGTERM, SIGHUP or SIGXCPU asks to stop, from another thread.

        Args:
            number: number of the signal.
            again: whether it is a further signal, which stops without waiting for a step.
        """

    def on_hang(self, reason: str) -> None:
        """Called when a step exceeds `timeout` and cannot be interrupted, from another thread.

        Everything is stored; training continues only if the step ends after all.

        Args:
            reason: the step, its runs and its place in the code.
        """

    def on_end(self, error: BaseException | None) -> None:
        """Called once at the end, with the exception that stopped the study, if any."""


class Callbacks(Callback):
    """Passes each event on to a list of callbacks; `on_end` is called on leaving the context."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._callbacks = list(callbacks)
        if all(type(c).on_message is Callback.on_message for c in self._callbacks):
            self.add(_LogMessages())

    def add(self, callback: Callback) -> None:
        """Append a callback."""
        self._callbacks.append(callback)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.on_end(error)

    def on_prepare(self, task: str) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_prepare(task)

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_file_start(label, total_bytes)

    def on_bytes(self, count: int) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_bytes(count)

    def on_file_end(self) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_file_end()

    def on_start(self, store: Store) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_start(store)

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_plan(runs, steps, runs_left, steps_left)

    def on_step(self, count: int) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_step(count)

    def on_values(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_values(run_id, step, values)

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_run_end(run_id, status, steps_left)

    def on_message(self, text: str) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_message(text)

    def on_signal(self, number: int, again: bool) -> None:
        """Acknowledge the first signal with a message; see `Callback`."""
        if not again:
            self.on_message(_STOPPING)
        for callback in self._callbacks:
            callback.on_signal(number, again)

    def on_hang(self, reason: str) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_hang(reason)

    def on_end(self, error: BaseException | None) -> None:
        """See `Callback`."""
        for callback in self._callbacks:
            callback.on_end(error)


class _LogMessages(Callback):
    """Logs messages as warnings, which Python prints unless logging is configured."""

    def on_message(self, text: str) -> None:
        """Log a message."""
        _LOGGER.warning(text)
