"""Bindings: the arguments of an optimizer class that stand for the hyperparameters of a rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from optrial.replay.draws import Setting
from optrial.rules import RULES, Hyperparameter, Rule

__all__ = ["Binding", "bindings_of", "rules_named", "spelled"]

DECAY_SWITCHES = ("decoupled_weight_decay", "weight_decouple", "decouple_weight_decay", "decoupled")
"""Arguments that are true for decoupled weight decay and false for l2."""

_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "adjust_lr_fn": lambda value: "match_rms_adamw" if value else "original",
    "t_alpha_beta3": lambda value: value or None,
}
"""Arguments whose values are written in another way than the rule's."""

_LEFT_AT_DEFAULT = ("clip_lambda", "eps2", "d")
"""Arguments that stand for a hyperparameter but take no number of the same meaning."""


_OF_SQUARES = {"adafactor": "eps"}
"""Rule -> argument that has another meaning where its default is tiny: it is added to squares."""
_TINY = 1e-20
_COMPLEMENTS = {"scion": {"momentum": "momentum"}}
"""Rule -> hyperparameter -> argument that is its complement where its default is below 1/2."""
_SWITCHED = {"nesterov": "nesterov", "amsgrad": "amsgrad"}
"""Rule -> the argument that turns a class of several rules into it."""
_OTHER_NAMES = {"kron": "psgd_kron", "signsgd": "signum"}
"""Name of a class -> a further rule that it may compute."""
_SIGNS = "hessian_distribution", "rademacher"
"""Argument and value that draw signs, with which estimates of a diagonal Hessian are exact."""


@dataclass(frozen=True, eq=False)
class Binding:
    """A rule that a class should compute, and the arguments that make it do so.

    Attributes:
        rule: the rule.
        translate: setting -> arguments of the class.
        decays: kinds of weight decay that the arguments can ask for; empty without weight decay.
        fixed: hyperparameters of the rule that the class does not take, with their values.
        claims_decay: whether the arguments or the name say which kind of decay it is.
        label: name of the rule, and what distinguishes this use of the class.
    """

    rule: Rule
    translate: Callable[[Setting], dict[str, Any]]
    decays: tuple[str, ...]
    fixed: Mapping[str, float | bool] = field(default_factory=dict)
    claims_decay: bool = True
    label: str = ""

    def arguments(self, setting: Setting) -> dict[str, Any]:
        """Return the arguments of the class for a setting."""
        return self.translate(setting)

    def adjustable(self) -> list[str]:
        """Return the numeric hyperparameters that the class takes, and weight decay."""
        names = [
            h.name
            for h in self.rule.hyperparameters
            if h.scale != "switch" and h.name not in self.fixed
        ]
        return [*names, "weight_decay"] if self.decays else names


def spelled(name: str) -> str:
    """Return a name in lower case without module, underscores and hyphens."""
    return re.sub(r"[_\-]", "", name.rpartition(":")[2].rpartition(".")[2].lower())


def rules_named(name: str, classes: Sequence[str] = ()) -> list[Rule]:
    """Return the rules that a class of this name computes: several for SGD and Adam.

    Args:
        name: name of the class.
        classes: names of its base classes, tried in order if its own name is that of no rule.
    """
    for candidate in (name, *classes):
        word = spelled(candidate)
        rules = [
            rule
            for rule in RULES.values()
            if (rule.torch_optim and spelled(rule.torch_optim.class_name) == word)
            or spelled(rule.name) == word
        ]
        if word in _OTHER_NAMES:
            rules.append(RULES[_OTHER_NAMES[word]])
        if rules:
            return list(dict.fromkeys(rules))
    return []


def bindings_of(
    rules: Sequence[Rule], arguments: Mapping[str, Any], *, needs_switch: bool = True
) -> list[Binding]:
    """Return how a class computes each of the rules, as far as its arguments allow.

    Args:
        rules: the rules.
        arguments: argument of the class -> its default.
        needs_switch: whether a class without a switch, such as `nesterov`, lacks that variant;
            False if it has no other one.
    """
    found = (
        _as_torch(rule, arguments) or _by_names(rule, arguments, needs_switch=needs_switch)
        for rule in rules
    )
    return [binding for binding in found if binding is not None]


def _as_torch(rule: Rule, arguments: Mapping[str, Any]) -> Binding | None:
    """Return the binding of the class of `torch.optim` that computes the rule, or a copy of it."""
    counterpart = rule.torch_optim
    if counterpart is None:
        return None
    keywords = counterpart.keywords(**rule.defaults)
    switches = {key for kind in counterpart.decays.values() for key in kind}
    if not {*keywords, *switches} <= arguments.keys():
        return None
    if counterpart.decays and "weight_decay" not in arguments:
        return None

    def translate(setting: Setting) -> dict[str, Any]:
        chosen = counterpart.arguments(setting.values, setting.weight_decay, setting.decay)
        if chosen is None:
            raise ValueError(
                f"{counterpart.class_name} has no weight decay of kind {setting.decay}"
            )
        if setting.weight_decay == 0 and counterpart.decays:
            chosen |= counterpart.decays.get(setting.decay, {})
        return chosen

    return Binding(rule, translate, tuple(counterpart.decays), label=rule.name)


