"""Every audit rule, by section."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from optrial.analysis.audit.aggregates import AGGREGATE_RULES
from optrial.analysis.audit.budget import BUDGET_RULES
from optrial.analysis.audit.evidence import EVIDENCE_RULES
from optrial.analysis.audit.implementation import IMPLEMENTATION_RULES
from optrial.analysis.audit.replication import REPLICATION_RULES
from optrial.analysis.audit.reporting import REPORTING_RULES
from optrial.analysis.audit.reproduction import REPRODUCTION_RULES
from optrial.analysis.audit.rule import AuditRule
from optrial.analysis.audit.scale import SCALE_RULES
from optrial.analysis.audit.selection import SELECTION_RULES
from optrial.analysis.audit.timing import TIMING_RULES
from optrial.analysis.audit.tuning_budget import TUNING_BUDGET_RULES
from optrial.analysis.audit.tuning_edge import TUNING_EDGE_RULES
from optrial.analysis.audit.tuning_outcome import TUNING_OUTCOME_RULES
from optrial.analysis.audit.updates import UPDATE_RULES

__all__ = ["AUDIT_RULES", "SECTIONS"]

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

AUDIT_RULES: Mapping[str, AuditRule] = MappingProxyType(
    {
        rule.id: rule
        for rule in sorted(
            (
                *TUNING_BUDGET_RULES,
                *TUNING_EDGE_RULES,
                *TUNING_OUTCOME_RULES,
                *SELECTION_RULES,
                *BUDGET_RULES,
                *REPLICATION_RULES,
                *EVIDENCE_RULES,
                *AGGREGATE_RULES,
                *IMPLEMENTATION_RULES,
                *UPDATE_RULES,
                *REPRODUCTION_RULES,
                *SCALE_RULES,
                *TIMING_RULES,
                *REPORTING_RULES,
            ),
            key=lambda rule: rule.id,
        )
    }
)
