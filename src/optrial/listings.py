"""The tables of `optrial list`: rules, datasets, models, ... that a study may name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TypeAlias

from optrial.config import read_study
from optrial.data import DATASETS
from optrial.models import LOSSES, MODELS
from optrial.recipes import RECIPES, with_recipe
from optrial.rules import ACTS_ON, MODIFIERS, RULES, SCHEDULES, OwnFunction, Schedule
from optrial.spec import METRICS, PROBES, catalogued

__all__ = ["LISTINGS"]

Table: TypeAlias = tuple[list[str], list[list[object]]]


def _rules() -> Table:
    columns = ["rule", "description", "hyperparameters", "paper"]
    return columns, [
        [
            rule.name,
            rule.title,
            ", ".join(f"{h.name}={h.default:g}" for h in rule.hyperparameters),
            rule.paper,
        ]
        for rule in RULES.values()
    ]


def _modifiers() -> Table:
    columns = ["modifier", "description", "acts on", "hyperparameters", "paper"]
    return columns, [
        [
            modifier.name,
            modifier.title,
            ACTS_ON[modifier.stage],
            ", ".join(f"{h.name}={h.default:g}" for h in modifier.hyperparameters),
            modifier.paper,
        ]
        for modifier in MODIFIERS.values()
    ]


def _datasets() -> Table:
    return ["dataset", "description", "download", "source; licence"], [
        [
            entry.name,
            entry.summary,
            f"{entry.megabytes:g} MB" if entry.megabytes else "none",
            f"{entry.source}; {entry.licence}",
        ]
        for entry in DATASETS.values()
    ]


def _models() -> Table:
    user_defined: list[object] = [
        "module:function",
        "your own: model: {factory: module:function, args: {...}}",
        "those of the function",
    ]
    rows: list[list[object]] = [
        [model.name, model.summary, ", ".join(model.arguments.model_fields)]
        for model in MODELS.values()
    ]
    return ["model", "description", "arguments"], [*rows, user_defined]


def _recipes() -> Table:
    """Return one row per recipe, with the keys that its variant ``NAME-small`` replaces."""
    columns = ["recipe", "description", "changed in NAME-small"]
    keys = {name: read_study(file) for name, file in RECIPES.items()}
    return columns, [
        [name, with_recipe(study).get("notes", ""), _changed(keys.get(f"{name}-small", {}))]
        for name, study in keys.items()
        if not name.endswith("-small")
    ]


def _changed(keys: Mapping[str, object]) -> str:
    return ", ".join(sorted(keys.keys() - {"name", "recipe", "reported"}))


def _schedules() -> Table:
    schedules: Mapping[str, type[Schedule]] = {**SCHEDULES, "module:function": OwnFunction}
    return ["schedule", "description", "arguments"], [
        [name, _first_line(schedule), ", ".join(schedule.model_fields)]
        for name, schedule in schedules.items()
    ]


def _losses() -> Table:
    return ["loss", "description"], [[name, _first_line(loss)] for name, loss in LOSSES.items()]


def _metrics() -> Table:
    entries = {**METRICS, "top_5_accuracy": catalogued("top_5_accuracy")}
    rows: list[list[object]] = [
        [name, entry.about, entry.better, entry.targets] for name, entry in entries.items() if entry
    ]
    user_defined: list[object] = [
        "module:function",
        "your own: {name: module:function, better: lower}",
        "as declared",
        "any",
    ]
    return ["metric", "description", "better", "computed from"], [*rows, user_defined]


def _probes() -> Table:
    return ["probe", "description", "cost (gradients of a batch)"], [
        [name, probe.about, f"{probe.gradients:g}" + (" at every step" if probe.summed else "")]
        for name, probe in PROBES.items()
    ]


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0].rstrip(".")


LISTINGS: Mapping[str, Callable[[], Table]] = {
    "rules": _rules,
    "modifiers": _modifiers,
    "datasets": _datasets,
    "models": _models,
    "recipes": _recipes,
    "schedules": _schedules,
    "losses": _losses,
    "metrics": _metrics,
    "probes": _probes,
}
"""Name of a catalogue -> function that returns its columns and rows."""
