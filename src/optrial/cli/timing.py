"""The command that times the optimizers of a study, each alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli.options import (
    DataDir,
    Device,
    DeviceOption,
    Engine,
    PrecisionOption,
    Settings,
    StudyArgument,
    TableFormat,
    load_study,
)
from optrial.cli.output import FAILED, note, print_table, prints_apart, stderr, write
from optrial.errors import Problem, StudyError, suggest

if TYPE_CHECKING:
    from optrial.analysis.timing import StudyTiming
    from optrial.timing import Told

__all__ = ["timing"]


def timing(
    study: StudyArgument,
    engine: Annotated[Engine, typer.Option(help="Engine to time.")] = Engine.REFERENCE,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    rounds: Annotated[int, typer.Option(min=3, help="Turns of each optimizer.")] = 15,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")
    ] = True,
    settings: Settings = None,
    data_dir: DataDir = None,
    format_: Annotated[TableFormat, typer.Option("--format", help="How to print.")] = (
        TableFormat.TABLE
    ),
    out: Annotated[Path | None, typer.Option(help="FILE.json to write too.")] = None,
    figure: Annotated[Path | None, typer.Option(help="FILE.png, .pdf or .svg to draw.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
) -> None:
    """Time a training step of each optimizer of a study alone, in turns with the others.

    At each batch size and model of the study; learning rates and seeds take the same time. Exit
    status 1 if an optimizer could not be timed.
    """
    _check_files(out, figure)
    from optrial.report.progress import DownloadBar
    from optrial.timing import time_study, write_timing

    with prints_apart():
        loaded = load_study(study, engine, precision, None, settings)
        dataset = loaded.load_data(data_dir, DownloadBar(stderr(quiet)))
        plan = loaded.plan(dataset)
        with _bar(quiet) as told:
            found = time_study(
                plan, dataset, device=device, rounds=rounds, memory=memory, told=told
            )
    _print(found, format_, quiet)
    written = []
    if loaded.default_folder.is_dir():
        written.append(loaded.default_folder / "timing.json")
        write_timing(found, written[-1])
    if figure is not None:
        from optrial.report.style import save_figure
        from optrial.report.timing_figure import timing_figure

        save_figure(timing_figure(found), figure)
        written.append(figure)
    if out is not None:
        write(out, found.as_json())
    for file in written if not quiet else ():
        note(f"wrote {file}")
    if found.failures:
        sys.exit(FAILED)


def _check_files(out: Path | None, figure: Path | None) -> None:
    """Refuse what could not be written before minutes are spent on it.

    Raises:
        StudyError: for everything that is wrong with the files.
    """
    from optrial.report.style import FIGURE_FORMATS

    problems = []
    if out is not None and out.exists():
        problems.append(Problem("--out", f"'{out}' exists and is not replaced; name another file."))
    suffix = figure.suffix.removeprefix(".").lower() if figure else FIGURE_FORMATS[0]
    if suffix not in FIGURE_FORMATS:
        message = f"'{figure}' ends in none of the formats. {suggest(suffix, FIGURE_FORMATS)}"
        problems.append(Problem("--figure", message))
    for name, file in (("--out", out), ("--figure", figure)):
        if file is not None and not file.parent.is_dir():
            problems.append(Problem(name, f"'{file.parent}' is no folder; make it first."))
    if problems:
        raise StudyError(problems, "the timing")


def _print(found: StudyTiming, format_: TableFormat, quiet: bool) -> None:
    from optrial.analysis.timing import reported_times
    from optrial.records import write_csv, write_json
    from optrial.report.timing_table import (
        reported_time_notes,
        reported_time_rows,
        timing_markdown,
        timing_notes,
        timing_records,
        timing_rows,
    )

    times = reported_times(found.reported_seconds, found)
    match format_:
        case TableFormat.JSON:
            write_json(found.as_dict(), sys.stdout)
        case TableFormat.CSV:
            write_csv(timing_records(found), sys.stdout)
        case TableFormat.MARKDOWN:
            typer.echo(timing_markdown(found), nl=False)
        case TableFormat.TABLE:
            print_table(*timing_rows(found), found.study)
            if times:
                print_table(*reported_time_rows(times), "Published and measured times")
    for line in found.failures if quiet else timing_notes(found):
        note(line)
    for line in reported_time_notes(times) if times and not quiet else ():
        note(line)


@contextmanager
def _bar(quiet: bool) -> Iterator[Told]:
    """Show what is being done and the time that is left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(
        *columns, TextColumn("left"), TimeLeft(), console=stderr(quiet), transient=True
    )
    tasks: dict[str, TaskID] = {}

    def told(doing: str, done: int, total: int) -> None:
        if doing not in tasks:
            for task in tasks.values():
                progress.remove_task(task)
            tasks.clear()
            tasks[doing] = progress.add_task(doing, total=total)
        progress.update(tasks[doing], completed=done)

    with progress:
        yield told
