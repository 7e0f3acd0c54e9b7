"""Results as HTML for a notebook: the answer first, then a small table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from optrial.analysis.recommendation import recommend
from optrial.analysis.statistics import best_sentence
from optrial.analysis.view import ProblemView, StudyView
from optrial.errors import counted
from optrial.markup import html_block, html_table
from optrial.report.print_tables import summary_cells

__all__ = ["results_html"]

_MOST_ROWS = 20


def results_html(view: StudyView, place: str) -> str:
    """Return the verdict, the recommendation and the summary of a study as HTML.

    Args:
        view: the view of the study.
        place: where its results are.
    """
    parts = [part for problem in view.problems for part in _problem_html(view, problem)]
    statuses = Counter(str(record.status) for record in view.records)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    runs = counted(len(view.records), "run")
    return html_block(view.name, *parts, notes=[f"{runs} ({counts}) in {place}"])


def _problem_html(view: StudyView, problem: ProblemView) -> Iterator[str]:
    comparisons, recommendation = problem.comparisons, recommend(problem)
    verdict = problem.not_compared
    if comparisons is not None:
        verdict = f"{best_sentence(comparisons, problem.contestants)}."
    verdict = f"{problem.name}: {verdict}" if len(view.problems) > 1 else verdict
    use = [f"{recommendation.text}."] if recommendation else []
    settings = list(problem.summaries)
    if len(settings) > _MOST_ROWS:
        settings = [summary for summary in settings if summary.best] or settings
    columns, rows = summary_cells(settings[:_MOST_ROWS], problem.directions)
    strong = [index for index, summary in enumerate(settings) if summary.best]
    if hidden := len(problem.summaries) - len(rows):
        use.append(f"{counted(hidden, 'further setting')} in summary().")
    yield html_block(verdict, notes=use)
    yield html_table(columns, rows, left=2, strong=strong)
