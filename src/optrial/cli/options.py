"""Arguments and options that several commands share."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli import complete
from optrial.cli.output import note
from optrial.errors import Problem, StudyError, printable

if TYPE_CHECKING:
    from optrial.code import Trust
    from optrial.config import Parallel
    from optrial.results import Results
    from optrial.spec import Direction
    from optrial.study import Study

__all__ = [
    "AuditFormat",
    "BetterOption",
    "CheckpointOption",
    "ComparedStores",
    "CurveUnit",
    "DataDir",
    "Device",
    "DeviceOption",
    "EngineOption",
    "ExecutorOption",
    "FigureFile",
    "FigureFormat",
    "Format",
    "JobsOption",
    "OutOption",
    "PageFormat",
    "ParallelConfigOption",
    "PlaceOption",
    "PrecisionOption",
    "QuietOption",
    "ReportedMetric",
    "RowFormat",
    "SeedsOption",
    "Settings",
    "ShowFormat",
    "Split",
    "SpreadsheetOption",
    "StorageOption",
    "StoreArgument",
    "StoresArgument",
    "StudyArgument",
    "TableFormat",
    "TimeUnit",
    "TrustOption",
    "check_place",
    "default_place",
    "direction_of",
    "load_results",
    "load_study",
    "parallel_of",
    "place_named",
    "place_of",
    "trust_of",
]


class Format(StrEnum):
    """Formats of rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class RowFormat(StrEnum):
    """Formats of rows, with Parquet."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class AuditFormat(StrEnum):
    """Formats of an audit."""

    TEXT = "text"
    JSON = "json"


class ShowFormat(StrEnum):
    """Formats of a summary."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"


class TableFormat(StrEnum):
    """Formats of measured times."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class FigureFormat(StrEnum):
    """Formats of figures."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


class TimeUnit(StrEnum):
    """Units of the time to a target."""

    STEPS = "steps"
    SECONDS = "seconds"


class PageFormat(StrEnum):
    """Formats of a page."""

    TEXT = "text"
    HTML = "html"
    MARKDOWN = "markdown"


class Better(StrEnum):
    """Directions of a metric."""

    LOWER = "lower"
    HIGHER = "higher"


class Engine(StrEnum):
    """Engines by name."""

    AUTO = "auto"
    STACKED = "stacked"
    REFERENCE = "reference"
    NUMPY = "numpy"


class Device(StrEnum):
    """Devices by name."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Executor(StrEnum):
    """Executors by name."""

    AUTO = "auto"
    LOCAL = "local"
    PROCESSES = "processes"
    RAY = "ray"


class Precision(StrEnum):
    """Floating-point types by name."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"


class CurveUnit(StrEnum):
    """Units of the horizontal axis of curves."""

    STEPS = "steps"
    EPOCHS = "epochs"


