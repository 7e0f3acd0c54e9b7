"""The command line: parses, calls, prints. Nothing else in optrial prints or exits.

Standard output holds results only; progress, notes and errors go to standard error. Exit status:
0 ok, 1 some runs failed, 2 bad input, 124 user code did not return in time, 125 it ended its
process, 130 interrupted, 143 terminated. Commands import their dependencies when they run, so that
help and completion are quick.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from inspect import getdoc
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from optrial.cli import (
    catalogue,
    certify,
    plots,
    problems,
    rates,
    results,
    speeds,
    studies,
    timing,
)
from optrial.cli.output import BAD_INPUT, ENDED, HUNG, end_at_once, fail, note, status_of_signal
from optrial.cli.streams import drop_output, is_of_stream, usable_streams
from optrial.errors import (
    OptrialError,
    Problem,
    StudyError,
    UserCodeError,
    cut,
    one_line,
    printable,
)
from optrial.garbage import collecting_no_garbage
from optrial.interruption import stop_on_signal
from optrial.memory import libraries_problem, out_of_memory

__all__ = ["main"]

_REACTION_SECONDS = 0.5
_STOPPING = "stopping as soon as the running code returns; press Ctrl-C again to stop now"


def _without_types(parameters: list[Any]) -> list[Any]:
    """Return parameters whose help shows no type for arguments and for flags."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda **_: None
        elif getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class _Command(TyperCommand):
    """A command whose help names values as its usage does: ``STUDY``, ``[DIR...]``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters with `--help`."""
        return _without_types(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage after the name of the command."""
        arguments = [
            parameter.metavar if parameter.required else f"[{parameter.metavar}]"
            for parameter in self.get_params(ctx)
            if parameter.param_type_name == "argument"
        ]
        return ["[OPTIONS]", *arguments]


class _Group(TyperGroup):
    """Commands whose messages about the command line show no password."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters with `--help`."""
        return _without_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:  # Typer does not export the class
            if isinstance(message := getattr(error, "message", None), str):
                vars(error)["message"] = printable(message)
            raise


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Controlled, randomised, paired trials of neural-network optimizers.",
    epilog="Start with:  optrial run quickstart",
)
data_app = typer.Typer(
    cls=_Group, no_args_is_help=True, help="Download, verify or locate published datasets."
)
speeds_app = typer.Typer(
    cls=_Group, no_args_is_help=True, help="Show or remove the speeds measured here."
)

_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Run a study": {
        "run": studies.run,
        "plan": studies.plan,
        "worker": studies.worker,
        "samples": problems.samples,
        "model": problems.model,
        "timing": timing.timing,
        "lr-range": rates.lr_range,
    },
    "Read the results": {
        "show": results.show,
        "best": results.best,
        "compare": results.compare,
        "audit": results.audit,
        "report": results.report,
        "figures": results.figures,
        "export": results.export,
        "plot": plots.plot,
        "confusion": plots.confusion,
        "boundary": plots.boundary,
        "runs": results.runs,
        "curves": results.curves,
        "evaluate": results.evaluate,
        "verify": results.verify,
        "upgrade": results.upgrade,
    },
    "Look things up": {
        "list": catalogue.list_names,
        "recipe": catalogue.recipe,
        "explain": catalogue.explain,
        "certify": certify.certify,
        "landscape": catalogue.landscape,
    },
}


def _add(group: typer.Typer, name: str, command: Callable[..., Any], panel: str = "") -> None:
    """Add a command, with one line of help per paragraph of its docstring; a terminal wraps it."""
    paragraphs = [" ".join(part.split()) for part in (getdoc(command) or "").split("\n\n")]
    about, text = paragraphs[0], "\n\n".join(paragraphs)
    group.command(name, cls=_Command, rich_help_panel=panel or None, help=text, short_help=about)(
        command
    )


for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        _add(app, _name, _command, _panel)
for _command in (catalogue.fetch, catalogue.verify, catalogue.path):
    _add(data_app, _command.__name__, _command)
for _command in (speeds.show, speeds.clear):
    _add(speeds_app, _command.__name__, _command)
app.add_typer(data_app, name="data", rich_help_panel="Look things up")
app.add_typer(speeds_app, name="speeds", rich_help_panel="Look things up")


