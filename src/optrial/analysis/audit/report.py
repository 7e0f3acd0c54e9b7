"""The report of an audit, as text for a terminal and as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optrial.analysis.audit.finding import Finding, Remedy, Severity
from optrial.analysis.claims import ClaimResult
from optrial.errors import counted
from optrial.lines import wrapped
from optrial.markup import html_block, html_table
from optrial.spec import setting_text

__all__ = ["AuditReport", "as_json", "cost_text", "report_text", "summary_line", "without_none"]

WIDTH = 88
SHOWN = 6  # most settings of a finding that are listed by name
LABELS = {
    Severity.ERROR: "blocks the claim",
    Severity.WARNING: "must be disclosed",
    Severity.ADVICE: "good to know",
}


@dataclass(frozen=True, repr=False)
class AuditReport:
    """Findings of an audit, and verdicts on the claims.

    Attributes:
        findings: by severity, root causes first, then by rule; waived ones last.
        claims: the verdict on every claim of the study.
        unchecked: rules that could not be checked, with the facts that no run recorded.
        checked: number of rules that were checked.
        funnel: numbers of planned, done, diverged, failed, removed and reported runs.
    """

    findings: tuple[Finding, ...]
    claims: tuple[ClaimResult, ...]
    unchecked: Mapping[str, tuple[str, ...]]
    checked: int
    funnel: Mapping[str, int]

    def __str__(self) -> str:
        return report_text(self, python=True)

    def __repr__(self) -> str:
        return f"<AuditReport: {summary_line(self).removeprefix('audit: ')}>"

    def _repr_html_(self) -> str:
        columns = ["finding", "weight", "evidence", "to clear"]
        rows = [_html_cells(finding) for finding in self.findings]
        table = html_table(columns, rows, left=len(columns)) if rows else ""
        claims = [f"{result.sentence}." for result in self.claims]
        more = ["print(...) shows the remedies as keyword arguments"] if rows else []
        return html_block(summary_line(self), table, notes=[*claims, *more])

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity that are not waived."""
        return sum(f.severity is severity and not f.waived for f in self.findings)

    @property
    def exit_status(self) -> int:
        """0 if clean, 1 with warnings, 2 with findings that block the claim."""
        if self.count(Severity.ERROR):
            return 2
        return 1 if self.count(Severity.WARNING) else 0


def summary_line(report: AuditReport) -> str:
    """Return the outcome in one line, without a full stop."""
    errors, warnings = report.count(Severity.ERROR), report.count(Severity.WARNING)
    waived = sum(bool(finding.waived) for finding in report.findings)
    ended = sum(report.funnel.get(stage, 0) for stage in ("done", "diverged", "failed"))
    notes = ["no run has ended"] * (not ended)
    notes += [f"{waived} waived"] * bool(waived)
    unchecked = len(report.unchecked)
    notes += [f"{counted(unchecked, 'rule')} not checked"] * bool(unchecked)
    remarks = f" ({', '.join(notes)})" if notes else ""
    if not errors + warnings:
        return f"audit: clean, {counted(report.checked, 'rule')} checked{remarks}"
    first = next(finding for finding in report.findings if not finding.waived)
    counts = [f"{errors} blocking"] * bool(errors)
    counts += [counted(warnings, "warning")] * bool(warnings)
    return f"audit: {', '.join(counts)}{remarks}; first: {first.rule} {first.title}"


def report_text(report: AuditReport, *, python: bool = False, width: int = WIDTH) -> str:
    """Return the report in lines, all but commands to paste of bounded length.

    Args:
        report: the report.
        python: whether remedies are keyword arguments of `optrial.Study` instead of ``--set``.
        width: most characters of a line.
    """
    return "\n".join(_lines(report, python, width)).rstrip() + "\n"


