"""Progress on a terminal: bars with rates and time left, on standard error."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status as Spinner
from rich.text import Text

from optrial.callbacks import Callback
from optrial.errors import printable
from optrial.spec import Status

__all__ = ["DownloadBar", "ProgressBar"]

_REFRESH_SECONDS = 0.1


class _Rate(ProgressColumn):
    """Training steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "", style="dim")


class ProgressBar(Callback):
    """Progress bar on standard error: runs, steps per second and time left.

    Attributes:
        unfinished: number of runs that are still to be trained.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = Console(stderr=True, highlight=False) if console is None else console
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[ended]}/{task.fields[runs]} runs"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._spinner: Spinner | None = None
        self._steps = 0
        self._shown_at = 0.0
        self.unfinished = 0

    def on_prepare(self, task: str) -> None:
        """Show a task until training starts."""
        self._bar.stop()
        self._stop_spinner()
        self._spinner = self._console.status(escape(printable(task)))
        self._spinner.start()

    def on_message(self, text: str) -> None:
        """Print a message above the bar."""
        self._console.print(printable(text), style="dim", markup=False, highlight=False)

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Start a bar that counts recorded steps as done; each wave replaces the bar."""
        self._stop_spinner()
        self.unfinished = runs_left
        self._runs = runs
        self._steps = steps - steps_left
        for task_id in self._bar.task_ids:
            self._bar.remove_task(task_id)
        if runs_left:
            self._bar.start()
        self._task = self._bar.add_task(
            "", total=steps, completed=self._steps, runs=runs, ended=runs - runs_left
        )

    def on_step(self, count: int) -> None:
        """Count steps; redraw at most ten times per second."""
        self._steps += count
        now = time.monotonic()
        if now - self._shown_at >= _REFRESH_SECONDS:
            self._shown_at = now
            self._bar.update(self._task, completed=self._steps)

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:  # noqa: ARG002
        """Count a run; steps that it will never take count as done."""
        self.unfinished -= 1
        self._steps += steps_left
        self._bar.update(self._task, completed=self._steps, ended=self._runs - self.unfinished)

    def on_end(self, error: BaseException | None) -> None:  # noqa: ARG002
        """Remove the bar."""
        self._stop_spinner()
        self._bar.stop()

    def _stop_spinner(self) -> None:
        if self._spinner:
            self._spinner.stop()


class DownloadBar:
    """Progress bar of a download; implements `optrial.data.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """Start the bar of one file."""
        self._bar = Progress(
            TextColumn("fetching {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(escape(printable(label)), total=total_bytes or None)

    def on_bytes(self, count: int) -> None:
        """Count bytes."""
        self._bar.advance(self._task, count)

    def on_file_end(self) -> None:
        """Remove the bar."""
        self._bar.stop()
