"""The command `optrial timing`: times the optimizers of a study, each alone."""

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
    QuietOption,
    Settings,
    StudyArgument,
    TableFormat,
    TrustOption,
    load_study,
)
from optrial.cli.output import FAILED, note, print_table, prints_apart, say, stderr, write
from optrial.errors import Problem, StudyError

if TYPE_CHECKING:
    from optrial.timing import StudyTiming
    from optrial.timing.measure import Progress

__all__ = ["timing"]


def timing(
    study: StudyArgument,
    engine: Annotated[
        list[Engine] | None,
        typer.Option(
            "--engine",
            metavar="ENGINE",
            help="stacked, reference or numpy \\[default: reference]. Repeatable: several are "
            "timed beside each other.",
        ),
    ] = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    rounds: Annotated[
        int, typer.Option(min=3, metavar="N", help="Number of turns of each optimizer.")
    ] = 15,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Measure peak memory too.")
    ] = True,
    problem: Annotated[
        str | None, typer.Option(metavar="NAME", help="Problem to time \\[default: the first].")
    ] = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    file_format: Annotated[
        TableFormat,
        typer.Option("--format", metavar="FORMAT", help="table, json, csv or markdown."),
    ] = TableFormat.TABLE,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file to write as well.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="FILE.png, .pdf or .svg to draw.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Time a training step of each optimizer of a study.

    Optimizers take turns, and every batch size and model of the study is timed.
    Exit status 1 if an optimizer could not be timed.
    """
    _check_files(out, figure)
    from optrial.report.progress import DownloadBar
    from optrial.supervision import supervised
    from optrial.timing import write_timing
    from optrial.timing.measure import time_study

    with prints_apart():
        engines = list(dict.fromkeys(engine or [Engine.REFERENCE]))
        loaded = load_study(study, engines[0], precision, None, settings, trust, quiet=quiet)
        dataset = loaded.load_data(data_dir, DownloadBar(stderr(quiet)), problem)
        plan = loaded.plan_on(problem, dataset)
        with _progress_bar(quiet) as bar, supervised("timing steps") as output:
            progress = output.around(bar)
            times = time_study(
                plan,
                dataset,
                device=device,
                engines=[one.value for one in engines],
                rounds=rounds,
                memory=memory,
                progress=progress,
            )
    _print(times, file_format, quiet)
    if out is not None:
        write(out, times.as_json())
    written = []
    if loaded.default_folder.is_dir():
        written.append(loaded.default_folder / "timing.json")
        write_timing(times, written[-1])
    if figure is not None:
        from optrial.style import save_figure
        from optrial.timing.figure import timing_figure

        save_figure(timing_figure(times), figure)
        written.append(figure)
    for file in written if not quiet else ():
        note(f"wrote {file}")
    if times.failures:
        sys.exit(FAILED)


def _check_files(out: Path | None, figure: Path | None) -> None:
    """Check that the files can be written, before minutes are spent on timing.

    Raises:
        StudyError: they cannot; lists every problem.
    """
    from optrial.files import why_not_written
    from optrial.style import FIGURE_FORMATS, unknown_suffix

    messages: list[tuple[str, str]] = []
    if out is not None:
        exists = f"'{out}' exists and is not replaced; name another file." if out.is_file() else ""
        messages += [("--out", why_not_written(out)), ("--out", exists)]
    if figure is not None:
        suffix = figure.suffix.removeprefix(".").lower()
        unknown = unknown_suffix(suffix, FIGURE_FORMATS)
        messages += [
            ("--figure", unknown * (suffix not in FIGURE_FORMATS)),
            ("--figure", why_not_written(figure)),
        ]
    problems = [Problem(option, message) for option, message in messages if message]
    if problems:
        raise StudyError(problems, "the timing")


def _print(times: StudyTiming, file_format: TableFormat, quiet: bool) -> None:
    from optrial.records import write_csv, write_json
    from optrial.timing import reported_times
    from optrial.timing.markdown import timing_markdown
    from optrial.timing.table import (
        reported_time_notes,
        reported_time_rows,
        timing_expendable,
        timing_notes,
        timing_records,
        timing_rows,
    )

    published = reported_times(times.reported_seconds, times)
    match file_format:
        case TableFormat.JSON:
            write_json(times.as_dict(), sys.stdout)
        case TableFormat.CSV:
            write_csv(timing_records(times), sys.stdout)
        case TableFormat.MARKDOWN:
            say(timing_markdown(times), end="")
        case TableFormat.TABLE:
            print_table(*timing_rows(times), times.study, timing_expendable(times))
            if published:
                columns, rows = reported_time_rows(published)
                print_table(columns, rows, "Published and measured times", further=True)
    for line in times.failures if quiet else timing_notes(times):
        note(line)
    for line in reported_time_notes(published) if published and not quiet else ():
        note(line)


@contextmanager
def _progress_bar(quiet: bool) -> Iterator[Progress]:
    """Show the current stage and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bar
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Bar(*columns, TextColumn("left"), TimeLeft(), console=stderr(quiet), transient=True)
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            for task in tasks.values():
                bar.remove_task(task)
            tasks.clear()
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done)

    with bar:
        yield show