def main() -> None:
    """Run the command line; the module documents the exit statuses."""
    logger = logging.getLogger("optrial")
    level = logger.level  # which --quiet raises
    try:
        # Modules and records are many objects and hardly any reference cycles.
        with usable_streams(), collecting_no_garbage():
            _run("--debug" in sys.argv)
    finally:
        logger.setLevel(level)


def _run(debug: bool) -> None:
    acknowledgement = _Acknowledgement()
    logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())  # its errors are raised too
    try:
        with stop_on_signal(acknowledgement.on_signal):
            try:
                arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
                _check_places(arguments)
                _check_memory(arguments)
                _check_folder(arguments)
                app(args=arguments, prog_name="optrial")
            finally:
                acknowledgement.cancel()
                sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        drop_output()
    except (OptrialError, OSError) as error:
        if debug:
            raise
        text = _message_of_system(error) if isinstance(error, OSError) else str(error)
        fail(text, _status_of(error))
    except KeyboardInterrupt as interruption:
        note("interrupted")
        sys.exit(status_of_signal(*interruption.args))
    except SystemExit:
        raise
    except BaseException as error:
        # When memory runs out, the interpreter also raises SystemError, and threads do not start.
        no_memory = isinstance(error, SystemError) or out_of_memory(error)
        from optrial.code import place_of_error

        place = "" if no_memory else place_of_error(error)
        if debug or (isinstance(error, Exception) and not (no_memory or place)):
            raise
        if no_memory:
            fail(
                "memory ran out. Everything stored so far is kept: free memory, or choose smaller "
                "models or data, and run again."
            )
        where = f", in {place}" if place else ""
        fail(
            f"user code raised {one_line(error)}{where}. Everything stored so far is kept; --debug "
            "shows the traceback."
        )


def _status_of(error: BaseException) -> int:
    """Return the exit status of a command that ends with an error."""
    if isinstance(error, UserCodeError):
        return HUNG if error.timed_out else ENDED
    return BAD_INPUT


def _check_memory(arguments: Sequence[str]) -> None:
    """Refuse to load PyTorch where ``ulimit`` leaves no memory for it."""
    loads_pytorch = bool(arguments) and arguments[0] in _PANELS["Run a study"]
    if loads_pytorch and "--help" not in arguments and (problem := libraries_problem()):
        raise OptrialError(f"{problem}.")


def _check_folder(arguments: Sequence[str]) -> None:
    """Refuse to compute in a folder that was deleted: libraries would end the process."""
    computes = bool(arguments) and arguments[0] in ("certify", *_PANELS["Run a study"])
    if computes and not _has_folder():
        raise OptrialError(_NO_FOLDER)


def _check_places(arguments: Sequence[str]) -> None:
    """Refuse files and folders without a name, and URLs where a command writes files.

    Raises:
        StudyError: `--out` is empty, as an unset shell variable is, or is a URL.
    """
    if arguments[:1] in (["run"], ["plan"]):  # whose results may lie on a server
        return
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for option, value in pairwise(words):
        if option == "--out" and (not value or "://" in value):
            is_not = (
                "is a URL; results on a server are named without --out" if value else "is empty"
            )
            message = f"'{value}' {is_not}. Name a file or folder, or leave it out for the default."
            raise StudyError([Problem("--out", message)], "the command line")


class _Acknowledgement:
    """Says that a signal came, unless the command ends soon; the second one ends the process."""

    def __init__(self) -> None:
        self._message = threading.Timer(_REACTION_SECONDS, note, [_STOPPING])
        self._message.name, self._message.daemon = "optrial-acknowledgement", True

    def on_signal(self, number: int, again: bool) -> None:
        """Called from another thread."""
        if again:
            end_at_once("interrupted", status_of_signal(number))
        self._message.start()

    def cancel(self) -> None:
        """Say nothing any more."""
        self._message.cancel()


def _message_of_system(error: OSError) -> str:
    """Return what a stream or a file failed with."""
    if is_of_stream(error):
        drop_output()
        return f"the output cannot be written: {error.strerror}. Everything stored so far is kept."
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return _NO_FOLDER
    place = f"'{cut(str(error.filename))}': " if error.filename is not None else ""
    return f"{place}{error.strerror or error}"


_NO_FOLDER = "the current folder no longer exists. Change to another one, and run again."


def _has_folder() -> bool:
    """Return whether the current folder exists; it may have been deleted."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    del debug  # read by main
    if version:
        from optrial import __version__

        typer.echo(f"optrial {__version__}")
        raise typer.Exit
