"""Descriptions of steps that no change of the equations explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from optrial.certifying.conditions import Case, Item
from optrial.certifying.hypotheses import Search, tells
from optrial.certifying.subject import Subject
from optrial.errors import USER_CODE_ERRORS, all_listed
from optrial.replay.binding import bindings_of, rules_named
from optrial.replay.comparison import departures, first_of
from optrial.replay.draws import Draw, drawn, drawn_setting
from optrial.replay.reference import replay
from optrial.replay.target import Path, train
from optrial.rules import RULES, Rule

__all__ = ["account_of"]

_ALIKE = 1e-6
"""Relative difference of steps that rounding explains, also of a state in float32."""

_SHOWN = 1e-3
"""Least distance from 1 of a factor that four digits show."""

_STEPS_SHOWN = 6
_TRIALS = 3
"""Trainings in which the steps of another rule must agree."""


def account_of(subject: Subject, cases: Sequence[Case]) -> str:
    """Return a clause that describes steps without an explanation.

    Args:
        subject: the optimizer and the rule from which it departs.
        cases: its trainings beside the reference; at least one departs.
    """
    departing = [case for case in cases if case.departing()]
    if not any(tells(Item(case, label)) for case in departing for label in case.departing()):
        return "its weights are NaN or overflow there, which has too many causes to name one"
    undecayed = [case for case in departing if case.draw.setting.weight_decay == 0]
    if undecayed and (other := _other_rule(subject)):
        return f"its steps are those of {other}"
    for case in undecayed:
        if text := _as_multiples(case):
            return text
    if all(map(_rests, undecayed or departing)):
        return "its weights do not move in that step"
    items = [Item(case, label) for case in cases for label in case.draw.start]
    if not any(Search(subject.binding, items).programs.values()):
        return "no known convention explains it"  # and the equations cannot be edited
    return "no known convention and no single change of the equations explains it"


def _other_rule(subject: Subject) -> str:
    """Return the name of a rule whose steps, without weight decay, the optimizer takes."""
    target, own_rule = subject.target, subject.binding.rule
    parameters = target.signature.items()
    arguments = {name: p.default for name, p in parameters if p.default is not p.empty}
    of_torch = own_rule.torch_optim
    of_own_class = rules_named(of_torch.class_name) if of_torch else [own_rule]
    others = [
        rule
        for rule in RULES.values()
        if not (rule in of_own_class or rule.needs_curvature or "draws" in rule.needs)
    ]
    for binding in bindings_of(others, arguments):
        rule, random = binding.rule, subject.random(1001)
        settings = (
            drawn_setting(rule, binding.fixed, (), random, plain=True) for _ in range(_TRIALS)
        )
        draws = [drawn(each, subject.shapes, random, with_missing=False) for each in settings]
        try:
            paths = [(draw, train(target, binding, draw)) for draw in draws]
        except USER_CODE_ERRORS:  # it does not take the values of that rule
            continue
        if all(_is_alike(rule, draw, path) for draw, path in paths) and not any(
            all(_is_alike(own, _with_values_of(own, draw), path) for draw, path in paths)
            for own in of_own_class
        ):
            return rule.name
    return ""


def _is_alike(rule: Rule, draw: Draw, path: Path) -> bool:
    return not departures(draw, path, replay(rule, draw), _ALIKE)


def _with_values_of(rule: Rule, draw: Draw) -> Draw:
    """Return a draw with all hyperparameters of a rule, and of those it has, their values."""
    given = draw.setting.values
    values = {name: given.get(name, default) for name, default in rule.defaults.items()}
    return replace(draw, setting=replace(draw.setting, values=values))


class _Multiple(NamedTuple):
    """Factor between the step of a tensor and the expected one."""

    step: int
    label: str
    factor: float


def _as_multiples(case: Case) -> str:
    """Return a clause with the factors between its steps and the expected ones.

    Empty if there are none, or if they are 1.
    """
    multiples = _multiples(case)
    is_of_several = len({multiple.label for multiple in multiples}) > 1
    if not is_of_several or all(abs(multiple.factor - 1) < _SHOWN for multiple in multiples):
        return ""
    by_step, by_tensor = (_common(multiples, field) for field in ("step", "label"))
    by_step_shown = [f"{factor:.4g}" for factor in list(by_step.values())[:_STEPS_SHOWN]]
    if by_step and by_tensor:
        return f"its steps are {by_step_shown[0]} times as large, in the same direction"
    if by_step:
        shown = all_listed(by_step_shown)
        return f"its first steps are {shown} times as large, in the same direction"
    changed = {label: f for label, f in by_tensor.items() if abs(f - 1) >= _SHOWN}
    parts = [f"{factor:.4g} times as large in {label}" for label, factor in changed.items()]
    return f"its steps are {all_listed(parts)}, in the same direction" if parts else ""


def _multiples(case: Case) -> list[_Multiple]:
    """Return the factor of each step of each tensor; none if a direction differs."""
    multiples: list[_Multiple] = []
    before = case.draw.start, case.draw.start
    for step, (actual, expected) in enumerate(zip(case.actual, case.expected, strict=True), 1):
        for label in case.draw.start:
            moved, ought = (
                weights[label] - former[label]
                for weights, former in zip((actual, expected), before, strict=True)
            )
            factor = _factor(moved, ought)
            if factor is None:
                return []
            if np.isfinite(factor):
                multiples.append(_Multiple(step, label, factor))
        before = actual, expected
    return multiples


def _factor(moved: Tensor, ought: Tensor) -> float | None:
    """Return the factor between a step and the expected one; NaN if both are zero.

    None if its coordinates have different factors.
    """
    moved, ought = moved.flatten().to(torch.float64), ought.flatten()
    if not bool(ought.any()):
        return None if bool(moved.any()) else float("nan")
    factor = float(moved @ ought / (ought @ ought))
    apart = (moved - factor * ought).abs().max()
    return factor if float(apart) <= _ALIKE * float(moved.abs().max()) else None


def _common(multiples: Sequence[_Multiple], field: str) -> Mapping[str, float]:
    """Return the factor by step or label; none if there are several for one of them."""
    factors: dict[str, float] = {}
    for multiple in multiples:
        known = factors.setdefault(str(getattr(multiple, field)), multiple.factor)
        if not np.isclose(known, multiple.factor, rtol=_ALIKE, atol=0.0):
            return {}
    return factors


def _rests(case: Case) -> bool:
    """Return whether a tensor stays where it is in the step in which it first departs."""
    where = first_of(departures(case.draw, case.actual, case.expected))
    before = case.draw.start if where.step == 1 else case.actual[where.step - 2]
    return torch.equal(case.actual[where.step - 1][where.label], before[where.label])
