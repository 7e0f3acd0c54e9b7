"""The setting to use: that of the leading optimizer, and the learning rates that do as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optrial.analysis.contenders import Contender, setting_text
from optrial.analysis.searches import rate_ranges
from optrial.analysis.statistics import RateRange
from optrial.analysis.view import ProblemView
from optrial.rules import RULES
from optrial.spec import RunSpec

__all__ = ["Recommendation", "recommend"]


@dataclass(frozen=True)
class Recommendation:
    """Recommendation of a study for one problem.

    Attributes:
        optimizer: name of the leading optimizer.
        setting: the values that vary; empty if none does.
        rates: learning rates that are about as good; None if fewer than two were tried.
        code: expression that builds the optimizer in PyTorch; empty for a rule without counterpart.
        besides: keys of the study that the expression leaves out: schedule and clipping.
    """

    optimizer: str
    setting: str
    rates: RateRange | None
    code: str
    besides: tuple[str, ...]

    def __str__(self) -> str:
        rate = setting_text(self.setting).replace("=", " ") or "its setting in this study"
        return f"{self.optimizer} at {rate}{self._as_good()}"

    def _as_good(self) -> str:
        rates = self.rates
        if rates is None or not rates.low < rates.high:
            return ""
        low = f"from {rates.low:.2g}" if not rates.open_low else f"from {rates.low:.2g} or below"
        high = f"to {rates.high:.2g}" if not rates.open_high else f"to {rates.high:.2g} or above"
        return f"; any learning rate {low} {high} does about as well"


def recommend(problem: ProblemView) -> Recommendation | None:
    """Return the recommendation of a study; None if nothing is compared or no setting is chosen."""
    comparisons = problem.comparisons
    if comparisons is None or not comparisons.groups or not problem.chooses:
        return None
    (leader,) = (c for c in problem.contenders if c.name == comparisons.groups[0][0])
    return _recommendation(problem, leader)


def _recommendation(problem: ProblemView, leader: Contender) -> Recommendation:
    spec = leader.spec
    ranges = rate_ranges(problem, problem.select or problem.metric)
    rates = ranges.get(leader.optimizer)
    known = rates if rates is not None and rates.best == rates.best else None
    extras = {
        "schedule": spec.schedule is not None,
        "clip": spec.clip_norm is not None or spec.clip_value is not None,
    }
    besides = tuple(key for key, used in extras.items() if used)
    return Recommendation(leader.name, leader.setting, known, torch_code(spec), besides)


def torch_code(spec: RunSpec) -> str:
    """Return the expression that builds the optimizer of a run; empty without a counterpart."""
    if spec.optimizer_kind == "torch":
        module, _, name = spec.rule.rpartition(":")
        decay = {"weight_decay": spec.weight_decay} if spec.weight_decay else {}
        return _call(f"{module}.{name}", {**spec.hyperparameters, **decay})
    rule = RULES.get(spec.rule)
    counterpart = rule.torch_optim if rule else None
    if rule is None or counterpart is None:
        return ""
    values = {**rule.defaults, **spec.hyperparameters}
    arguments = counterpart.arguments(values, spec.weight_decay, spec.decay)
    if arguments is None:
        return ""
    if not spec.weight_decay and "l2" in counterpart.decays:
        arguments = {name: value for name, value in arguments.items() if name != "weight_decay"}
    return _call(f"torch.optim.{counterpart.class_name}", arguments)


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}(model.parameters(), {shown})" if shown else f"{name}(model.parameters())"
