"""Rules that check from the records alone whether a comparison supports its claims."""

from optrial.analysis.audit.audit import audit, waiver_problems
from optrial.analysis.audit.catalogue import AUDIT_RULES, SECTIONS
from optrial.analysis.audit.finding import Finding, Severity
from optrial.analysis.audit.report import AuditReport, as_json, report_text, summary_line
from optrial.analysis.audit.rule import AuditRule

__all__ = [
    "AUDIT_RULES",
    "SECTIONS",
    "AuditReport",
    "AuditRule",
    "Finding",
    "Severity",
    "as_json",
    "audit",
    "report_text",
    "summary_line",
    "waiver_problems",
]
