"""What there is: the tables of `optrial list`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from optrial.config import read_study
from optrial.data import DATASETS
from optrial.models import LOSSES, METRICS, MODELS
from optrial.recipes import RECIPES
from optrial.rules import RULES, SCHEDULES

__all__ = ["LISTINGS", "listing"]

Table = tuple[list[str], list[list[object]]]


def listing(what: str) -> Table:
    """Return the columns and rows of one of `LISTINGS`."""
    return LISTINGS[what]()


def _rules() -> Table:
    columns = ["rule", "what it is", "hyperparameters (default)", "paper"]
    return columns, [
        [
            rule.name,
            rule.title,
            ", ".join(f"{h.name} ({h.default:g})" for h in rule.hyperparameters),
            rule.paper,
        ]
        for rule in RULES.values()
    ]


def _datasets() -> Table:
    return ["dataset", "what it is", "download"], [
        [entry.name, entry.summary, f"{entry.megabytes:g} MB" if entry.megabytes else "none"]
        for entry in DATASETS.values()
    ]


def _models() -> Table:
    own = ["module:function", "your own: model: {factory: module:function, args: {...}}", "yours"]
    rows: list[list[object]] = [
        [model.name, model.summary, ", ".join(model.arguments.model_fields)]
        for model in MODELS.values()
    ]
    return ["model", "what it is", "arguments"], [*rows, list(own)]


def _recipes() -> Table:
    notes = {name: read_study(file).get("notes", "") for name, file in RECIPES.items()}
    return ["recipe", "what it does"], [[name, note] for name, note in notes.items()]


def _schedules() -> Table:
    return ["schedule", "what it does", "arguments"], [
        [name, _first_line(schedule), ", ".join(schedule.model_fields)]
        for name, schedule in SCHEDULES.items()
    ]


def _losses() -> Table:
    return _functions("loss", LOSSES)


def _metrics() -> Table:
    columns, rows = _functions("metric", METRICS)
    return columns, [*rows, ["top_5_accuracy", "likewise for any number of largest outputs"]]


def _functions(kind: str, found: Mapping[str, Any]) -> Table:
    return [kind, "what it is"], [[name, _first_line(each)] for name, each in found.items()]


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0].rstrip(".")


LISTINGS: Mapping[str, Callable[[], Table]] = {
    "rules": _rules,
    "datasets": _datasets,
    "models": _models,
    "recipes": _recipes,
    "schedules": _schedules,
    "losses": _losses,
    "metrics": _metrics,
}
"""What can be listed, by name."""
