"""Progress in a terminal, on standard error, or in a notebook: counts, best value, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status as Spinner

from optrial.callbacks import Callback
from optrial.errors import counted, printable
from optrial.markup import html_text
from optrial.records import StoreReader
from optrial.spec import Directions, Selection, Status

__all__ = ["DownloadBar", "ProgressBar", "is_notebook", "shows_progress"]

_REFRESH_SECONDS = 0.1
_NOTEBOOK_SECONDS = 0.5
_WINDOW_SECONDS = 30.0
"""Seconds over which the speed is measured that the time left is computed from."""
_BAR_WIDTH = 10


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    current = shell.get_ipython() if shell else None
    return hasattr(current, "kernel")


def shows_progress() -> bool:
    """Return whether someone watches: in a notebook, or a terminal at standard error."""
    return is_notebook() or (sys.stderr is not None and sys.stderr.isatty())


class _Display(Protocol):
    """A place that shows progress: a terminal or a notebook."""

    seconds: float
    """Least time between two updates."""

    def task(self, text: str) -> None:
        """Show work of unknown length."""

    def message(self, text: str) -> None:
        """Show a message that stays."""

    def show(self, share: float, parts: Sequence[str]) -> None:
        """Show the share that is done, and texts, the most important first."""

    def stop(self, summary: str) -> None:
        """Remove everything but messages; `summary` may stay."""


class ProgressBar(Callback):
    """Progress of a study: epochs, runs, the best value so far and the time left.

    It is drawn on standard error, or below the cell of a notebook.

    Args:
        console: where to draw; by default the notebook, or standard error.

    Attributes:
        unfinished: number of runs that are still to be trained.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None and is_notebook():
            self._display: _Display = _Cell()
            self._downloads: Callback = Callback()
        else:
            console = Console(stderr=True, highlight=False) if console is None else console
            self._display, self._downloads = _Terminal(console), DownloadBar(console)
        self._store: StoreReader | None = None
        self._length: tuple[float, str] | None = None  # of a run, with its unit
        self._directions = Directions({})
        self._selection: Selection | None = None
        self._best: float | None = None
        self._past: deque[tuple[float, int]] = deque()  # times and the steps taken until then
        self._runs = self._total = self._steps = 0
        self._started = time.monotonic()
        self._shown_at = 0.0
        self.unfinished = 0

    def on_prepare(self, task: str) -> None:
        """Show a task until training starts."""
        self._display.task(task)

    def on_message(self, text: str) -> None:
        """Show a message above the bar."""
        self._display.message(text)

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """Start the bar of a download."""
        self._downloads.on_file_start(label, total_bytes)

    def on_bytes(self, count: int) -> None:
        """Count bytes."""
        self._downloads.on_bytes(count)

    def on_file_end(self) -> None:
        """Remove the bar of the download."""
        self._downloads.on_file_end()

    def on_start(self, store: StoreReader) -> None:
        """Remember the store, which knows the study once its runs are planned."""
        self._store = store

    def on_plan(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Start a bar that counts recorded steps as done; each wave replaces the bar."""
        study = self._store.study() if self._store else {}
        self._length = _length(study)
        self._directions = Directions.of(study)
        self.unfinished = runs_left
        self._runs, self._total, self._steps = runs, steps, steps - steps_left
        self._past = deque([(time.monotonic(), self._steps)])
        if runs_left:
            self._show()

    def on_step(self, count: int) -> None:
        """Count steps."""
        self._steps += count
        self._show_at_times()

    def on_values(self, run_id: str, step: int, values: Mapping[str, float]) -> None:  # noqa: ARG002
        """Note the best value of the metric that selects settings."""
        self._selection = self._selection or self._directions.selection(values)
        if self._selection is None or self._selection.metric not in values:
            return
        value = values[self._selection.metric]
        score, best = self._selection.score(value), self._selection.score(self._best)
        if score is not None and (best is None or score > best):
            self._best = value

    def on_run_end(self, run_id: str, status: Status, steps_left: int) -> None:  # noqa: ARG002
        """Count a run; steps that it will never take count as done."""
        self.unfinished -= 1
        self._steps += steps_left
        self._show_at_times()

    def on_end(self, error: BaseException | None) -> None:
        """Remove the bar."""
        trained = "" if error or not self._total else counted(self._runs, "run")
        seconds = time.monotonic() - self._started
        self._display.stop(f"{trained} in {_duration(seconds)}" if trained else "")

    def _show_at_times(self) -> None:
        now = time.monotonic()
        if now - self._shown_at >= self._display.seconds:
            self._shown_at = now
            self._past.append((now, self._steps))
            while len(self._past) > 2 and now - self._past[0][0] > _WINDOW_SECONDS:
                self._past.popleft()
            self._show()

    def _show(self) -> None:
        share = self._steps / self._total if self._total else 1.0
        ended = f"{self._runs - self.unfinished:,}/{self._runs:,} runs"
        parts = [self._done(share), self._left(), self._best_text(), ended]
        self._display.show(share, [part for part in parts if part])

    def _done(self, share: float) -> str:
        """Return the epochs taken by all runs, or their steps."""
        if self._length is None or self._length[1] == "steps":
            return f"{self._steps:,}/{self._total:,} steps"
        if self._length[1] == "seconds":  # how many steps these are is not known
            return ""
        total = int(self._length[0]) * self._runs
        return f"{int(share * total):,}/{total:,} epochs"

    def _left(self) -> str:
        if self._length is not None and self._length[1] == "seconds":
            return f"at most {_duration(self._length[0] * self.unfinished)} of training left"
        (first, before), (last, now) = self._past[0], self._past[-1]
        if now <= before or last <= first:
            return ""
        return f"{_duration((self._total - self._steps) * (last - first) / (now - before))} left"

    def _best_text(self) -> str:
        if self._selection is None or self._best is None:
            return ""
        metric = self._selection.metric
        percent = self._directions.percent(metric)
        value = f"{100 * self._best:.1f} %" if percent else f"{self._best:.4g}"
        return f"best {self._directions.title(metric)} {value}"


def _length(study: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the length of each run with its unit; None if problems differ in it."""
    budget, problem = study.get("budget") or {}, study.get("problem")
    entries = problem.values() if isinstance(problem, Mapping) else ()
    if any(isinstance(entry, Mapping) and "budget" in entry for entry in entries):
        return None
    return next(((length, unit) for unit, length in budget.items() if length), None)


def _duration(seconds: float) -> str:
    """Return a time as minutes and seconds, or hours and minutes from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


class _Terminal:
    """Draws one line that is never wider than the terminal."""

    seconds = _REFRESH_SECONDS

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner: Spinner | None = None
        self._bar = Progress(
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1.0)

    def task(self, text: str) -> None:
        self._bar.stop()
        self._stop_spinner()
        self._spinner = self._console.status(escape(printable(text)))
        self._spinner.start()

    def message(self, text: str) -> None:
        whole = not self._console.is_terminal  # a line of a file or a pipe is not wrapped
        self._console.print(
            printable(text), style="dim", markup=False, highlight=False, soft_wrap=whole
        )

    def show(self, share: float, parts: Sequence[str]) -> None:
        self._stop_spinner()
        room = self._console.width - _BAR_WIDTH - 2
        text = ""
        for part in parts:
            longer = f"{text} · {part}" if text else part
            text = longer if len(longer) <= room else text
        self._bar.update(self._task, completed=share, description=escape(printable(text)))
        self._bar.start()

    def stop(self, summary: str) -> None:  # noqa: ARG002  commands print their own
        self._stop_spinner()
        self._bar.stop()

    def _stop_spinner(self) -> None:
        if self._spinner:
            self._spinner.stop()
            self._spinner = None


class _Cell:
    """Draws below the cell of a notebook, which needs no widgets."""

    seconds = _NOTEBOOK_SECONDS

    def __init__(self) -> None:
        self._handle: Any = None

    def task(self, text: str) -> None:
        self._draw(html_text(text))

    def message(self, text: str) -> None:
        logging.getLogger("optrial").warning(text)

    def show(self, share: float, parts: Sequence[str]) -> None:
        bar = f'<progress max="1" value="{share:.3f}"></progress>'
        self._draw(f"{bar} {html_text(' · '.join(parts))}")

    def stop(self, summary: str) -> None:
        if self._handle is not None:
            self._draw(html_text(summary))

    def _draw(self, text: str) -> None:
        display: Any = import_module("IPython.display")  # of the running kernel
        shown = display.HTML(f"<div>{text}</div>")
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)


class DownloadBar(Callback):
    """Progress bar of a download; implements `optrial.data.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_file_start(self, label: str, total_bytes: int) -> None:
        """Start the bar of one file."""
        self._bar = Progress(
            TextColumn("fetching {task.description}"),
            BarColumn(bar_width=_BAR_WIDTH),
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
