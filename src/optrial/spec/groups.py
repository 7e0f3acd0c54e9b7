"""Groups of parameters whose update differs from that of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

__all__ = ["OptimizerKind", "ParameterGroup", "Part"]

OptimizerKind = Literal["rule", "torch", "rule_factory"]
"""A rule of the catalogue, a user's `torch.optim.Optimizer` class, or a user's function that
returns a rule."""


class ParameterGroup(NamedTuple):
    """Parameters of a run that differ in their update from the other ones.

    Attributes:
        name: name in tables.
        parameters: names of the parameters, in the order of the model.
        optimizer_kind: kind of the group's rule; None for the rule of the run.
        rule: name of the group's rule; None for the rule of the run.
        hyperparameters: values that the group sets; with its own rule, every hyperparameter.
        times: factors of the run's values, by hyperparameter or "weight_decay".
        weight_decay: coefficient; None for that of the run.
        decay: kind of weight decay; None for that of the run.
        schedule: schedule of the learning rate; None for that of the run.
        freeze: whether the parameters keep their initial values.
        modify: names of the modifiers; None for those of the run, unless the group has a rule.
    """

    name: str
    parameters: tuple[str, ...]
    optimizer_kind: OptimizerKind | None = None
    rule: str | None = None
    hyperparameters: Mapping[str, Any] = {}
    times: Mapping[str, float] = {}
    weight_decay: float | None = None
    decay: Literal["l2", "decoupled"] | None = None
    schedule: Mapping[str, Any] | None = None
    freeze: bool = False
    modify: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as JSON-able values; `modify` only where it is set, as in ids."""
        values = self._asdict()
        if self.modify is None:
            del values["modify"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the group whose `as_dict` this is, also after a round trip through JSON."""
        typed = {**values, "parameters": tuple(values["parameters"])}
        if values.get("modify") is not None:
            typed["modify"] = tuple(values["modify"])
        return cls(**typed)

    @property
    def shown(self) -> dict[str, Any]:
        """Values that the group sets, under the names that tables show: "norm.weight_decay"."""
        own = {
            "rule": self.rule,
            **self.hyperparameters,
            **{f"{name}.times": factor for name, factor in self.times.items()},
            "weight_decay": self.weight_decay,
            "decay": self.decay,
            "freeze": self.freeze or None,
            "modify": None if self.modify is None else (" ".join(self.modify) or "none"),
        }
        for name, value in (self.schedule or {}).items():
            own["schedule" if name == "kind" else f"schedule.{name}"] = value
        return {f"{self.name}.{name}": value for name, value in own.items() if value is not None}


class Part(NamedTuple):
    """Parameters that one rule updates with the same values.

    Attributes:
        name: name of the group; "" for the parameters that are in no group.
        parameters: names of the parameters.
        optimizer_kind: kind of the rule.
        rule: name of the rule, or ``module:name``.
        hyperparameters: every hyperparameter of the rule, or argument of the class.
        weight_decay: coefficient, 0 for none.
        decay: kind of weight decay.
        schedule: schedule of the learning rate, or None.
        modify: names of the modifiers, in their order.
    """

    name: str
    parameters: tuple[str, ...]
    optimizer_kind: OptimizerKind
    rule: str
    hyperparameters: Mapping[str, Any]
    weight_decay: float
    decay: Literal["l2", "decoupled"]
    schedule: Mapping[str, Any] | None
    modify: tuple[str, ...] = ()
