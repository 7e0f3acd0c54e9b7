"""The catalogue of update rules, from the simplest up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from optrial.errors import Problem, StudyError, suggest
from optrial.rules.adafactor import ADAFACTOR
from optrial.rules.adagrad import ADADELTA, ADAGRAD
from optrial.rules.adam import ADAM, ADAMW, AMSGRAD
from optrial.rules.adam_mini import ADAM_MINI
from optrial.rules.adam_variants import ADAMAX, NADAM, RADAM
from optrial.rules.averaged import ASGD
from optrial.rules.curvature import ADAHESSIAN, SOPHIA_H
from optrial.rules.gradient_descent import MOMENTUM, NESTEROV, SGD
from optrial.rules.layerwise import LAMB, LARS
from optrial.rules.lbfgs import LBFGS
from optrial.rules.mixtures import ADAN, ADEMAMIX, QHM
from optrial.rules.muon import MUON
from optrial.rules.normuon import NORMUON
from optrial.rules.prodigy import PRODIGY
from optrial.rules.psgd import PSGD_KRON
from optrial.rules.resilient import RPROP
from optrial.rules.rmsprop import RMSPROP, RMSPROP_NESTEROV
from optrial.rules.rule import Rule
from optrial.rules.schedule_free import SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_SGD
from optrial.rules.scion import SCION
from optrial.rules.second_moments import ADABELIEF, ADOPT, LAPROP, YOGI
from optrial.rules.shampoo import SHAMPOO
from optrial.rules.sign import LION, SIGNSGD, SIGNUM
from optrial.rules.soap import SOAP

__all__ = ["ROLES_AS_VECTORS", "RULES", "get_rules"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            SGD,
            MOMENTUM,
            NESTEROV,
            QHM,
            ASGD,
            ADAGRAD,
            RMSPROP,
            RMSPROP_NESTEROV,
            ADADELTA,
            ADAM,
            ADAMW,
            AMSGRAD,
            ADAMAX,
            NADAM,
            RADAM,
            ADABELIEF,
            YOGI,
            ADOPT,
            LAPROP,
            ADEMAMIX,
            ADAN,
            RPROP,
            SIGNSGD,
            SIGNUM,
            LION,
            ADAFACTOR,
            ADAM_MINI,
            LARS,
            LAMB,
            ADAHESSIAN,
            SOPHIA_H,
            SHAMPOO,
            SOAP,
            PSGD_KRON,
            MUON,
            NORMUON,
            SCION,
            SCHEDULE_FREE_SGD,
            SCHEDULE_FREE_ADAMW,
            PRODIGY,
            LBFGS,
        )
    }
)

ROLES_AS_VECTORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: rule.as_vectors for name, rule in RULES.items() if rule.as_vectors}
)
"""Name of a rule -> roles of the matrices that it updates as it does vectors."""


def get_rules(names: Iterable[str], *, also: Iterable[str] = ()) -> list[Rule]:
    """Return rules by name, in that order.

    Args:
        names: names of rules.
        also: other names that an error message may suggest.

    Raises:
        StudyError: some do not exist; the message lists them all.
    """
    names = list(names)
    unknown = [name for name in names if name not in RULES]
    if unknown:
        problems = [
            Problem("rule", f"'{name}' is not a rule. {suggest(name, (*RULES, *also))}")
            for name in unknown
        ]
        raise StudyError(problems, source="the choice of rules")
    return [RULES[name] for name in names]
