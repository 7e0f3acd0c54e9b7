"""Shell completion of arguments.

It must be quick, so it imports nothing but the standard library and Typer. The names of catalogues
are written out here and compared with the catalogues by a test.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import typer

__all__ = [
    "CATALOGUES",
    "DATASETS",
    "FUNCTIONS",
    "MODIFIERS",
    "RULES",
    "catalogues",
    "datasets",
    "folders",
    "functions",
    "metrics",
    "optimizers",
    "recipes",
    "rules",
    "stores_and_optimizers",
    "studies",
]

CATALOGUES = (
    *(
        "rules",
        "modifiers",
        "datasets",
        "models",
        "recipes",
        "schedules",
        "losses",
        "metrics",
        "probes",
    ),
)
RULES = (
    *("sgd", "momentum", "nesterov", "qhm", "asgd", "adagrad", "rmsprop", "rmsprop_nesterov"),
    *("adadelta", "adam", "adamw", "amsgrad", "adamax", "nadam", "radam", "adabelief", "yogi"),
    *("adopt", "laprop", "ademamix", "adan", "rprop", "signsgd", "signum", "lion", "adafactor"),
    *("adam_mini", "lars", "lamb", "adahessian", "sophia_h", "shampoo", "soap", "psgd_kron"),
    *("muon", "normuon", "scion", "schedule_free_sgd", "schedule_free_adamw"),
    *("prodigy", "lbfgs"),
)
MODIFIERS = (
    *("gradient_centralization", "agc", "mars", "cautious", "grafting", "normalize"),
    *("orthogonalize", "cautious_decay", "hyperball", "lookahead"),
)
DATASETS = ("mnist", "fashion-mnist", "cifar-10", "tiny-shakespeare")
FUNCTIONS = (
    *(
        "rosenbrock",
        "beale",
        "himmelblau",
        "rastrigin",
        "saddle",
        "ill_conditioned",
        "noisy_quadratic",
    ),
)
_RECIPES = Path(__file__).parents[1] / "recipes"
_RECENT = 100
"""Number of commits that are searched for the names of metrics."""


def catalogues(incomplete: str) -> list[str]:
    """Complete the name of a catalogue of `optrial list`."""
    return _starting(incomplete, CATALOGUES)


def rules(incomplete: str) -> list[str]:
    """Complete the name of a rule or modifier."""
    return _starting(incomplete, (*RULES, *MODIFIERS))


def datasets(incomplete: str) -> list[str]:
    """Complete the name of a published dataset."""
    return _starting(incomplete, DATASETS)


def functions(incomplete: str) -> list[str]:
    """Complete the name of a function of two variables."""
    return _starting(incomplete, FUNCTIONS)


def recipes(incomplete: str) -> list[str]:
    """Complete the name of a recipe."""
    return _starting(incomplete, sorted(file.stem for file in _RECIPES.glob("*.yaml")))


def studies(incomplete: str) -> list[str]:
    """Complete a recipe or the path of a study file."""
    return [*recipes(incomplete), *_paths(incomplete, (".yaml", ".yml"))]


def folders(incomplete: str) -> list[str]:
    """Complete the name of a study in ``studies``, or the path of a folder."""
    names = sorted(file.parent.name for file in Path("studies").glob("*/study.db"))
    return [*_starting(incomplete, names), *_paths(incomplete)]


def metrics(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a metric that the study of the command records."""
    query = (
        "SELECT latest FROM outcomes WHERE status <> 'planned' AND json_valid(latest)"
        f" ORDER BY rowid DESC LIMIT {_RECENT}"
    )
    latest = [json.loads(text) for text in _column(context, query)]
    return _starting(incomplete, dict.fromkeys(name for ends in latest for name in ends))


def optimizers(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of an optimizer of the study of the command."""
    return _starting(
        incomplete, _column(context, "SELECT DISTINCT json_extract(spec, '$.optimizer') FROM runs")
    )


def stores_and_optimizers(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the folder of a study, or an optimizer once a folder is named."""
    return optimizers(context, incomplete) or folders(incomplete)


def _column(context: typer.Context, query: str) -> list[str]:
    """Return the first column of a query on the study that the command line names."""
    # While an option lacks its value, no argument is parsed yet.
    store = next(_words(context), "")
    for folder in (Path(store), Path("studies", store)):
        if (folder / "study.db").is_file():
            address = f"{(folder / 'study.db').absolute().as_uri()}?mode=ro"
            try:
                with closing(sqlite3.connect(address, uri=True)) as database:
                    return [row[0] for row in database.execute(query)]
            except sqlite3.Error:
                return []
    return []


def _words(context: typer.Context) -> Iterator[str]:
    """Yield the arguments that may name a study; an incomplete line fills the last ones first."""
    for name in ("store", "first", "second"):
        value = context.params.get(name) or ()
        yield from (value,) if isinstance(value, str) else value
    yield from context.args


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _paths(incomplete: str, suffixes: tuple[str, ...] = ()) -> list[str]:
    """Return the folders, and the files with one of the suffixes, whose path starts so."""
    parent, _, start = incomplete.rpartition("/")
    root = Path(f"{parent}/" if incomplete.startswith("/") else parent)
    try:
        entries = sorted(p for p in root.iterdir() if p.name.startswith(start) and p.name[0] != ".")
    except OSError:
        return []
    return [
        f"{p}/" if p.is_dir() else str(p) for p in entries if p.is_dir() or p.suffix in suffixes
    ]
