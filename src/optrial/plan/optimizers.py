"""The update rule of an optimizer entry."""

from __future__ import annotations

from functools import cache
from typing import Any

from optrial.code import Unidentifiable, code_sha256, load_code, unidentifiable
from optrial.errors import USER_CODE_ERRORS, one_line, suggest
from optrial.rules import RULES, Rule

__all__ = ["rule_of"]


def rule_of(kind: str, name: str) -> Rule:
    """Return a rule of the catalogue, or the one that a user-defined function returns.

    Args:
        kind: "rule" or "rule_factory".
        name: of the rule, or ``module:function``.

    Raises:
        ValueError: there is none; the message says why.
    """
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
