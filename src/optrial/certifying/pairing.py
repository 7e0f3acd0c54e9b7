"""An optimizer class beside the rules, or the other class, that it should compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from optrial.certifying.subject import Subject
from optrial.replay.binding import Binding, bindings_of, rules_named
from optrial.replay.draws import Draw, Setting
from optrial.replay.reference import replay
from optrial.replay.target import Path, Target, train
from optrial.rules import Hyperparameter, Rule
from optrial.rules.learning_rates import plain_name

__all__ = ["rules_of", "subjects_of"]


def subjects_of(
    target: Target,
    against: Rule | Target | None,
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
) -> tuple[list[Subject], str]:
    """Return the class beside each rule that it should compute, and why there is none."""
    arguments = {
        name: p.default for name, p in target.signature.items() if p.default is not p.empty
    } | {name: 0.01 for name, p in target.signature.items() if p.default is p.empty}
    if isinstance(against, Target):
        against = replace(against, is_curved=target.is_curved)
        return _beside_class(target, against, arguments, shapes, seed)
    rules = rules_of(target, against)
    comparable = [rule for rule in rules if "draws" not in rule.needs]
    bindings = bindings_of(comparable, arguments, needs_switch=len(rules) > 1)
    if target.adapter:  # whose libraries have one kind of decay, and do not call it l2
        bindings = [replace(b, claims_decay=b.rule.default_decay == "decoupled") for b in bindings]
    subjects = [
        Subject(target, binding, _replayer(binding.rule), shapes, seed) for binding in bindings
    ]
    if subjects:
        return subjects, ""
    if any("draws" in rule.needs for rule in rules):
        missing = f"{rules[0].name} draws random numbers, and those of the class are others"
    elif rules and "lr" not in arguments and target.hides_arguments:
        missing = "it takes **kwargs, which hide its arguments; write a function that names them"
    elif rules:
        missing = f"its arguments are not those of {rules[0].name}"
    else:
        missing = f"no rule is called '{plain_name(target.label)}'; name one with --against"
    bare = _bare_binding(arguments)
    alone = [Subject(target, bare, None, shapes, seed)] if bare else []
    return alone, f"{missing}."


def rules_of(target: Target, against: Rule | Target | None) -> list[Rule]:
    """Return the rules that a class should compute, as far as names tell."""
    if isinstance(against, Rule):
        return [against]
    named = rules_named(target.name, _bases(target))
    return named or (rules_named(against.name, _bases(against)) if against else [])


def _bases(target: Target) -> list[str]:
    mro = getattr(target.make, "__mro__", ())
    return [base.__name__ for base in mro[1:] if base.__name__ not in ("Optimizer", "object")]


def _replayer(rule: Rule) -> Callable[[Draw], Path]:
    return lambda draw: replay(rule, draw)


def _beside_class(
    target: Target,
    against: Target,
    arguments: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    seed: int,
) -> tuple[list[Subject], str]:
    """Return the class beside another class, with the arguments that both have."""
    theirs = {name: p.default for name, p in against.signature.items() if p.default is not p.empty}
    rules = rules_named(against.name, _bases(against)) or rules_named(target.name, _bases(target))
    subjects = []
    for mine in bindings_of(rules, arguments):
        other = bindings_of([mine.rule], theirs)
        if other and set(other[0].decays) >= set(mine.decays):
            reference = _trainer(against, other[0])
            binding = replace(mine, label=f"{against.name} ({mine.rule.name})")
            subjects.append(Subject(target, binding, reference, shapes, seed))
    if subjects:
        return subjects, ""
    common = {name: value for name, value in arguments.items() if name in theirs}
    bare = _bare_binding(common)
    if bare is None:
        return [], f"{target.name} and {against.name} have no lr in common."
    bare = replace(bare, label=against.name)
    return [Subject(target, bare, _trainer(against, bare), shapes, seed)], ""


def _trainer(against: Target, binding: Binding) -> Callable[[Draw], Path]:
    return lambda draw: train(against, binding, draw)


def _bare_binding(arguments: Mapping[str, Any]) -> Binding | None:
    """Return a binding that names the numeric arguments of a class; None without a rate."""
    numbers = {
        name: float(value)
        for name, value in arguments.items()
        if isinstance(value, float) and name not in ("weight_decay", "lr")
    }
    if "lr" not in arguments:
        return None
    declared = (
        Hyperparameter("lr", _number(arguments["lr"]), "learning rate", low_open=True, scale="log"),
        *(_described(name, value) for name, value in numbers.items()),
    )
    rule = Rule(
        name="",
        init=lambda _param, **_: None,
        update=lambda grad, state, _step, **_: (0 * grad, state),
        hyperparameters=declared,
    )
    decays: tuple[str, ...] = ("l2",) if "weight_decay" in arguments else ()

    def translate(setting: Setting) -> dict[str, Any]:
        decayed = {"weight_decay": setting.weight_decay} if decays else {}
        return {**setting.values, **decayed}

    return Binding(rule, translate, decays, numbers, claims_decay=False)


def _number(value: object) -> float:
    return float(value) if isinstance(value, float | int) else 0.01


def _described(name: str, value: float) -> Hyperparameter:
    is_share = 0 <= value < 1
    return Hyperparameter(
        name, value, "", high=1.0 if is_share else float("inf"), high_open=is_share
    )
