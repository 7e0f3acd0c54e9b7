"""Optimizers on a command line: "sgd:lr=0.001,momentum:lr=best:momentum=0.95"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optrial.errors import Problem, StudyError, suggest
from optrial.functions import Point
from optrial.rules import RULES, Rule
from optrial.spec import three_digits

__all__ = ["PathOptimizer", "parse_optimizers", "parse_point"]

BEST = "best"


@dataclass(frozen=True, eq=False)
class PathOptimizer:
    """A rule with a value for each of its hyperparameters.

    Attributes:
        rule: the update rule.
        hyperparameters: name -> value; `lr` is ignored if `tuned`.
        labelled: names of the hyperparameters to show, those not left at their defaults.
        tuned: whether the best of a grid of learning rates is used.
    """

    rule: Rule
    hyperparameters: Mapping[str, float | bool]
    labelled: tuple[str, ...] = ()
    tuned: bool = False

    def label(self, lr: float) -> str:
        """Return the name of the rule, its learning rate, and the values that were chosen."""
        values = {**self.hyperparameters, "lr": lr}
        names = ["lr", *(name for name in self.labelled if name != "lr")]
        return " ".join(
            [self.rule.name, *(f"{name}={three_digits(values[name])}" for name in names)]
        )


def parse_optimizers(text: str) -> list[PathOptimizer]:
    """Parse "sgd:lr=0.001,momentum:lr=0.01:momentum=0.95": rules with hyperparameters.

    Hyperparameters default to those of the rule. ``lr=best`` selects the learning rate with the
    lowest value, averaged over the path, from a grid that is the same for every rule.

    Raises:
        StudyError: lists every problem.
    """
    problems: list[Problem] = []
    optimizers: dict[str, PathOptimizer] = {}
    for entry in (part.strip() for part in text.split(",")):
        name, *settings = entry.split(":")
        if name not in RULES:
            problems.append(Problem(entry, f"'{name}' is not a rule. {suggest(name, RULES)}"))
            continue
        optimizer, wrong = _parse_settings(RULES[name], settings)
        problems += [problem.under(name) for problem in wrong]
        if entry in optimizers:
            problems.append(Problem(entry, "appears twice; name each optimizer once."))
        optimizers[entry] = optimizer
    if problems:
        raise StudyError(problems, "the optimizers")
    return list(optimizers.values())


def parse_point(text: str) -> Point:
    """Parse "x,y", two finite numbers.

    Raises:
        StudyError: the text is something else.
    """
    coordinates = tuple(map(_number, text.split(",")))
    match coordinates:
        case (float(x), float(y)) if math.isfinite(x) and math.isfinite(y):
            return x, y
    problem = Problem("", f"'{text}': must be two finite numbers, such as -1.2,1.")
    raise StudyError([problem], "the start")


def _parse_settings(rule: Rule, settings: Sequence[str]) -> tuple[PathOptimizer, list[Problem]]:
    known = {hyperparameter.name: hyperparameter for hyperparameter in rule.hyperparameters}
    values, problems, tuned = dict(rule.defaults), [], False
    names: list[str] = []
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            meant = [h.name for h in rule.hyperparameters if name in h.aliases]
            hint = f"optrial calls it {' and '.join(meant)}. " if meant else ""
            message = f"is not a hyperparameter. {hint}{suggest(name, known)}"
            problems.append(Problem(name, message))
        elif name in names:
            problems.append(Problem(name, "appears twice."))
        elif name == "lr" and text == BEST:
            tuned = True
        elif isinstance(value := _value(text), str) or known[name].check(value):
            problems.append(Problem(name, known[name].check(value) or ""))
        else:
            values[name] = value
        names.append(name)
    return PathOptimizer(rule, values, tuple(names), tuned), problems


def _value(text: str) -> float | bool | str:
    """Return a number or a switch; anything else unchanged."""
    switches = {"true": True, "false": False}
    return switches.get(text.lower(), _number(text))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
