"""The update rule of an optimizer entry."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from optrial.code import Unidentifiable, code_sha256, load_code, unidentifiable
from optrial.config import OptimizerEntry
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.rules import RULES, Rule, initialise_all, modified

__all__ = ["further_values", "rule_of", "rule_of_entry"]


def rule_of_entry(entry: OptimizerEntry) -> Rule:
    """Return the rule of an entry of a study, with its modifiers.

    Raises:
        ValueError: there is none, or a modifier does not exist; the message says why.
    """
    return rule_of(entry.kind, entry.code, entry.modifiers)


@cache
def further_values(rule: Rule, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Return how many values a rule keeps beyond `state_size` arrays like each parameter.

    Shampoo keeps a square matrix per axis, and sums of squares of vectors.

    Args:
        rule: the rule.
        shapes: shapes of the parameters; those that it updates as vectors have one dimension.
    """
    if rule.capturable:  # rules without eigenvalues keep arrays like the parameter, or small ones
        return 0
    params = {str(n): torch.empty(shape, device="meta") for n, shape in enumerate(shapes)}
    state = initialise_all(rule, params, rule.defaults)
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
