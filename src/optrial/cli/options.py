"""Arguments and options that commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from optrial.study import Study

__all__ = [
    "AuditFormat",
    "BetterOption",
    "CurveFormat",
    "DataDir",
    "Device",
    "DeviceOption",
    "EngineOption",
    "FigureFormat",
    "Format",
    "Listing",
    "PageFormat",
    "PrecisionOption",
    "ReportedMetric",
    "SeedsOption",
    "Settings",
    "ShowFormat",
    "StoreArgument",
    "StudyArgument",
    "TableFormat",
    "TimeUnit",
    "load_results",
    "load_study",
]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class AuditFormat(StrEnum):
    """How an audit is printed."""

    TEXT = "text"
    JSON = "json"


class ShowFormat(StrEnum):
    """How a summary is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"


class TableFormat(StrEnum):
    """How a table with a full form is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


class CurveFormat(StrEnum):
    """How curves are printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class FigureFormat(StrEnum):
    """What figures are written as."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


class TimeUnit(StrEnum):
    """How time is measured."""

    STEPS = "steps"
    SECONDS = "seconds"


class PageFormat(StrEnum):
    """How a page is printed."""

    TEXT = "text"
    HTML = "html"
    MARKDOWN = "markdown"


class Listing(StrEnum):
    """What `optrial list` can list."""

    RULES = "rules"
    DATASETS = "datasets"
    MODELS = "models"
    RECIPES = "recipes"
    SCHEDULES = "schedules"
    LOSSES = "losses"
    METRICS = "metrics"
    PROBES = "probes"


class Better(StrEnum):
    """Which values of a metric are better."""

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


class Precision(StrEnum):
    """Floating-point types by name."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"


StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study file or a recipe.")]
StoreArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="A study's folder, its name, or a postgresql:// URL.")
]
ReportedMetric = Annotated[
    str | None, typer.Option("--metric", help="What optimizers are compared on.")
]
BetterOption = Annotated[
    Better | None,
    typer.Option(help="Which values of a metric are better, where the study does not declare it."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of downloaded data \\[default: OPTRIAL_DATA, else the user cache]."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: budget.epochs=2. Repeatable."),
]
EngineOption = Annotated[Engine | None, typer.Option(help="Engine that trains.")]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Floating-point type.")]
DeviceOption = Annotated[Device, typer.Option(help="Device to compute on.")]
SeedsOption = Annotated[int | None, typer.Option(help="Number of seeds.")]


def load_study(
    source: str,
    engine: Engine | None,
    precision: Precision | None,
    seeds: int | None,
    settings: Sequence[str] | None,
) -> Study:
    """Read a study file or recipe; options go before its own keys."""
    from optrial.study import Study

    options: Mapping[str, Any] = {"engine": engine, "precision": precision, "seeds": seeds}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return Study.from_file(source, [*(settings or []), *given])


def load_results(location: str) -> Any:
    """Open the results at a folder or URL, or those of a study named so."""
    from optrial.results import load

    named = Path("studies", location)
    is_name = "://" not in location and not Path(location).exists() and named.exists()
    return load(named if is_name else location)
