"""What the names of a study mean, and everything that is wrong with them, before data is read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from optrial.config import Axis, Component, OptimizerEntry, StudyFile, parse_axis
from optrial.data import check_dataset
from optrial.errors import Problem, suggest
from optrial.models import MODELS, check_model
from optrial.rules import RULES, Rule

__all__ = ["check_study", "model_axes", "validation_wanted"]


def check_study(study: StudyFile) -> list[Problem]:
    """Return everything that is wrong with the names and values of a study."""
    dataset, model = study.problem.dataset, study.problem.model
    problems = [
        problem.under("problem.dataset")
        for problem in check_dataset(dataset.name, dataset.arguments)
    ]
    problems += [problem.under("problem.model") for problem in _model_problems(model)]
    labels: dict[str, int] = {}
    for index, entry in enumerate(study.optimizers):
        path = f"optimizers[{index}]"
        problems += [problem.under(path) for problem in _optimizer_problems(entry)]
        if entry.label in labels:
            taken = f"'{entry.label}' is already the name of optimizers[{labels[entry.label]}]"
            problems.append(Problem(f"{path}.name", f"{taken}; give each entry its own name."))
        labels.setdefault(entry.label, index)
    return problems + list(_combination_problems(study))


def model_axes(model: Component) -> dict[str, Axis]:
    """Return the values each given argument of a model takes.

    A list that is itself a valid value (``hidden: [100, 50]``) is one value; any other list is a
    grid axis (``dropout: [0.0, 0.5]``, ``hidden: [[100], [50]]``).
    """
    axes = {}
    for name, given in model.arguments.items():
        is_range = isinstance(given, dict) and not {"log", "lin"}.isdisjoint(given)
        if is_range:
            axes[name] = parse_axis(given)
        elif isinstance(given, list) and given and check_model(model.name, {name: given}):
            axes[name] = Axis(tuple(given))
        else:
            axes[name] = Axis((given,))
    return axes


def validation_wanted(study: StudyFile) -> bool:
    """Whether the study evaluates on a validation split, so that one must be carved."""
    return "validation" in (study.evaluate.on or ())


def _model_problems(model: Component) -> list[Problem]:
    if model.name not in MODELS:
        return check_model(model.name, {})
    try:
        axes = model_axes(model)
    except ValueError as error:
        return [Problem("", f"{error}.")]
    found = [
        problem
        for name, axis in axes.items()
        for value in axis.values
        for problem in check_model(model.name, {name: value})
    ]
    return list(dict.fromkeys(found))


def _optimizer_problems(entry: OptimizerEntry) -> Iterator[Problem]:
    if entry.rule not in RULES:
        yield Problem("rule", f"'{entry.rule}' is not a rule. {suggest(entry.rule, RULES)}")
        return
    rule = RULES[entry.rule]
    known = {hyperparameter.name: hyperparameter for hyperparameter in rule.hyperparameters}
    for name, axis in entry.hyperparameters.items():
        if name not in known:
            yield Problem(name, _unknown_hyperparameter(rule, name))
            continue
        for value in axis.values:
            if reason := known[name].check(value):
                yield Problem(name, reason)
    for value in entry.weight_decay.values if entry.weight_decay else ():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            yield Problem("weight_decay", f"{value!r}: must be a finite number of 0 or more.")


def _unknown_hyperparameter(rule: Rule, name: str) -> str:
    names = [hyperparameter.name for hyperparameter in rule.hyperparameters]
    meant = [known.name for known in rule.hyperparameters if name in known.aliases]
    hint = f"optrial calls it {' and '.join(meant)}. " if meant else ""
    keys = [*names, "weight_decay", "decay", "name"]
    return f"is not a hyperparameter of {rule.name}. {hint}{suggest(name, keys)}"


def _combination_problems(study: StudyFile) -> Iterator[Problem]:
    """What is right by itself but not together."""
    if study.rng == "script":
        if study.engine not in ("auto", "reference"):
            yield Problem("rng", f"'script' needs engine: reference, not {study.engine}.")
        if study.sampling == "with_replacement":
            yield Problem("sampling", "'with_replacement' needs rng: streams, not script.")
    if study.sampling == "with_replacement" and not study.shuffle:
        yield Problem("shuffle", "false needs sampling: epoch; drawing with replacement is random.")


def axes_of(entry: OptimizerEntry) -> Mapping[str, Axis]:
    """Return every hyperparameter of an entry, and its weight decay, after defaults."""
    rule = RULES[entry.rule]
    given: dict[str, Any] = entry.hyperparameters
    axes = {h.name: given.get(h.name, Axis((h.default,))) for h in rule.hyperparameters}
    return axes | {"weight_decay": entry.weight_decay or Axis((rule.default_weight_decay,))}
