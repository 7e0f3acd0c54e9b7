"""What there is: the tables of `optrial list`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from optrial.config import read_study
from optrial.data import DATASETS
from optrial.models import LOSSES, MODELS
from optrial.recipes import RECIPES, with_recipe
from optrial.rules import RULES, SCHEDULES
from optrial.spec import METRICS, PROBES, catalogued

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
    """One row a recipe, with the keys that its variant ``NAME-small`` replaces."""
    columns = ["recipe", "what it does", "-small changes"]
    keys = {name: read_study(file) for name, file in RECIPES.items()}
    return columns, [
        [name, with_recipe(own).get("notes", ""), _changed(keys.get(f"{name}-small", {}))]
        for name, own in keys.items()
        if not name.endswith("-small")
    ]


def _changed(keys: Mapping[str, Any]) -> str:
    return ", ".join(sorted(keys.keys() - {"name", "recipe", "reported"}))


def _schedules() -> Table:
    return ["schedule", "what it does", "arguments"], [
        [name, _first_line(schedule), ", ".join(schedule.model_fields)]
        for name, schedule in SCHEDULES.items()
    ]


def _losses() -> Table:
    return ["loss", "what it is"], [[name, _first_line(loss)] for name, loss in LOSSES.items()]


def _metrics() -> Table:
    entries = {**METRICS, "top_5_accuracy": catalogued("top_5_accuracy")}
    rows: list[list[object]] = [
        [name, entry.about, entry.better, entry.targets] for name, entry in entries.items() if entry
    ]
    own = ["module:function", "your own: {name: module:function, better: lower}", "yours", "any"]
    return ["metric", "what it is", "better", "computed from"], [*rows, list(own)]


def _probes() -> Table:
    return ["probe", "what it is", "cost in gradients of a batch"], [
        [name, probe.about, f"{probe.gradients:g}" + (" at every step" if probe.summed else "")]
        for name, probe in PROBES.items()
    ]


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
    "probes": _probes,
}
"""What can be listed, by name."""
