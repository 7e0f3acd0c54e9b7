"""The paragraphs on results and on limits, in the sentences of the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from optrial.analysis.audit import AuditReport, Finding, Severity, summary_line
from optrial.analysis.recommendation import recommend
from optrial.analysis.reported import agreement
from optrial.analysis.statistics import best_sentence, ranks_sentence, sentence
from optrial.analysis.summary import missing_values
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import capital, counted
from optrial.markup import Passage
from optrial.spec import FINAL, Status

__all__ = ["limits_texts", "results_text"]

MOST_PAIRS = 6
"""Most pairs of the leader that the paragraph spells out; the table has all of them."""


def results_text(view: StudyView, audit: AuditReport) -> Passage:
    """Return the paragraph on results: verdict, differences with intervals, claims, failures."""
    return (" ".join(_results(view, audit)),)


def _results(view: StudyView, audit: AuditReport) -> Iterator[str]:
    yield from _caveats(view, audit)
    several = len(view.problems) > 1
    for problem in view.problems:
        start = f"On {problem.name}: " * several
        yield f"{start}{' '.join(_of_problem(problem))}"
    for result in audit.claims:
        yield f"The claim {result.sentence}."
    if view.ranks:
        yield f"{ranks_sentence(view.ranks)}."
    for problem in view.problems:
        if values := view.published(problem):
            yield f"{agreement(values)[0]}."
        yield from (f"{reason}." for reason in missing_values(problem.reported))
    if failed := _failures(view):
        yield failed


def _caveats(view: StudyView, audit: AuditReport) -> Iterator[str]:
    """Yield what a reader must know before any number."""
    left = sum(record.status not in (*FINAL, Status.ERROR) for record in view.records)
    if left:
        runs = counted(len(view.records), "run")
        yield f"PROVISIONAL: {left:,} of {runs} have not ended."
    blocking = [f for f in audit.findings if f.severity is Severity.ERROR and not f.waived]
    if blocking:
        titles = "; ".join(dict.fromkeys(f"{f.rule} {f.title}" for f in blocking))
        yield f"NOT SUPPORTED BY THE RUNS, see the limits: {titles}."


def _of_problem(problem: ProblemView) -> Iterator[str]:
    """Yield the verdict, the leader's pairs and the recommendation."""
    comparisons = problem.comparisons
    if comparisons is None:
        yield problem.not_compared
        return
    yield f"{best_sentence(comparisons, problem.contestants)}."
    leader = comparisons.order[0]
    pairs = [p for p in problem.pairs if leader in (p.first, p.second) and not p.all_diverged]
    yield from (f"{sentence(pair)}." for pair in pairs[:MOST_PAIRS])
    if len(pairs) > MOST_PAIRS:
        yield f"The table has the other {counted(len(pairs) - MOST_PAIRS, 'pair')} of {leader}."
    if recommendation := recommend(problem):
        yield f"Recommended: {recommendation.choice}."


def _failures(view: StudyView) -> str:
    """Return how many runs failed, by status; empty if none did."""
    counts = [
        f"{view.statuses[status]:,} {name}"
        for status, name in ((Status.DIVERGED, "diverged"), (Status.ERROR, "ended with an error"))
        if view.statuses.get(status)
    ]
    return f"Of {counted(len(view.records), 'run')}, {' and '.join(counts)}." if counts else ""


def limits_texts(audit: AuditReport) -> list[str]:
    """Return the outcome of the audit, then one sentence per finding that must be disclosed."""
    disclosed = [finding for finding in audit.findings if finding.severity is not Severity.ADVICE]
    if not disclosed:
        return [f"{capital(summary_line(audit))}."]
    return list(map(_limit, disclosed))


def _limit(finding: Finding) -> str:
    reason = f" Waived: {finding.waived.rstrip('.')}." if finding.waived else ""
    return f"{finding.rule} {finding.title}: {finding.evidence}.{reason}"
