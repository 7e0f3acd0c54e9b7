"""Check every rule of the catalogue against the records of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from optrial.analysis.audit.catalogue import AUDIT_RULES, UNTRAINED
from optrial.analysis.audit.context import Context
from optrial.analysis.audit.finding import Finding, Severity, group_runs
from optrial.analysis.audit.remedies import on_problems
from optrial.analysis.audit.report import AuditReport
from optrial.analysis.audit.rule import AuditRule
from optrial.analysis.view import StudyView
from optrial.errors import Problem, StudyError
from optrial.records import Record
from optrial.spec import Status

__all__ = ["audit", "waiver_problems"]


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
    ids = UNTRAINED if _untrained(context.records) else AUDIT_RULES.keys()
    concerned = [r for r in AUDIT_RULES.values() if r.id in ids and r.concerns(context)]
    lacking = {rule.id: _lacking(rule, context) for rule in concerned}
    unchecked = {rule: facts for rule, facts in lacking.items() if facts}
    findings = [finding for rule in concerned for finding in _findings(rule, context, waived)]
    findings.sort(key=_order)
    return AuditReport(
        tuple(findings),
        context.results,
        unchecked,
        len(concerned) - len(unchecked),
        _funnel(context),
    )


def _findings(rule: AuditRule, context: Context, waived: Mapping[str, Any]) -> Iterator[Finding]:
    for observation in rule.check(context):
        records = tuple(observation.records)
        if rule.id not in UNTRAINED and _untrained(records):
            continue
        yield Finding(
            rule.id,
            observation.severity or rule.severity,
            rule.title,
            _evidence(context, observation.evidence, records),
            observation.numbers,
            group_runs(records),
            on_problems(context, observation.remedy, records),
            str(waived.get(rule.id, "")),
        )


def _untrained(records: Sequence[Record]) -> bool:
    """Return whether no run has a step; initial weights say nothing of an optimizer."""
    return bool(records) and not any(record.steps for record in records)


def _evidence(context: Context, evidence: str, records: Sequence[Record]) -> str:
    """Return the evidence, after the name of its problem in a study of several problems."""
    problems = {record.problem for record in records}
    if len(context.problems) < 2 or len(problems) != 1:
        return evidence
    (problem,) = problems
    named = f" on {problem}" in evidence or f" in {problem}" in evidence  # by a claim
    return evidence if named else f"on {problem}: {evidence}"


def _order(finding: Finding) -> tuple[bool, int, bool, str]:
    """Sort waived findings last, then by severity, root causes first."""
    root = AUDIT_RULES[finding.rule].root
    severity = list(Severity).index(finding.severity)
    return bool(finding.waived), severity, not root, finding.rule


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
    """Return numbers of runs by stage; of planned and done runs even if there are none."""
    statuses = [record.status for record in context.records]
    counts = {
        "planned": len(statuses),
        "done": statuses.count(Status.DONE),
        "diverged": statuses.count(Status.DIVERGED),
        "failed": statuses.count(Status.ERROR),
        "removed from the study": len(context.former),
    }
    always = ("planned", "done")
    shown = {stage: count for stage, count in counts.items() if count or stage in always}
    return shown | {"reported": len(context.compared)}


def waiver_problems(waive: object) -> list[Problem]:
    """Return everything that is wrong with the `waive` of a study: ``{rule id: reason}``."""
    if not isinstance(waive, Mapping):
        problem = f"{waive!r}: must map audit rules to reasons, such as {{A05: a pilot study}}."
        return [Problem("waive", problem)]
    problems = []
    for rule, reason in waive.items():
        if rule not in AUDIT_RULES:
            near = get_close_matches(str(rule)[:9].upper(), AUDIT_RULES, n=1)
            hint = f"Did you mean '{near[0]}'? " if near else ""
            known = f"{min(AUDIT_RULES)} to {max(AUDIT_RULES)}"
            message = f"there is no such audit rule. {hint}Rules are named {known}."
            problems.append(Problem(f"waive.{rule}", message))
        elif not isinstance(reason, str) or not reason.strip():
            problems.append(Problem(f"waive.{rule}", f"{reason!r}: must be a reason in words."))
    return problems
