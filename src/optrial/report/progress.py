"""Progress on a terminal: bars with rates and time left, on standard error."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
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
from rich.status import Status
from rich.text import Text

__all__ = ["DownloadBar", "SweepBar"]

_REFRESH_SECONDS = 0.1


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "", style="dim")


class SweepBar:
    """Shows a sweep: runs done, steps a second, time left. A `optrial.sweep.Watcher`.

    Attributes:
        interrupted: whether runs were left when the sweep ended.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[ended]}/{task.fields[runs]} runs"),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._status: Status | None = None
        self._steps = 0
        self._left = 0
        self._shown_at = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether runs were left when the sweep ended."""
        return self._left > 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()
        self._bar.stop()

    def preparing(self, text: str) -> None:
        """Say what goes on before training, until it starts."""
        self._bar.stop()
        if self._status:
            self._status.stop()
        self._status = self._console.status(text)
        self._status.start()

    def noted(self, text: str) -> None:
        """Print something that the user should know."""
        self._console.print(text, style="dim", markup=False, highlight=False)

    def started(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Begin the bar at what is recorded already; each wave of a plan starts it anew."""
        if self._status:
            self._status.stop()
        self._left = runs_left
        self._runs = runs
        self._steps = steps - steps_left
        for task_id in self._bar.task_ids:
            self._bar.remove_task(task_id)
        if runs_left:
            self._bar.start()
        self._task = self._bar.add_task(
            "", total=steps, completed=self._steps, runs=runs, ended=runs - runs_left
        )

    def stepped(self, count: int) -> None:
        """Count steps; draw at most ten times a second."""
        self._steps += count
        now = time.monotonic()
        if now - self._shown_at >= _REFRESH_SECONDS:
            self._shown_at = now
            self._bar.update(self._task, completed=self._steps)

    def ended(self, status: str, steps_left: int) -> None:
        """Count a run; the steps it will not take any more count as done."""
        if status != "interrupted":
            self._left -= 1
            self._steps += steps_left
        self._bar.update(self._task, completed=self._steps, ended=self._runs - self._left)


class DownloadBar:
    """Shows a download: size, rate, time left. A `optrial.data.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, label: str, total_bytes: int) -> None:
        """Begin a bar for one file."""
        self._bar = Progress(
            TextColumn("fetching {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(label, total=total_bytes or None)

    def advanced(self, count: int) -> None:
        """Count bytes."""
        self._bar.advance(self._task, count)

    def finished(self) -> None:
        """Take the bar away."""
        self._bar.stop()