class Split(StrEnum):
    """Splits of a dataset."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study file or a recipe.", autocompletion=complete.studies
    ),
]
StoreArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DIR",
        help="A study's folder, its name in studies/, its study file, or a postgresql:// URL "
        "\\[default: OPTRIAL_STORAGE].",
        autocompletion=complete.folders,
        show_default=False,
    ),
]
_STORES = (
    "A study's folder, its name in studies/, or a postgresql:// URL; several studies of different "
    "problems are joined \\[default: OPTRIAL_STORAGE]."
)
StoresArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DIR...", help=_STORES, autocompletion=complete.folders, show_default=False
    ),
]
ComparedStores = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DIR... [A B]",
        help=f"{_STORES} Then two optimizers \\[default: all pairs].",
        autocompletion=complete.stores_and_optimizers,
        show_default=False,
    ),
]
StorageOption = Annotated[
    str | None, typer.Option("--storage", metavar="DIR", help="Folder or URL, instead of DIR.")
]
PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        "--storage",
        metavar="DIR",
        help="Folder or postgresql:// URL of the runs "
        "\\[default: OPTRIAL_STORAGE, else studies/NAME].",
    ),
]
ReportedMetric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="METRIC",
        help="Metric that optimizers are compared on \\[default: the reported one].",
        autocompletion=complete.metrics,
    ),
]
BetterOption = Annotated[
    Better | None,
    typer.Option(help="Direction of the metric, if the study does not declare it."),
]
SpreadsheetOption = Annotated[
    bool,
    typer.Option(
        "--spreadsheet",
        help="In CSV, put ' before texts that a spreadsheet would run as a formula.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write to a new file instead.")
]


def figure_file(file: Path | None) -> Path | None:
    """Check the format and the place of a figure before it is computed."""
    if file is not None:
        from optrial.style import figure_format

        figure_format(file)
        check_place(file, "--out")
    return file


def check_place(file: Path, option: str) -> None:
    """Check that a file can be written, before what it will hold is computed.

    Raises:
        StudyError: it cannot.
    """
    from optrial.files import why_not_written

    if message := why_not_written(file):
        raise StudyError([Problem(option, message)], "the command line")


FigureFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        callback=figure_file,
        help="FILE.png, .pdf or .svg \\[default: a PNG in the study's folder figures].",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of downloaded data \\[default: OPTRIAL_DATA, else the user cache].",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key of the study: budget.epochs=2. Repeatable."
    ),
]
EngineOption = Annotated[
    Engine | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="auto, stacked, reference or numpy \\[default: the study's].",
    ),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(metavar="TYPE", help="float32, bfloat16 or float64 \\[default: the study's]."),
]
CheckpointOption = Annotated[
    float,
    typer.Option(min=0, metavar="SECONDS", help="Seconds of training that a crash may lose."),
]
DeviceOption = Annotated[Device, typer.Option(help="Device to compute on.")]
ExecutorOption = Annotated[
    Executor | None,
    typer.Option(
        "--executor", metavar="EXECUTOR", help="auto, local, processes or ray \\[default: auto]."
    ),
]
JobsOption = Annotated[
    str | None,
    typer.Option(
        "-j", "--jobs", metavar="N", help="Stacks trained at once, or auto \\[default: auto]."
    ),
]
ParallelConfigOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file with more keys of the executor."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print neither progress nor notes.")]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="PLACE",
        help="Folder, file or module whose code may run. Repeatable.",
    ),
]
SeedsOption = Annotated[
    int | None, typer.Option(metavar="N", help="Number of seeds \\[default: the study's].")
]


def direction_of(better: Better | None) -> Direction | None:
    """Return the option as `Results` takes it."""
    if better is None:
        return None
    return "lower" if better is Better.LOWER else "higher"


def parallel_of(file: Path | None, executor: Executor | None, jobs: str | None) -> Parallel:
    """Return where runs are trained, from the options of a command."""
    from optrial.config import Parallel

    n_jobs = int(jobs) if jobs is not None and jobs.isdecimal() else jobs
    options = {"executor": executor and executor.value, "n_jobs": n_jobs}
    return Parallel.read(file, options)


_keep_modules = cache(gc.freeze)
"""Takes what imports made out of the collection of garbage."""


def changes_of(
    engine: Engine | None,
    precision: Precision | None,
    seeds: int | None,
    settings: Sequence[str] | None,
) -> list[str]:
    """Return the options of a command that change a study, as settings of its keys."""
    options: Mapping[str, object] = {"engine": engine, "precision": precision, "seeds": seeds}
    changes = [f"{key}={value}" for key, value in options.items() if value is not None]
    return [*(settings or []), *changes]


def load_study(
    source: str,
    engine: Engine | None,
    precision: Precision | None,
    seeds: int | None,
    settings: Sequence[str] | None,
    trust: Sequence[str] | None = None,
    *,
    quiet: bool = False,
) -> Study:
    """Read a study file or recipe, and apply the options of the command."""
    from optrial.study import Study

    _keep_modules()
    gc.enable()  # for user code
    if quiet:
        logging.getLogger("optrial").setLevel(logging.ERROR)
    changes = changes_of(engine, precision, seeds, settings)
    return Study.from_file(source, changes, trust_of(trust, quiet=quiet))


def trust_of(places: Sequence[str] | None, *, quiet: bool = False) -> Trust:
    """Return what a command may run; asks in a terminal, and tells unless quiet."""
    from optrial.code import Trust

    def ask(question: str) -> bool:
        return typer.confirm(printable(question), default=False, err=True)

    def tell(text: str) -> None:
        if not quiet:
            note(text)

    in_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    trust = Trust(places or (), ask=ask if in_terminal else None, tell=tell)
    trust.check_places()
    return trust


def load_results(locations: Sequence[str] | None, storage: str | None) -> Results:
    """Open the results that a command names, or join those of several studies."""
    from optrial.results import load

    places = _named(locations, storage)
    return load(place_of(places[0]) if len(places) == 1 else [place_of(place) for place in places])


def place_named(location: str | None, storage: str | None) -> str:
    """Return the location of the one store that a command names."""
    return place_of(_named([location] if location is not None else [], storage)[0])


def _named(locations: Sequence[str] | None, storage: str | None) -> Sequence[str]:
    """Return the arguments of a command, its option, or the default of all commands.

    Raises:
        StudyError: there is none of these, or both arguments and the option.
    """
    if locations and storage is not None:
        message = f"cannot be used together with DIR ('{locations[0]}'): leave out one of them."
        raise StudyError([Problem("--storage", message)], "the command")
    place = default_place() if storage is None else storage
    if not locations and not place:
        message = "is missing: name a study's folder or a postgresql:// URL, or set OPTRIAL_STORAGE"
        raise StudyError([Problem("DIR", message)], "the command")
    return locations or [str(place)]


def default_place() -> str | None:
    """Return the location that all commands use by default, if there is one."""
    return os.environ.get("OPTRIAL_STORAGE") or None


def place_of(location: str) -> str:
    """Return a location; that of a folder in ``studies`` by its name, of a study by its file."""
    if location.endswith((".yaml", ".yml")) and Path(location).is_file():
        from optrial.study import Study

        return Study.from_file(location).location(default_place())
    from optrial.records import place_of as place_in_studies

    return place_in_studies(location)
