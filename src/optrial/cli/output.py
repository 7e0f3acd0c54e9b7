"""What commands print: results on standard output; notes, progress and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from optrial.errors import Problem, StudyError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "BAD_INPUT",
    "FAILED",
    "INTERRUPTED",
    "duration",
    "fail",
    "note",
    "output",
    "print_pairs",
    "print_table",
    "prints_apart",
    "show_summary",
    "stderr",
    "stdout",
    "write",
]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_PAIRS_SHOWN = 4


def note(text: str) -> None:
    """Print a line for people, not for programs that read results."""
    typer.echo(text, err=True)


def fail(text: str) -> NoReturn:
    """Say what was wrong with the input, and exit."""
    typer.echo(f"error: {text}", err=True)
    sys.exit(BAD_INPUT)


def stdout() -> Console:
    """Return the console for results."""
    from rich.console import Console

    # Without a terminal there is no width to keep: nothing is cut or folded.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def stderr(quiet: bool) -> Console:
    """Return the console for progress."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False)


@contextmanager
def output(out: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a new file; one that is there is never replaced."""
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise StudyError([Problem("--out", f"{error.strerror}.")], str(out)) from error
    note(f"wrote {out}")


@contextmanager
def prints_apart() -> Iterator[None]:
    """Redirect the output of user code to standard error; standard output is for results."""
    with redirect_stdout(sys.stderr):
        yield


def write(out: Path, text: str) -> None:
    """Write a new file; one that is there is never replaced."""
    with output(out) as file:
        file.write(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print rows as a table of a terminal."""
    from optrial.report import plain_table

    stdout().print(plain_table(columns, rows, title))


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print what is known of one thing, a line each."""
    width = max(map(len, pairs))
    for key, value in pairs.items():
        typer.echo(f"{key:>{width}}  {value}")


def show_summary(results: Any, quiet: bool) -> None:
    """Print the summary table and, unless quiet, what may be said of the optimizers."""
    from optrial.analysis import funnel, missing_values
    from optrial.report import funnel_table, summary_note, summary_table

    summaries, flows = results.settings(), funnel(results.records)
    directions, selection = results.directions, results.selection
    stdout().print(summary_table(results.study.get("name", ""), summaries, directions))
    if any(flow.phase == "tune" for flow in flows):
        stdout().print(funnel_table(flows))
    if not quiet:
        select = selection.metric if selection else None
        note(summary_note(summaries, flows, select))
        for line in missing_values(results.reported):
            note(line)
        for line in _statements(results):
            note(line)
    _show_targets(results, quiet)


def _show_targets(results: Any, quiet: bool) -> None:
    """Print the time that each optimizer took to each target of the study, if it has any."""
    from optrial.analysis.target_results import target_results
    from optrial.report.tables import target_table, targets_note

    view = results.view()
    for problem in view.problems:
        results_of_problem = target_results(view, problem)
        for result in results_of_problem:
            stdout().print(target_table(result, problem.name if len(view.problems) > 1 else ""))
        if results_of_problem and not quiet:
            note(targets_note(results_of_problem))


def _statements(results: Any) -> list[str]:
    """What may be said of the optimizers: which is best, and how it stands to the others."""
    from optrial.analysis.statistics import best_sentence, sentence

    lines = []
    for problem in results.view().problems:
        if problem.comparisons is None:
            lines.append(problem.not_compared)
            continue
        lines.append(best_sentence(problem.comparisons, problem.compared))
        told = [pair for pair in problem.pairs if not pair.all_diverged]  # the others just were
        lines += [f"  {sentence(pair)}" for pair in told[:_PAIRS_SHOWN]]
    return [line for line in lines if line]


def duration(seconds: float) -> str:
    """Return seconds, minutes or hours, as one would say them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
