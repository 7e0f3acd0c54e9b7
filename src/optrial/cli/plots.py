"""Commands that draw one figure of the results of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli import complete
from optrial.cli.options import CurveUnit, FigureFile, load_results, place_of
from optrial.cli.output import note
from optrial.errors import Problem, StudyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME",
        help="An optimizer to draw, or one setting of it: 'adam lr=0.01'. Repeatable.",
    ),
]
Stores = Annotated[
    list[str],
    typer.Argument(
        metavar="DIR...",
        help="Folders of studies, or their names in studies/; several are drawn together.",
        autocompletion=complete.folders,
    ),
]


def plot(
    stores: Stores,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric to draw \\[default: the reported one]. Repeatable: metrics of one kind "
            "share a panel.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    x: Annotated[CurveUnit, typer.Option("--x", help="Unit of the horizontal axis.")] = (
        CurveUnit.STEPS
    ),
    smooth: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Moving mean of N recorded values, over the faint line of the values.",
        ),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--ylim", metavar="LOW:HIGH", help="Ends of the vertical axis; either may be missing."
        ),
    ] = None,
    only: Only = None,
    problem: Annotated[
        list[str] | None, typer.Option(help="Problem to draw \\[default: all]. Repeatable.")
    ] = None,
    out: FigureFile = None,
) -> None:
    """Draw curves of one or several studies, by step or by epoch.

    A line is the mean over seeds, with its 95 % interval; circles are published values.
    """
    ends = _limits(limits)
    first, *others = (load_results(store) for store in stores)
    figure = first.curves_figure(
        metric or None,
        problem or None,
        x=x.value,
        smooth=smooth,
        limits=ends,
        only=only or (),
        beside=others,
    )
    _save(figure, out, Path(place_of(stores[0])), "curves")


def _limits(text: str | None) -> tuple[float | None, float | None]:
    """Read LOW:HIGH.

    Raises:
        StudyError: it is something else.
    """
    try:
        low, high = (float(end) if end else None for end in (text or ":").split(":"))
    except ValueError:
        message = f"'{text}': must be LOW:HIGH, such as 0.5:3, 0.5: or :3."
        raise StudyError([Problem("--ylim", message)]) from None
    if low is not None and high is not None and not low < high:
        raise StudyError([Problem("--ylim", f"'{text}': the first must be less than the second.")])
    return low, high


def _save(figure: Figure, out: Path | None, place: Path, name: str) -> None:
    """Write a figure, by default into the folder of its study."""
    from optrial.style import save_figure

    file = out or (place / "figures" if place.is_dir() else Path()) / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, file)
    note(f"wrote {file}")
