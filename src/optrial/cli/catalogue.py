"""Commands for named things: rules, datasets, functions, recipes."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from optrial.cli import complete
from optrial.cli.options import DataDir, OutOption, PageFormat, check_place
from optrial.cli.output import note, print_table, say, stderr, write
from optrial.errors import DataError, Problem, StudyError, suggest

__all__ = ["explain", "fetch", "landscape", "list_names", "path", "recipe", "verify"]

MOST_COLUMNS = 88
"""Wider lines are hard to read."""


DatasetArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of a published dataset.", autocompletion=complete.datasets
    ),
]


def list_names(
    catalogue: Annotated[
        str,
        typer.Argument(
            metavar="CATALOGUE",
            help="rules, modifiers, models, datasets, losses, metrics, probes, schedules, recipes.",
            autocompletion=complete.catalogues,
        ),
    ],
) -> None:
    """List the names that a study may use."""
    from optrial.listings import LISTINGS

    if catalogue not in LISTINGS:
        raise StudyError(
            [Problem("", f"is not a catalogue. {suggest(catalogue, LISTINGS)}")], catalogue
        )
    print_table(*LISTINGS[catalogue]())


def recipe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of a recipe; see: optrial list recipes.",
            autocompletion=complete.recipes,
        ),
    ],
    out: OutOption = None,
) -> None:
    """Print a shipped study, or copy it to a file that you can edit."""
    from optrial.recipes import RECIPES

    if name not in RECIPES:
        raise StudyError([Problem("", f"is not a recipe. {suggest(name, RECIPES)}")], name)
    text = RECIPES[name].read_text(encoding="utf-8")
    if out is None:
        say(text, end="")
        return
    write(out, text)
    note(f"run it with: optrial run {out}")


def explain(
    rules: Annotated[
        list[str],
        typer.Argument(
            metavar="RULE...", help="One or more rules or modifiers.", autocompletion=complete.rules
        ),
    ],
    file_format: Annotated[
        PageFormat, typer.Option("--format", help="Format of the page.")
    ] = PageFormat.TEXT,
    out: OutOption = None,
) -> None:
    """Explain update rules and modifiers: equations, hyperparameters, cost, and how they differ."""
    match file_format:
        case PageFormat.HTML:
            from optrial.explain.page import explanation_html

            text = explanation_html(rules)
        case PageFormat.MARKDOWN:
            from optrial.explain.page import explanation_markdown

            text = explanation_markdown(rules)
        case PageFormat.TEXT:
            from optrial.explain.text import explanation_text

            text = explanation_text(rules, min(shutil.get_terminal_size().columns, MOST_COLUMNS))
    if out is not None:
        write(out, text)
        return
    if file_format is PageFormat.TEXT and sys.stdout.isatty():
        text = re.sub(r"(?m)^\S.*$", lambda heading: typer.style(heading[0], bold=True), text)
    sys.stdout.write(f"{text}\n")


def landscape(
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="rosenbrock, beale, himmelblau, ...",
            autocompletion=complete.functions,
        ),
    ] = "rosenbrock",
    optimizers: Annotated[
        str | None,
        typer.Option(
            metavar="RULES", help="sgd:lr=0.1,adam:lr=best \\[default: four rules, best rates]."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of each optimizer.")] = 200,
    start: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Starting point \\[default: the function's own]."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw to FILE.html or .gif (animated), .png, .pdf or .svg."
        ),
    ] = None,
) -> None:
    """Show the paths of optimizers on a function of two variables."""
    from optrial.explain.landscape import landscape_rows, make_landscape

    if out is not None:
        from optrial.explain.files import check_format, write_landscape

        check_format(out)
        check_place(out, "--out")
    result = make_landscape(function, optimizers, steps, start)
    print_table(*landscape_rows(result), result.title)
    if out is not None:
        write_landscape(result, out)
        note(f"wrote {out}")


def fetch(name: DatasetArgument, data_dir: DataDir = None) -> None:
    """Download a published dataset, and replace damaged files."""
    from optrial.data import DATASETS, data_directory
    from optrial.data import fetch as fetch_dataset
    from optrial.report.progress import DownloadBar

    fetch_dataset(name, data_directory(data_dir), DownloadBar(stderr(quiet=False)))
    note(f"source: {DATASETS[name].source}; licence: {DATASETS[name].licence}")
    path(name, data_dir)


def verify(name: DatasetArgument, data_dir: DataDir = None) -> None:
    """Check the files of a published dataset against their checksums."""
    from optrial.data import FileStatus, data_directory
    from optrial.data import verify as verify_dataset

    statuses = verify_dataset(name, data_directory(data_dir))
    print_table(["file", "status"], [[file, status.value] for file, status in statuses.items()])
    if any(status is not FileStatus.OK for status in statuses.values()):
        raise DataError(f"{name} is not complete; to repair it: optrial data fetch {name}")


def path(name: DatasetArgument, data_dir: DataDir = None) -> None:
    """Print the paths of a published dataset's files, downloaded or not."""
    from optrial.data import data_directory, files

    for file in files(name, data_directory(data_dir)):
        say(str(file))
