"""Every audit rule, by section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from types import MappingProxyType, ModuleType

import optrial.analysis.audit.budget as budget_rules
import optrial.analysis.audit.edges as edge_rules
import optrial.analysis.audit.halving as halving_rules
import optrial.analysis.audit.implementation as implementation_rules
import optrial.analysis.audit.learning as learning_rules
import optrial.analysis.audit.replication as replication_rules
import optrial.analysis.audit.reporting as reporting_rules
import optrial.analysis.audit.reproducibility as reproducibility_rules
import optrial.analysis.audit.selection as selection_rules
import optrial.analysis.audit.significance as significance_rules
import optrial.analysis.audit.timing as timing_rules
import optrial.analysis.audit.tuning as tuning_rules
import optrial.analysis.audit.tuning_outcome as tuning_outcome_rules
from optrial.analysis.audit.rule import AuditRule

__all__ = ["AUDIT_RULES", "SECTIONS", "UNTRAINED"]

SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "A": "Tuning",
        "B": "Selection and leakage",
        "C": "Budget and stopping",
        "D": "Replication and statistics",
        "E": "Implementation",
        "F": "Timing",
        "G": "Reporting",
    }
)
MODULES = {
    "A": (tuning_rules, edge_rules, tuning_outcome_rules, halving_rules),
    "B": (selection_rules,),
    "C": (budget_rules,),
    "D": (replication_rules, significance_rules),
    "E": (implementation_rules, learning_rules, reproducibility_rules),
    "F": (timing_rules,),
    "G": (reporting_rules,),
}
"""Modules of each section; every `AuditRule` in them is in the catalogue."""


_OF_INITIAL_WEIGHTS = (selection_rules, implementation_rules, reproducibility_rules)


def _rules(modules: Iterable[ModuleType]) -> list[AuditRule]:
    values = [value for module in modules for value in vars(module).values()]
    return sorted(
        (value for value in values if isinstance(value, AuditRule)), key=lambda rule: rule.id
    )


AUDIT_RULES: Mapping[str, AuditRule] = MappingProxyType(
    {rule.id: rule for rule in _rules(chain.from_iterable(MODULES.values()))}
)
_OF_CHOICES = {"B01", "B03", "B04", "B05"}
UNTRAINED = frozenset(rule.id for rule in _rules(_OF_INITIAL_WEIGHTS)) - _OF_CHOICES
"""Rules that also concern runs without a step: those on data, code and environment."""
