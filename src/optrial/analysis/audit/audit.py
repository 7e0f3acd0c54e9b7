"""Checks every rule of the catalogue against the records of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from optrial.analysis.audit.catalogue import AUDIT_RULES
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Finding, Severity, group_runs
from optrial.analysis.audit.report import AuditReport
from optrial.analysis.audit.rule import AuditRule
from optrial.analysis.view import StudyView
from optrial.errors import Problem, StudyError
from optrial.spec import Status

__all__ = ["audit", "waiver_problems"]

ORDER = tuple(Severity)


def audit(view: StudyView) -> AuditReport:
    """Check whether the runs of a study support its comparisons and claims.

    Returns:
        Findings by severity, root causes first, verdicts on claims, and rules that could not be
        checked.

    Raises:
        StudyError: `waive` of the study names a rule that does not exist, or gives no reason.
    """
    waived = view.study.get("waive") or {}
    if problems := waiver_problems(waived):
        raise StudyError(problems)
    context = Context.of(view)
    concerned = [rule for rule in AUDIT_RULES.values() if rule.concerns(context)]
    lacking = {rule.id: _lacking(rule, context) for rule in concerned}
    unchecked = {rule: facts for rule, facts in lacking.items() if facts}
    findings = [finding for rule in concerned for finding in _findings(rule, context, waived)]
    findings.sort(key=_place)
    return AuditReport(
        tuple(findings),
        context.results,
        unchecked,
        len(concerned) - len(unchecked),
        _funnel(context),
    )


def _findings(rule: AuditRule, context: Context, waived: Mapping[str, Any]) -> Iterator[Finding]:
    for seen in rule.check(context):
        yield Finding(
            rule.id,
            seen.severity or rule.severity,
            rule.title,
            seen.evidence,
            seen.numbers,
            group_runs(seen.records),
            seen.remedy,
            str(waived.get(rule.id, "")),
        )


def _place(finding: Finding) -> tuple[bool, int, bool, str]:
    """Return the key by which findings are sorted."""
    root = AUDIT_RULES[finding.rule].root
    return bool(finding.waived), ORDER.index(finding.severity), not root, finding.rule


def _lacking(rule: AuditRule, context: Context) -> tuple[str, ...]:
    """Return the facts of a rule that no run recorded."""
    if not context.ended:
        return ()
    return tuple(
        name
        for name in rule.facts
        if all(getattr(record.facts, name) is None for record in context.ended)
    )


def _funnel(context: Context) -> dict[str, int]:
    statuses = [record.status for record in context.records]
    counts = {
        "planned": len(statuses),
        "done": statuses.count(Status.DONE),
        "diverged": statuses.count(Status.DIVERGED),
        "failed": statuses.count(Status.ERROR),
        "left out of the study": len(context.former),
    }
    always = ("planned", "done")
    shown = {what: count for what, count in counts.items() if count or what in always}
    return shown | {"reported": len(context.compared)}


def waiver_problems(waive: object) -> list[Problem]:
    """Return everything that is wrong with the `waive` of a study: ``{rule id: reason}``."""
    if not isinstance(waive, Mapping):
        return [Problem("waive", f"{waive!r}: must be a mapping of rules to reasons.")]
    problems = []
    for rule, reason in waive.items():
        if rule not in AUDIT_RULES:
            near = str(rule).upper()
            hint = f"Did you mean '{near}'? " if near in AUDIT_RULES else ""
            known = f"{next(iter(AUDIT_RULES))} to {list(AUDIT_RULES)[-1]}"
            message = f"there is no such audit rule. {hint}Rules are named {known}."
            problems.append(Problem(f"waive.{rule}", message))
        elif not isinstance(reason, str) or not reason.strip():
            problems.append(Problem(f"waive.{rule}", f"{reason!r}: give the reason as a text."))
    return problems
