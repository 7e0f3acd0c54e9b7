"""Commands about the measured speeds by which `engine: auto` chooses how to train."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from optrial.cli.options import Format
from optrial.cli.output import note, print_rows
from optrial.errors import OptrialError

__all__ = ["clear", "show"]


def show(
    file_format: Annotated[Format, typer.Option("--format", help="Format of the rows.")] = (
        Format.TABLE
    ),
) -> None:
    """Print the speeds that were measured on this machine in the last 30 days."""
    from optrial.engine import speeds_file

    rows = _rows()
    print_rows(rows, file_format)
    note(f"{len(rows)} in {speeds_file()}")


def _rows() -> list[dict[str, object]]:
    """Return one row per engine and stack that was timed."""
    from optrial.engine import kept_speeds

    return [
        {
            "taken": f"{speed.taken:%Y-%m-%d %H:%M}",
            "age_days": round((datetime.now(UTC) - speed.taken).total_seconds() / 86400, 1),
            "engine": candidate.get("engine"),
            "model": candidate.get("model"),
            "batch_size": candidate.get("batch_size"),
            "runs": len(candidate.get("rules", ())),
            "ms_per_run_and_step": float(f"{1000 * step:.3g}"),
            "cpu_share": speed.cpu_share,
            "device": speed.machine.get("device"),
            "processor": speed.machine.get("processor"),
            "cores": speed.machine.get("cores"),
            "threads": candidate.get("threads") or speed.machine.get("threads"),
            "torch": speed.machine.get("torch"),
            "optrial": speed.machine.get("optrial"),
        }
        for speed in kept_speeds()
        for candidate, step in zip(speed.candidates, speed.seconds[::2], strict=True)
    ]


def clear() -> None:
    """Remove the measured speeds; they are measured again when needed."""
    from optrial.engine import clear_speeds, speeds_file

    try:
        count = clear_speeds()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OptrialError(f"'{speeds_file()}' cannot be removed: {reason}.") from error
    note(f"{count} removed from {speeds_file()}")
