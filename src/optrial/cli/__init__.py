"""The command line: parses, calls, prints. Nothing else in optrial prints or exits.

Standard output holds results only; progress, notes and errors go to standard error. Exit status:
0 ok, 1 some runs failed, 2 bad input, 130 interrupted. A command imports what it needs when it
runs, so that help is there at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from optrial.cli import catalogue, results, speeds, studies, timing
from optrial.cli.output import INTERRUPTED, fail, note
from optrial.errors import OptrialError

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Controlled, randomised, paired trials of neural-network optimizers.",
    epilog="Start with:  optrial run quickstart",
)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, verify or locate published datasets.")
speeds_app = typer.Typer(no_args_is_help=True, help="Show or clear speeds measured here.")
for group, commands in {
    app: (
        *(studies.run, studies.plan),
        *(results.show, results.report, results.figures, results.runs, results.curves),
        *(results.compare, results.audit, results.evaluate, timing.timing),
        *(catalogue.list_, catalogue.recipe, catalogue.explain, catalogue.landscape),
    ),
    data_app: (catalogue.fetch, catalogue.verify, catalogue.path),
    speeds_app: (speeds.show, speeds.clear),
}.items():
    for command in commands:
        group.command(command.__name__.rstrip("_"))(command)
app.add_typer(data_app, name="data")
app.add_typer(speeds_app, name="speeds")


def main() -> None:
    """Run the command line; see the module for exit statuses."""
    debug = "--debug" in sys.argv
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except OptrialError as error:
        if debug:
            raise
        fail(str(error))
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del debug  # read by main
    if version:
        from optrial import __version__

        typer.echo(f"optrial {__version__}")
        raise typer.Exit
