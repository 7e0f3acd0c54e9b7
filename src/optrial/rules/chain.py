"""The chain of a step: modifiers of the gradient, the rule, its change, decay, the new parameter.

Clipping by norm and value comes before it, because it looks at the gradient of the whole model. The
schedule has multiplied `lr` by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optrial.rules.arrays import Array, Scalar, namespace
from optrial.rules.decay import DECOUPLED, L2
from optrial.rules.rule import Modifier, NoState, Rule, State

__all__ = ["Place", "axes_of_run", "decay_of", "key_of", "own_values", "values_of"]


@dataclass(frozen=True)
class Place:
    """One parameter in one step, with what its modifiers may need.

    Attributes:
        name: name of the parameter.
        state: state of the whole model before the step.
        lead: number of run axes.
        step: number of the step.
        values: hyperparameters of the rule and its modifiers.
        is_vector: whether it is one of the matrices to be treated as vectors.
        known: name in `Modifier.needs` -> its value, as far as the step has come.
        new_state: state after the step; the modifiers add to it.
    """

    name: str
    state: Mapping[str, State]
    lead: int
    step: Scalar
    values: Mapping[str, Scalar]
    is_vector: bool
    known: dict[str, Any]
    new_state: dict[str, State]

    def axes(self, part: Rule | Modifier) -> Sequence[int]:
        """Return the axes of one run's parameter as a rule or modifier sees them."""
        return axes_of_run(self.known["param"], self.lead, part, self.is_vector)

    def through(self, modifiers: Sequence[Modifier], value: Array) -> Array:
        """Return a value after modifiers, in their order."""
        for modifier in modifiers:
            key = key_of(modifier, self.name)
            available = self.known | {"axes": self.axes(modifier), "lr": self.values["lr"]}
            needed = {need: available[need] for need in modifier.needs}
            own = values_of(modifier, self.values)
            before = self.state.get(key, NoState())
            value, after = modifier.update(value, before, self.step, **needed, **own)
            if key in self.state:
                self.new_state[key] = after
        return value

    def gradient(self, grad: Array, rule: Rule, decay: Modifier | None) -> Array:
        """Return the gradient that the rule receives."""
        modifiers, penalty = rule.at("gradient"), [decay] if decay is L2 else []
        received = self.known["grad"] = self.through(penalty, grad)
        if modifiers:
            received = self.through(penalty, self.through(modifiers, grad))
        self.known["rule_grad"] = received
        return received

    def moved(self, change: Array, rule: Rule, decay: Modifier | None, out: Array | None) -> Array:
        """Return the parameter after the change of the rule; it is written to `out`, if given."""
        change = self.through(rule.at("change"), change)
        replacing, param = rule.at("decay"), self.known["param"]
        if replacing:
            if decay is not DECOUPLED:
                self.known["weight_decay"] = 0.0
            param = self.through(replacing, change)
        elif decay is DECOUPLED:
            param = self.through([DECOUPLED], change)
        modifiers = rule.at("parameter")
        if not modifiers:
            return param + change if out is None else namespace(param).add(param, change, out=out)
        self.known["change"] = change
        value = self.through(modifiers, param + change)
        if out is None:
            return value
        out[...] = value
        return out


def decay_of(rule: Rule, decay: str, weight_decay: Scalar) -> Modifier | None:
    """Return the weight decay outside of a rule; None without, and if the rule has its own."""
    if decay == rule.own_decay or (isinstance(weight_decay, float | int) and weight_decay == 0):
        return None
    return L2 if decay == "l2" else DECOUPLED


def key_of(modifier: Modifier, name: str) -> str:
    """Return the key of the state of a modifier for a parameter."""
    return f"{modifier.key}:{name}"


def own_values(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the hyperparameters of a rule itself, without those of its modifiers."""
    return {name: value for name, value in values.items() if "." not in name}


def values_of(modifier: Modifier, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the hyperparameters of a modifier, without its prefix."""
    return {h.name: values[f"{modifier.key}.{h.name}"] for h in modifier.hyperparameters}


def axes_of_run(param: Array, lead: int, part: Rule | Modifier, is_vector: bool) -> Sequence[int]:
    """Return the axes of one run's parameter, counted from the end: ..., -2, -1.

    Of a matrix to update as a vector, the last one: such an update looks at single coordinates.
    """
    return (-1,) if is_vector and part.as_vectors else tuple(range(lead - param.ndim, 0))
