"""Commands about measured speeds, by which `engine: auto` chooses how to train."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from optrial.cli.options import Format
from optrial.cli.output import note, print_table
from optrial.errors import OptrialError

__all__ = ["clear", "show"]


def show(
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Print the speeds that were measured on this machine in the last thirty days."""
    from optrial.engine import speeds_file
    from optrial.records import write_csv, write_json

    rows = _rows()
    if format_ is Format.JSON:
        write_json(rows, sys.stdout)
    elif format_ is Format.CSV:
        write_csv(rows, sys.stdout)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    note(f"{len(rows)} in {speeds_file()}")


def _rows() -> list[dict[str, Any]]:
    """Return one row per engine and stack that was timed."""
    from optrial.engine import kept_speeds

    return [
        {
            "taken": f"{speed.taken:%Y-%m-%d %H:%M}",
            "engine": candidate.get("engine"),
            "model": candidate.get("model"),
            "batch_size": candidate.get("batch_size"),
            "runs": len(candidate.get("rules", ())),
            "ms_per_run_and_step": float(f"{1000 * step:.3g}"),
            "cpu_share": speed.cpu_share,
            "device": speed.machine.get("device"),
            "threads": speed.machine.get("threads"),
            "torch": speed.machine.get("torch"),
            "optrial": speed.machine.get("optrial"),
        }
        for speed in kept_speeds()
        for candidate, step in zip(speed.candidates, speed.seconds[::2], strict=True)
    ]


def clear() -> None:
    """Forget the measured speeds: all are measured again when they are next needed."""
    from optrial.engine import clear_speeds, speeds_file

    try:
        count = clear_speeds()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OptrialError(f"'{speeds_file()}' cannot be removed: {reason}.") from error
    note(f"{count} removed from {speeds_file()}")
