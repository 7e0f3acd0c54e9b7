"""What an optimizer entry of a study stands for."""

from __future__ import annotations

from functools import cache

from optrial.code import load_code
from optrial.errors import one_line, suggest
from optrial.rules import RULES, Rule

__all__ = ["rule_of"]


@cache
def rule_of(kind: str, name: str) -> Rule:
    """Return a rule of the catalogue, or the one that a function of the user's returns.

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
        made = load_code(name)
        rule = made if isinstance(made, Rule) else made()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"'{name}' gives no rule ({one_line(error)}).") from error
    if not isinstance(rule, Rule):
        raise ValueError(f"'{name}' returned {type(rule).__name__}; it must return a Rule.")
    return rule
