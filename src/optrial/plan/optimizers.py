"""The update rule of an optimizer entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch

from optrial.code import Unidentifiable, code_sha256, load_code, unidentifiable
from optrial.config import OptimizerEntry
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.rules import RULES, Rule, extra_gradients, initialise_all, modified
from optrial.spec import RunSpec

__all__ = [
    "further_values",
    "gradients_per_step",
    "needs_curvature",
    "rule_of",
    "rule_of_entry",
]


def rule_of_entry(entry: OptimizerEntry) -> Rule:
    """Return the rule of an entry of a study, with its modifiers.

    Raises:
        ValueError: there is none, or a modifier does not exist; the message says why.
    """
    return rule_of(entry.kind, entry.code, entry.modifiers)


def needs_curvature(run: RunSpec) -> bool:
    """Return whether a rule of a run needs estimates of curvature."""
    return any(rule.needs_curvature for rule, _ in _rules_of(run))


def is_capturable(run: RunSpec) -> bool:
    """Return whether all steps of a run are the same program, as `Rule.capturable` has it."""
    return all(rule.capturable for rule, _ in _rules_of(run))


def gradients_per_step(run: RunSpec) -> float:
    """Return how many gradients of a batch a step of a run computes per batch, on average.

    Sharpness-aware minimization computes two; a product with the Hessian counts as one.
    """
    of_rules = [extra_gradients(rule, values) for rule, values in _rules_of(run)]
    return 1 + (run.sam_rho is not None) + max(of_rules, default=0.0)


def _rules_of(run: RunSpec) -> Iterator[tuple[Rule, Mapping[str, Any]]]:
    """Yield each rule of a run with its hyperparameters."""
    for part in run.known_parts:
        if part.optimizer_kind != "torch":
            yield rule_of(part.optimizer_kind, part.rule, part.modify), part.hyperparameters


@cache
def further_values(
    rule: Rule,
    shapes: tuple[tuple[int, ...], ...],
    values: tuple[tuple[str, float | bool], ...] = (),
) -> int:
    """Return how many values a rule keeps beyond `state_size` arrays like each parameter.

    Shampoo keeps a square matrix per axis, and sums of squares of vectors.

    Args:
        rule: the rule.
        shapes: shapes of the parameters; those that it updates as vectors have one dimension.
        values: hyperparameters that differ from their defaults.
    """
    if rule.capturable or rule.needs_curvature:  # which keep arrays like the parameter
        return 0
    params = {str(n): torch.empty(shape, device="meta") for n, shape in enumerate(shapes)}
    state = initialise_all(rule, params, rule.defaults | dict(values))
    kept: int = sum(a.numel() for arrays in state.values() for a in arrays if a is not None)
    return kept - rule.state_size * sum(param.numel() for param in params.values())


def rule_of(kind: str, name: str, modify: tuple[str, ...] = ()) -> Rule:
    """Return a rule of the catalogue, or the one that a user-defined function returns.

    Args:
        kind: "rule" or "rule_factory".
        name: of the rule, or ``module:function``.
        modify: names of the modifiers of its steps.

    Raises:
        ValueError: there is none; the message says why.
    """
    return modified(_unmodified(kind, name), modify)


def _unmodified(kind: str, name: str) -> Rule:
    if kind == "rule":
        if ":" in name:
            raise ValueError(
                f"'{name}' is not a rule of the catalogue; name a function that returns a rule by "
                f"rule_factory: {name}, a class of optimizers by torch: {name}."
            )
        if name not in RULES:
            raise ValueError(f"'{name}' is not a rule. {suggest(name, RULES)}")
        return RULES[name]
    try:
        rule = _made(name, code_sha256(name))
    except Unidentifiable as error:
        raise ValueError(f"'{name}' {unidentifiable(error)}") from error
    except USER_CODE_ERRORS as error:  # the user's code may raise anything
        raise ValueError(f"'{name}' gives no rule ({one_line(error)}).") from error
    if not isinstance(rule, Rule):
        raise ValueError(f"'{name}' returned {type(rule).__name__}; it must return a Rule.")
    return rule


@cache
def _made(name: str, sha256: str) -> Any:
    """Return what a name leads to, or what that returns; the same for as long as it is the same."""
    del sha256
    made = load_code(name)
    return made if isinstance(made, Rule) else made()
