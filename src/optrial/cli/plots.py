"""Commands that draw one figure of the results of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli import complete
from optrial.cli.options import (
    CurveUnit,
    DataDir,
    FigureFile,
    Format,
    Split,
    StorageOption,
    StoresArgument,
    TrustOption,
    load_results,
    trust_of,
)
from optrial.cli.output import note, print_rows, print_table, prints_apart
from optrial.errors import Problem, StudyError
from optrial.files import make_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["boundary", "confusion", "plot"]

OneProblem = Annotated[
    str | None,
    typer.Option("--problem", metavar="NAME", help="Problem to draw \\[default: all]."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME",
        help="Optimizer to draw, or one of its settings: 'adam lr=0.01'. Repeatable.",
    ),
]


def plot(
    stores: StoresArgument = None,
    storage: StorageOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="Metric to draw \\[default: the reported one]. Repeatable: metrics of one kind "
            "share a panel.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    x: Annotated[
        CurveUnit | None,
        typer.Option(
            "--x", help="Unit of the horizontal axis \\[default: the unit of the budget]."
        ),
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Draw a moving mean of N values; all values stay as a faint line.",
        ),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--ylim", metavar="LOW:HIGH", help="Limits of the vertical axis; either may be omitted."
        ),
    ] = None,
    only: Only = None,
    each_seed: Annotated[
        bool, typer.Option("--each-seed", help="Draw a line per run instead of mean and interval.")
    ] = False,
    problem: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Problem to draw \\[default: all]. Repeatable."),
    ] = None,
    out: FigureFile = None,
) -> None:
    """Draw curves of one or several studies, by step or by epoch.

    A line is the mean over seeds, with its 95 % interval; circles are published values.
    """
    from optrial.records import place_of

    ends = _limits(limits)
    named = dict.fromkeys(place_of(store) for store in stores or ())  # each is drawn once
    places = [None] if not named else [[place] for place in named]
    first, *others = (load_results(place, storage) for place in places)
    figure = first.curves_figure(
        metric or None,
        problem or None,
        x=x.value if x else None,
        smooth=smooth,
        limits=ends,
        only=only or (),
        each_seed=each_seed,
        beside=others,
    )
    _save(figure, out, first.folder, "curves")


def confusion(
    stores: StoresArgument = None,
    storage: StorageOption = None,
    split: Annotated[Split, typer.Option(help="Split to predict.")] = Split.TEST,
    problem: OneProblem = None,
    data_dir: DataDir = None,
    file_format: Annotated[Format, typer.Option("--format", help="Format of the rows.")] = (
        Format.TABLE
    ),
    trust: TrustOption = None,
    out: FigureFile = None,
) -> None:
    """Draw the confusion matrix of each optimizer from saved weights; print accuracy by class.

    Needs a study with `save: final` or `save: best`. CSV and JSON hold every cell.
    """
    permitted = trust_of(trust)
    with load_results(stores, storage) as results, prints_apart():
        table = results.confusion(split.value, problem, data_dir=data_dir, trust=permitted)
        figure = results.confusion_figure(split.value, problem, data_dir=data_dir, trust=permitted)
    if file_format is Format.TABLE:
        right = table[table["true"] == table["predicted"]]
        by_class = right.pivot_table(
            index=["problem", "optimizer", "setting"], columns="true", values="share", sort=False
        )
        shown = by_class.map("{:.4f}".format).reset_index()
        print_table(list(map(str, shown.columns)), shown.values.tolist(), "accuracy by class")
    else:
        print_rows(table.to_dict("records"), file_format)  # type: ignore[arg-type]
    _save(figure, out, results.folder, "confusion")


def boundary(
    stores: StoresArgument = None,
    storage: StorageOption = None,
    split: Annotated[Split, typer.Option(help="Split whose samples are drawn.")] = Split.TEST,
    problem: OneProblem = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seed of the run of each optimizer \\[default: the first]."),
    ] = None,
    data_dir: DataDir = None,
    trust: TrustOption = None,
    out: FigureFile = None,
) -> None:
    """Draw the decision boundary of each optimizer from saved weights, for two inputs.

    Needs a study with `save: final` or `save: best`.
    """
    with load_results(stores, storage) as results, prints_apart():
        figure = results.boundary_figure(
            split.value, problem, seed=seed, data_dir=data_dir, trust=trust_of(trust)
        )
    _save(figure, out, results.folder, "boundary")


def _limits(text: str | None) -> tuple[float | None, float | None]:
    """Read LOW:HIGH.

    Raises:
        StudyError: it is something else.
    """
    try:
        low, high = (float(end) if end else None for end in (text or ":").split(":"))
    except ValueError:
        message = f"'{text}': must be LOW:HIGH, such as 0.5:3, 0.5: or :3."
        raise StudyError([Problem("--ylim", message)], "the command line") from None
    if low is not None and high is not None and not low < high:
        message = f"'{text}': the first must be less than the second."
        raise StudyError([Problem("--ylim", message)], "the command line")
    return low, high


def _save(figure: Figure, out: Path | None, place: Path, name: str) -> None:
    """Write a figure, by default into the folder of its study."""
    from optrial.style import save_figure

    file = out or (place / "figures" if place.is_dir() else Path()) / f"{name}.png"
    make_folder(file.parent)
    save_figure(figure, file)
    note(f"wrote {file}")
