"""The command `optrial lr-range`: losses of each optimizer while its learning rate grows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optrial.cli.options import (
    DataDir,
    Device,
    DeviceOption,
    Format,
    PrecisionOption,
    QuietOption,
    Settings,
    StudyArgument,
    TrustOption,
    figure_file,
    load_study,
)
from optrial.cli.output import note, print_rows, prints_apart, stderr

__all__ = ["lr_range"]


def lr_range(
    study: StudyArgument,
    low: Annotated[
        float, typer.Option(metavar="RATE", help="Learning rate of the first step.")
    ] = 1e-6,
    high: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate of the last step \\[default: 1 or 100, by the rule].",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=30, metavar="N", help="Number of steps.")] = 200,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    problem: Annotated[
        str | None, typer.Option(metavar="NAME", help="Problem \\[default: the first].")
    ] = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    file_format: Annotated[Format, typer.Option("--format", help="Format of the rows.")] = (
        Format.TABLE
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=figure_file,
            help="FILE.png, .pdf or .svg \\[default: NAME-lr-range.png].",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train each optimizer while its learning rate grows, and show where the loss falls.

    `steepest` is the rate at which the loss falls fastest, `lowest` that of the least loss,
    `bursts` that from which it explodes, and `lr` a range to tune in. Draws the losses.
    """
    from optrial.lr_range.figure import lr_range_figure
    from optrial.report.progress import DownloadBar
    from optrial.style import save_figure

    with prints_apart():
        loaded = load_study(study, None, precision, None, settings, trust, quiet=quiet)
        dataset = loaded.load_data(data_dir, DownloadBar(stderr(quiet)), problem)
        test = loaded.lr_range(
            dataset, low=low, high=high, steps=steps, device=device, problem=problem
        )
    print_rows(list(test.rows()), file_format, expendable=["bursts", "lowest"])
    file = out or Path(f"{loaded.default_folder.name}-lr-range.png")
    save_figure(lr_range_figure(test), file)
    if not quiet:
        note(f"wrote {file}")
