"""The catalogue of modifiers, and rules with modifiers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import get_args

from optrial.errors import suggest
from optrial.rules.catalogue import RULES
from optrial.rules.change_modifiers import (
    CAUTIOUS,
    GRAFTING,
    HYPERBALL,
    LOOKAHEAD,
    NORMALIZE,
    ORTHOGONALIZE,
    grafting_onto,
)
from optrial.rules.decay import CAUTIOUS_DECAY
from optrial.rules.gradient_modifiers import AGC, GRADIENT_CENTRALIZATION, MARS
from optrial.rules.rule import Modifier, Rule, Stage

__all__ = ["ACTS_ON", "MODIFIERS", "modified", "modifier_named", "modifier_problems"]

MODIFIERS: Mapping[str, Modifier] = MappingProxyType(
    {
        modifier.name: modifier
        for modifier in (
            GRADIENT_CENTRALIZATION,
            AGC,
            MARS,
            CAUTIOUS,
            GRAFTING,
            NORMALIZE,
            ORTHOGONALIZE,
            CAUTIOUS_DECAY,
            HYPERBALL,
            LOOKAHEAD,
        )
    }
)

STAGES: tuple[Stage, ...] = get_args(Stage)
ACTS_ON: Mapping[Stage, str] = {
    "gradient": "the gradient",
    "change": "the change",
    "decay": "the weight decay",
    "parameter": "the new parameter",
}
"""Stage of a modifier -> what it acts on, in words."""
_GRAFTED = re.compile(r"grafting\((\w+)\)")


@cache
def modifier_named(name: str) -> Modifier:
    """Return a modifier by the name that runs record: "agc", or "grafting(sgd)".

    Raises:
        ValueError: there is none; the message says why.
    """
    if match := _GRAFTED.fullmatch(name):
        if match[1] not in RULES:
            raise ValueError(f"'{match[1]}' is not a rule. {suggest(match[1], RULES)}")
        return grafting_onto(RULES[match[1]])
    if name == GRAFTING.name:
        raise ValueError("needs the rule that gives its length, such as rule: sgd.")
    if name not in MODIFIERS:
        raise ValueError(f"'{name}' is not a modifier. {suggest(name, MODIFIERS)}")
    return MODIFIERS[name]


@cache
def modified(rule: Rule, names: tuple[str, ...]) -> Rule:
    """Return a rule with modifiers of its steps; the rule itself without any.

    The hyperparameters of a modifier follow those of the rule, with its name before them:
    "lookahead.every".

    Raises:
        ValueError: a modifier does not exist.
    """
    if not names:
        return rule
    modifiers = tuple(map(modifier_named, names))
    added = [
        replace(h, name=f"{modifier.key}.{h.name}")
        for modifier in modifiers
        for h in modifier.hyperparameters
    ]
    stages = {modifier.key for modifier in modifiers}
    changed = replace(
        rule,
        modifiers=modifiers,
        hyperparameters=(*rule.hyperparameters, *added),
        torch_optim=None,
    )
    if HYPERBALL.key in stages:
        changed = replace(changed, default_weight_decay=0.0)
    if CAUTIOUS_DECAY.key in stages:
        changed = replace(changed, default_decay="decoupled")
    return changed


def modifier_problems(rule: Rule, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the index of each modifier that a rule cannot have at its place, and the reason."""
    known: list[Modifier | None] = []
    for index, name in enumerate(names):
        try:
            known.append(modifier_named(name))
        except ValueError as error:
            known.append(None)
            yield index, str(error)
    for index, modifier in enumerate(known):
        if modifier is None:
            continue
        earlier = [other for other in known[:index] if other]
        if any(other.key == modifier.key for other in earlier):
            yield index, f"'{modifier.key}' is in the list twice; keep one."
        elif late := [o for o in earlier if _place(o) > _place(modifier)]:
            yield (
                index,
                f"{modifier.key} acts on {ACTS_ON[modifier.stage]}, before {late[0].key}, which "
                f"acts on {ACTS_ON[late[0].stage]}; move it to the front of {late[0].key}.",
            )
        elif rule.as_one_vector:
            yield index, f"{rule.name} compares its own gradients and steps; use another rule."
        elif modifier.stage == "decay" and rule.own_decay == "decoupled":
            yield index, f"{rule.name} has weight decay in its equations; use another rule."
        elif rule.evaluates_elsewhere and modifier.stage != "gradient":
            yield (
                index,
                f"{rule.name} averages its own steps, so that {modifier.key}, which changes them, "
                "would leave the average behind; use another rule, or a modifier of the gradient.",
            )


def _place(modifier: Modifier) -> int:
    return STAGES.index(modifier.stage)
