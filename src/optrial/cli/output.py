"""Output of commands: results on standard output; notes, progress and errors on standard error."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from optrial.descriptors import kept_descriptors
from optrial.errors import Problem, StudyError, printable
from optrial.files import replacing
from optrial.lines import wrapped

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console
    from rich.table import Table

    from optrial.analysis.view import ProblemView, StudyView

__all__ = [
    "BAD_INPUT",
    "ENDED",
    "FAILED",
    "HUNG",
    "draw",
    "duration",
    "end_at_once",
    "fail",
    "note",
    "print_pairs",
    "print_rows",
    "print_table",
    "prints_apart",
    "save_parquet",
    "say",
    "say_sentence",
    "show_summary",
    "status_of_signal",
    "stderr",
    "width",
    "write",
]

FAILED, BAD_INPUT, HUNG, ENDED = 1, 2, 124, 125
_PAIRS_SHOWN = 4
_LEAST_ROOM = 20  # characters of a line beside a name
_DEPARTURES_SHOWN = 5


def say(text: str, end: str = "\n") -> None:
    """Print a result to standard output."""
    sys.stdout.write(printable(text) + end)


def say_sentence(text: str) -> None:
    """Print a sentence to standard output; a terminal gets it wrapped between words."""
    say(_wrapped(text) if sys.stdout.isatty() else text)


def note(text: str) -> None:
    """Print a line to standard error; a terminal gets it wrapped between words."""
    sys.stdout.flush()
    text = printable(text)
    if sys.stderr.isatty():
        text = _wrapped(text)
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def width() -> int:
    """Return the number of characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def _wrapped(text: str) -> str:
    """Return lines that fit the terminal; a command at the end stays on one line, to be copied."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines.append(wrapped(line, width(), further=indent))
    return "\n".join(lines)


def fail(text: str, status: int = BAD_INPUT) -> NoReturn:
    """Print an error and exit."""
    note(f"error: {text}")
    sys.exit(status)


def end_at_once(text: str, status: int) -> NoReturn:
    """Print a line and end the process and its children, whatever its main thread is doing."""
    with suppress(OSError, ValueError):  # user code closed the stream
        if sys.__stderr__ is not None and sys.__stderr__.isatty():
            os.write(2, b"\x1b[?25h\r\n")  # shows the cursor
        os.write(2, f"{printable(text)}\n".encode())
    try:
        for pid in _descendants():
            with suppress(OSError):  # it has ended
                os.kill(pid, signal.SIGKILL)
    finally:
        os._exit(status)


def _descendants() -> list[int]:
    """Return the ids of the children of this process and of theirs, parents first (Linux)."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it has ended
            parent = int(file.read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    pids = [os.getpid()]
    for pid in pids:
        pids += children.get(pid, ())
    return pids[1:]


def status_of_signal(number: int | None = None) -> int:
    """Return the exit status of a command that a signal stopped; by default, SIGINT."""
    return 128 + (number or signal.SIGINT)


def stderr(quiet: bool) -> Console:
    """Return the console for progress."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False)


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """Yield standard output, or a new file; an existing file is never replaced."""
    if out is None:
        yield sys.stdout
        return
    try:
        with replacing(out, new=True) as partial, partial.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise StudyError([Problem("--out", f"{error.strerror}.")], str(out)) from error
    note(f"wrote {out}")


@contextmanager
def prints_apart() -> Iterator[None]:
    """Redirect the output of user code, and of processes that it starts, to standard error.

    Standard output is for results.
    """
    with redirect_stdout(sys.stderr), _descriptor_apart():
        yield


@contextmanager
def _descriptor_apart() -> Iterator[None]:
    """Make the descriptor of standard output that of standard error, for code that writes to it."""
    with suppress(OSError, ValueError, AttributeError):
        sys.__stdout__.flush()  # type: ignore[union-attr]  # None has no `flush`
    with kept_descriptors():
        with suppress(OSError):
            os.dup2(2, 1)
        try:
            yield
        finally:
            ctypes.CDLL(None).fflush(None)  # code in C has its own buffer


def write(out: Path, text: str) -> None:
    """Write a new file; an existing one is never replaced."""
    with _output(out) as file:
        file.write(text)


def print_rows(
    rows: Sequence[Mapping[str, object]],
    file_format: str = "table",
    out: Path | None = None,
    expendable: Sequence[str] = (),
    spreadsheet: bool = False,
) -> None:
    """Print rows with the same columns, or write them to a file.

    Args:
        rows: one mapping from column to value per row.
        file_format: "table", "csv" or "json"; see `print_table`.
        out: a new file to write instead.
        expendable: columns that a narrow terminal leaves out first.
        spreadsheet: see `write_csv`.

    Raises:
        StudyError: `spreadsheet` with another format than "csv".
    """
    from optrial.records import write_csv, write_json

    if spreadsheet and file_format != "csv":
        message = f"applies to --format csv, not to {file_format}; leave it out."
        raise StudyError([Problem("--spreadsheet", message)], "the command line")
    if file_format == "table" and out is None:
        print_table(list(rows[0]) if rows else [], [list(r.values()) for r in rows], "", expendable)
        return
    with _output(out) as stream:
        if file_format == "json":
            write_json(rows, stream)
        elif file_format == "csv":
            write_csv(rows, stream, spreadsheet=spreadsheet)
        elif rows:
            stream.writelines(_tab_separated(list(rows[0]), [list(r.values()) for r in rows]))


def save_parquet(table: DataFrame, out: Path | None) -> None:
    """Write a table as a Parquet file.

    Raises:
        StudyError: no file is named.
    """
    from optrial.analysis.wide import write_parquet

    if out is None:
        message = "is needed for parquet: --out FILE.parquet."
        raise StudyError([Problem("--out", message)], "the command line")
    write_parquet(table, out)
    note(f"wrote {out}")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str = "",
    expendable: Sequence[str] = (),
    *,
    further: bool = False,
) -> None:
    """Print rows: drawn in a terminal, tab-separated with a header line in a pipe or a file.

    Args:
        columns: headers.
        rows: cells of each row.
        title: text above the table.
        expendable, further: as for `draw`.
    """
    from optrial.report import plain_table

    if sys.stdout.isatty():
        draw(plain_table(columns, rows, title), expendable)
    elif columns:
        sys.stdout.writelines(["\n", printable(title), "\n"] * further)
        sys.stdout.writelines(_tab_separated(columns, rows))


def _tab_separated(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    for row in (columns, *rows) if columns else rows:
        cells = ("" if cell is None else " ".join(printable(str(cell)).split()) for cell in row)
        yield "\t".join(cells) + "\n"


def draw(table: Table, expendable: Sequence[str] = (), *, further: bool = False) -> None:
    """Draw a table without the columns for which the terminal is too narrow.

    In a pipe or a file, the table is complete and tab-separated.

    Args:
        table: the table.
        expendable: headers of the columns to leave out first.
        further: whether it follows another table; in a pipe, an empty line and its title part them.
    """
    from rich.console import Console
    from rich.markup import render

    from optrial.report import cells_of, fit_columns

    if not sys.stdout.isatty():
        title = f"\n{render(str(table.title or '')).plain}\n" * further
        sys.stdout.writelines([printable(title), *_tab_separated(*cells_of(table))])
        return
    console = Console(highlight=False)
    hidden = fit_columns(table, console.width, expendable)
    if table.title:  # rich would wrap it at the width of the table, within words
        say_sentence(render(str(table.title)).plain)
        table.title = None
    console.print(table)
    if hidden:
        names = ", ".join(hidden)
        note(f"too narrow for: {names}; widen the terminal, or pipe the output to see them")


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print pairs of a name and a text below other output, one per line.

    A terminal gets long texts wrapped.
    """
    if not sys.stdout.isatty():
        sys.stdout.writelines(["\n", *_tab_separated((), list(pairs.items()))])
        return
    margin = max(map(len, pairs)) + 2
    room = max(width() - margin, _LEAST_ROOM)
    for key, value in pairs.items():
        first, *others = wrapped(printable(value), room).split("\n")
        say(f"{key:>{margin - 2}}  {first}")
        for line in others:
            say(" " * margin + line)


def show_summary(view: StudyView, quiet: bool) -> None:
    """Print the summary table of each problem and, unless quiet, what it shows."""
    from optrial.analysis.statistics import ranks_sentence
    from optrial.results.tables import titled

    several = len(view.problems) > 1
    for title, problem in titled(view):
        if several and not sys.stdout.isatty():
            say(f"\n{title}")
        _show_problem(problem, title, quiet, named=several)
    _show_targets(view, quiet)
    if not quiet:
        _show_published(view)
    if view.ranks and not quiet:
        note(ranks_sentence(view.ranks))


def _show_problem(problem: ProblemView, title: str, quiet: bool, *, named: bool) -> None:
    """Print the verdict, the summary table, how to read it, and the first comparisons."""
    from optrial.analysis import funnel, missing_values
    from optrial.report import funnel_table, summary_note, summary_table

    flows = funnel(problem.records)
    verdict, *pairs = _statements(problem) or [""]
    if verdict and not quiet:
        note(verdict)
    if sys.stdout.isatty():
        table = summary_table(title, problem.summaries, problem.directions)
        draw(table, [str(column.header) for column in table.columns[3:-1]])
    else:
        _print_summary(problem, named=named)
    if any(flow.phase == "tune" for flow in flows):
        draw(funnel_table(flows), further=True)
    if not quiet:
        reading = summary_note(
            problem.summaries,
            flows,
            problem.select,
            problem.pairing,
            untrained=problem.untrained,
        )
        note(reading)
        for line in [*missing_values(problem.reported), *pairs]:
            note(line)


def _print_summary(problem: ProblemView, *, named: bool) -> None:
    """Print the summary table tab-separated, with the name of each optimizer in all its rows."""
    from optrial.report.print_tables import summary_cells

    columns, rows = summary_cells(problem.summaries, problem.directions)
    if named:
        columns, rows = ["problem", *columns], [[problem.name, *row] for row in rows]
    sys.stdout.writelines(_tab_separated(columns, rows))


def _show_published(view: StudyView) -> None:
    """Print the published values beside the measured ones."""
    from optrial.analysis.reported import agreement

    for problem in view.problems:
        if values := view.published(problem):
            where = f"{problem.name}: " * (len(view.problems) > 1)
            first, *departures = agreement(values)
            note(f"{where}{first}")
            for line in departures[:_DEPARTURES_SHOWN]:
                note(f"  {line}")
            if (more := len(departures) - _DEPARTURES_SHOWN) > 0:
                note(f"  and {more} more; the report lists all")


def _show_targets(view: StudyView, quiet: bool) -> None:
    """Print the time that each optimizer took to each target of the study, if it has any."""
    from optrial.analysis.target_results import target_results
    from optrial.report.tables import target_table, targets_note

    several = len(view.problems) > 1
    results = []
    for problem in view.problems:
        for result in target_results(view, problem):
            draw(target_table(result, problem.name if several else ""), further=True)
            results.append(result)
    if results and not quiet:
        note(targets_note(results))


def _statements(problem: ProblemView) -> list[str]:
    """Return which optimizer is best, and how it compares with the others."""
    from optrial.analysis.statistics import best_sentence, sentence

    if problem.comparisons is None:
        return [problem.not_compared] if problem.not_compared else []
    pairs = [pair for pair in problem.pairs if not pair.all_diverged]  # the first line names these
    best = best_sentence(problem.comparisons, problem.contestants)
    return [best, *(f"  {sentence(pair)}" for pair in pairs[:_PAIRS_SHOWN])]


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
