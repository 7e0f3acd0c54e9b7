"""Commands about what optrial knows by name: rules, datasets, functions, shipped studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optrial.cli.options import DataDir, Listing, PageFormat
from optrial.cli.output import note, print_table, stderr, write
from optrial.errors import DataError, Problem, StudyError, suggest

__all__ = ["explain", "fetch", "landscape", "list_", "path", "recipe", "verify"]


def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List rules, datasets, models, recipes, schedules, losses, metrics or probes."""
    from optrial.listings import listing

    print_table(*listing(what))


def recipe(
    name: Annotated[str, typer.Argument(help="Name of a recipe; see: optrial list recipes.")],
    out: Annotated[Path | None, typer.Option(help="File to write instead.")] = None,
) -> None:
    """Print a shipped study, or copy it to a file to make it your own."""
    from optrial.recipes import RECIPES

    if name not in RECIPES:
        raise StudyError([Problem("", f"is not a recipe. {suggest(name, RECIPES)}")], name)
    text = RECIPES[name].read_text(encoding="utf-8")
    if out is None:
        typer.echo(text, nl=False)
        return
    write(out, text)
    note(f"run it with: optrial run {out}")


def explain(
    rules: Annotated[list[str], typer.Argument(metavar="RULE...", help="One or more rules.")],
    format_: Annotated[
        PageFormat, typer.Option("--format", help="How to print.")
    ] = PageFormat.TEXT,
    out: Annotated[Path | None, typer.Option(help="File to write instead.")] = None,
) -> None:
    """Explain update rules: equations, terms, hyperparameters, and how they differ."""
    if format_ is PageFormat.TEXT:
        from optrial.rules import render_explanation

        text = render_explanation(rules)
    else:
        from optrial.explaining import explain_html, explain_markdown

        text = (explain_html if format_ is PageFormat.HTML else explain_markdown)(rules)
    if out is None:
        typer.echo(text)
        return
    write(out, text)


def landscape(
    function: Annotated[str, typer.Argument(help="rosenbrock, beale, ...")] = "rosenbrock",
    optimizers: Annotated[
        str | None, typer.Option(help="sgd:lr=0.001,adam:lr=0.01 \\[default: a few, best rates].")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that each optimizer takes.")] = 200,
    start: Annotated[str | None, typer.Option(help="x,y \\[default: the function's own].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Draw to FILE.html (animated), .png, .pdf or .svg.")
    ] = None,
) -> None:
    """Show which paths optimizers take on a function of two variables."""
    from optrial.landscape import (
        DEFAULT_OPTIMIZERS,
        check_format,
        landscape_rows,
        make_landscape,
        write_landscape,
    )

    if out is not None:
        check_format(out)
    chosen = DEFAULT_OPTIMIZERS if optimizers is None else optimizers
    made = make_landscape(function, chosen, steps, start)
    print_table(*landscape_rows(made), made.title)
    if out is not None:
        write_landscape(made, out)
        note(f"wrote {out}")


def fetch(name: str, data_dir: DataDir = None) -> None:
    """Download a published dataset; replace damaged files."""
    from optrial.data import data_directory
    from optrial.data import fetch as fetch_dataset
    from optrial.report.progress import DownloadBar

    fetch_dataset(name, data_directory(data_dir), DownloadBar(stderr(quiet=False)))
    path(name, data_dir)


def verify(name: str, data_dir: DataDir = None) -> None:
    """Check the files of a published dataset against their checksums."""
    from optrial.data import FileStatus, data_directory
    from optrial.data import verify as verify_dataset

    statuses = verify_dataset(name, data_directory(data_dir))
    print_table(["file", "status"], [[file, status.value] for file, status in statuses.items()])
    if any(status is not FileStatus.OK for status in statuses.values()):
        raise DataError(f"{name} is not complete; to repair it: optrial data fetch {name}")


def path(name: str, data_dir: DataDir = None) -> None:
    """Print where the files of a published dataset are, or would be."""
    from optrial.data import data_directory, files

    for file in files(name, data_directory(data_dir)):
        typer.echo(file)