def _lines(report: AuditReport, python: bool, width: int) -> Iterator[str]:
    yield _wrapped(summary_line(report) + ".", "", width)
    yield _wrapped(
        "Runs: " + ", ".join(f"{n} {stage}" for stage, n in report.funnel.items()) + ".", "", width
    )
    for finding in report.findings:
        yield ""
        yield from _finding_lines(finding, python, width)
    if report.claims:
        yield "\nClaims"
        for result in report.claims:
            yield _wrapped(f"{result.sentence}.", "  ", width)
    if report.unchecked:
        listed = "; ".join(f"{rule} ({', '.join(f)})" for rule, f in report.unchecked.items())
        yield "\nNot checked, because no run recorded the facts in brackets:"
        yield _wrapped(f"{listed}.", "  ", width)


def _html_cells(finding: Finding) -> tuple[str, str, str, str]:
    """Return the cells of a finding in a notebook."""
    name = f"{finding.rule} {finding.title}"
    if finding.waived:
        return name, "waived", f"{finding.evidence}. Reason: {finding.waived}", ""
    remedy = f"{finding.remedy.action}{cost_text(finding.remedy)}"
    return name, LABELS[finding.severity], finding.evidence, remedy


def _finding_lines(finding: Finding, python: bool, width: int) -> Iterator[str]:
    label = "waived" if finding.waived else LABELS[finding.severity]
    yield _wrapped(f"{finding.rule} {finding.title} ({label})", "", width)
    if finding.waived:
        yield _wrapped(f"reason: {finding.waived}", "    ", width)
    yield _wrapped(f"{finding.evidence}.", "    ", width)
    if finding.runs:
        shown = [f"{setting_text(name)} ({len(ids)})" for name, ids in finding.runs.items()]
        total = sum(map(len, finding.runs.values()))
        listed = ", ".join(shown) if len(shown) <= SHOWN else f"{total} of {len(shown)} settings"
        yield _wrapped(f"runs: {listed}", "    ", width)
    if not finding.waived:
        yield _wrapped(
            f"to clear: {finding.remedy.action}{cost_text(finding.remedy)}", "    ", width
        )
        if finding.remedy.studies:
            yield f"      in {', '.join(finding.remedy.studies)}"
        if python and finding.remedy.keywords:
            yield from _keyword_lines(finding.remedy)
        elif finding.remedy.settings:
            yield " \\\n".join(f"      {argument}" for argument in finding.remedy.arguments)


def _keyword_lines(remedy: Remedy) -> Iterator[str]:
    """Yield one keyword argument of `optrial.Study` or `optrial.compare` per line."""
    if remedy.folder:
        yield f"      out={remedy.folder!r},"
    for name, value in remedy.keywords.items():
        yield f"      {name}={value!r},"


def cost_text(remedy: Remedy) -> str:
    """Return the number of runs of a remedy and their time, in brackets; empty for none."""
    if not remedy.runs:
        return ""
    runs = "at least " * remedy.at_least + counted(remedy.runs, "run")
    return f" ({runs})" if remedy.seconds is None else f" ({runs}, {_duration(remedy.seconds)})"


def _duration(seconds: float) -> str:
    """Return an approximate duration in seconds, minutes or hours."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, math.ceil(seconds))} s"


def _wrapped(text: str, indent: str, width: int) -> str:
    return wrapped(text, width, indent, indent + "  ")


def as_json(report: AuditReport) -> dict[str, Any]:
    """Return the report as JSON-able values; numbers that are not finite become None."""
    plain: dict[str, Any] = _plain(
        {
            "exit_status": report.exit_status,
            "summary": summary_line(report),
            "funnel": dict(report.funnel),
            "checked": report.checked,
            "unchecked": report.unchecked,
            "findings": [_finding_values(finding) for finding in report.findings],
            "claims": [
                {
                    "claim": result.claim.text,
                    "verdict": str(result.verdict),
                    "sentence": result.sentence,
                    "numbers": result.numbers,
                }
                for result in report.claims
            ],
        }
    )
    return plain


def _finding_values(finding: Finding) -> dict[str, Any]:
    remedy = {**asdict(finding.remedy), "arguments": finding.remedy.arguments}
    del remedy["keywords"]
    return {**asdict(finding), "severity": str(finding.severity), "remedy": remedy}


def _plain(value: Any) -> Any:
    """Replace tuples by lists and numbers that are not finite by None, recursively."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def without_none(value: Any) -> Any:
    """Return plain values without the keys of mappings that are not set, recursively."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value
