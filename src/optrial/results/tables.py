"""Results as tables: pandas frames, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from optrial.analysis import SettingSummary, curves_frame, funnel, runs_frame
from optrial.analysis.view import ProblemView, StudyView
from optrial.analysis.wide import wide_curves
from optrial.report.print_tables import settings_table
from optrial.results.reading import Reading, one_problem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tables", "titled"]


class Tables(Reading):
    """The tables of a study."""

    def runs(self) -> pd.DataFrame:
        """Return one row per run; see `optrial.analysis.runs_frame`."""
        return runs_frame(self.records)

    def curves(self, metrics: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row per recorded value; see `optrial.analysis.curves_frame`.

        Args:
            metrics: one or several metrics; all by default.

        Raises:
            StoreError: nothing is recorded for a metric.
        """
        names = [metrics] if isinstance(metrics, str) else metrics
        return curves_frame(self.store, self.store.metrics() if names is None else names)

    def wide_curves(self, metric: str) -> pd.DataFrame:
        """Return one row per step and one column per run; see `optrial.analysis.wide_curves`.

        Raises:
            StoreError: nothing is recorded for the metric.
        """
        return wide_curves(self.curves(metric))

    def settings(self) -> list[SettingSummary]:
        """Return a summary over seeds for each setting of each optimizer, problem by problem.

        With `tune`, these are the chosen settings; the trials, while the study is still tuning.
        """
        return [summary for problem in self.view().problems for summary in problem.summaries]

    def summary(self) -> pd.DataFrame:
        """Return one row per setting: number of runs, mean and deviation of final metrics.

        The column ``problem`` comes first if the study has several problems.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        rows = []
        several = len({record.problem for record in self.records}) > 1
        for summary in self.settings():
            row: dict[str, Any] = {"problem": summary.problem} if several else {}
            row |= {
                "optimizer": summary.optimizer,
                "setting": summary.setting,
                "best": summary.best,
                "runs": summary.runs,
            }
            row |= {str(status): count for status, count in summary.statuses.items()}
            for metric, spread in summary.metrics.items():
                row |= {f"{metric}_mean": spread.mean, f"{metric}_std": spread.deviation}
            rows.append(row)
        return pd.DataFrame(rows)

    def funnel(self) -> pd.DataFrame:
        """Return one row per optimizer and phase: planned, started and used runs, and failures.

        The columns are the attributes of `optrial.analysis.Flow`.
        """
        import pandas as pd  # heavy  # noqa: PLC0415

        return pd.DataFrame([asdict(flow) for flow in funnel(self.records)])

    def to_latex(self, problem: str | None = None) -> str:
        r"""Return the summary as a LaTeX table for the package booktabs.

        Put the string into a file and ``\input`` it. Accuracies are in percent; values are means
        and standard deviations over seeds.

        Args:
            problem: name of the problem; by default one table per problem.

        Raises:
            StoreError: there is no such problem.
        """
        return "\n".join(
            settings_table(title, one.summaries, one.directions).latex()
            for title, one in self._titled(problem)
        )

    def to_markdown(self, problem: str | None = None) -> str:
        """Return the summary as a Markdown table; see `to_latex`."""
        return "\n".join(
            settings_table(title, one.summaries, one.directions).markdown()
            for title, one in self._titled(problem)
        )

    def _titled(self, problem: str | None) -> list[tuple[str, ProblemView]]:
        view = self.view()
        chosen = one_problem(view, problem) if problem is not None else None
        return [pair for pair in titled(view) if chosen in (None, pair[1])]


def titled(view: StudyView) -> list[tuple[str, ProblemView]]:
    """Return the problems of a study with the titles of their tables."""
    if len(view.problems) == 1:
        return [(view.name, view.problems[0])]
    return [(f"{view.name}: {problem.name}", problem) for problem in view.problems]