def _by_names(rule: Rule, arguments: Mapping[str, Any], *, needs_switch: bool) -> Binding | None:
    """Return the binding of a class whose arguments are called as the rule's, or nearly."""
    places = _places(rule, arguments)
    switch = _SWITCHED.get(rule.name)
    if "lr" not in places or (switch is not None and switch not in arguments and needs_switch):
        return None
    fixed = {h.name: h.default for h in rule.hyperparameters if h.name not in places}
    if rule.name == "signsgd" and "momentum" in arguments:
        constant: dict[str, Any] = {"momentum": 0.0}
    else:
        constant = {switch: True} if switch is not None and switch in arguments else {}
    if rule.needs_curvature and _SIGNS[0] in arguments:
        constant |= dict([_SIGNS])
    is_clipped_first = rule.name == "sophia_h" and places.get("gamma") == ("p", None)
    complements = _COMPLEMENTS.get(rule.name, {})
    turned = {
        h
        for h, (key, _) in places.items()
        if key == complements.get(h) and isinstance(arguments[key], float) and arguments[key] < 0.5
    }
    whole = {h.name for h in rule.hyperparameters if h.whole}
    negated = {h.name for h in rule.hyperparameters if _is_negated(h, places, arguments)}
    decoupling = next((key for key in DECAY_SWITCHES if key in arguments), None)
    if "weight_decay" not in arguments:
        decays: tuple[str, ...] = ()
    elif rule.own_decay:
        decays = (rule.own_decay,)
    else:
        decays = ("l2", "decoupled") if decoupling else (rule.default_decay,)

    def translate(setting: Setting) -> dict[str, Any]:
        chosen: dict[str, Any] = dict(constant)
        setting = _clipped_first(setting) if is_clipped_first else setting
        for hyperparameter, (key, index) in places.items():
            value = setting.values[hyperparameter]
            value = int(value) if hyperparameter in whole else value
            value = -value if hyperparameter in negated else value
            value = 1 - value if hyperparameter in turned else value
            if index is None:
                chosen[key] = _CONVERTED.get(key, lambda given: given)(value)
            else:
                chosen[key] = (*chosen.get(key, ()), value)
        if decays:
            chosen["weight_decay"] = setting.weight_decay
            if decoupling and not rule.own_decay:
                chosen[decoupling] = setting.decay == "decoupled"
        return chosen

    claims = decoupling is not None or rule.own_decay is not None
    return Binding(rule, translate, decays, fixed, claims_decay=claims, label=rule.name)


def _clipped_first(setting: Setting) -> Setting:
    """Return the values of a Sophia that clips at gamma, before it multiplies by lr, not at 1."""
    gamma = float(setting.values["gamma"])
    scaled = {n: float(f"{float(setting.values[n]) / gamma:.12g}") for n in ("lr", "eps")}
    factor = gamma if setting.decay == "decoupled" else 1.0
    return replace(
        setting,
        values={**setting.values, **scaled},
        weight_decay=factor * setting.weight_decay,
    )


def _places(rule: Rule, arguments: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """Return hyperparameter -> argument, and its index there if the argument is a tuple."""
    places: dict[str, tuple[str, int | None]] = {}
    taken: dict[str, int] = {}
    for h in rule.hyperparameters:
        for key in (h.name, *h.aliases):
            if key not in arguments or key in _LEFT_AT_DEFAULT:
                continue
            if key == _OF_SQUARES.get(rule.name) and _is_tiny(arguments[key]):
                continue
            if isinstance(arguments[key], tuple | list):
                places[h.name] = (key, taken.get(key, 0))
                taken[key] = taken.get(key, 0) + 1
            else:
                places[h.name] = (key, None)
            break
    complete = {key: len(arguments[key]) == count for key, count in taken.items()}
    return {
        label: (key, index) for label, (key, index) in places.items() if complete.get(key, True)
    }


def _is_tiny(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < _TINY


def _is_negated(
    hyperparameter: Hyperparameter,
    places: Mapping[str, tuple[str, int | None]],
    arguments: Mapping[str, Any],
) -> bool:
    """Return whether a class takes a value with the other sign, such as a decay_rate of -0.8."""
    key, index = places.get(hyperparameter.name, ("", None))
    default = arguments.get(key) if index is None else arguments[key][index]
    return isinstance(default, int | float) and float(hyperparameter.default) * default < 0


def implemented_by_torch(rule: Rule) -> type[torch.optim.Optimizer] | None:
    """Return the class of `torch.optim` that computes a rule, or None."""
    if rule.torch_optim is None:
        return None
    result: type[torch.optim.Optimizer] = getattr(torch.optim, rule.torch_optim.class_name)
    return result
