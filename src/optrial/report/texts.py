"""The summary table as Markdown and LaTeX, to paste into a text."""

from __future__ import annotations

from collections.abc import Sequence

from optrial.analysis import SettingSummary
from optrial.analysis.contenders import setting_text
from optrial.markup import latex_text, markdown_text
from optrial.report.tables import runs_text, shown_metrics, spread_cell
from optrial.spec import Directions

__all__ = ["summary_cells", "summary_latex", "summary_markdown"]


def summary_markdown(name: str, summaries: Sequence[SettingSummary], directions: Directions) -> str:
    """Return the summary as a table of Markdown, as GitHub and pandoc read it."""
    columns, rows = summary_cells(summaries, directions)
    lines = [
        columns,
        ["---", "---", *["---:"] * (len(columns) - 2)],
        *([markdown_text(cell) for cell in row] for row in rows),
    ]
    lines[0] = [markdown_text(column) for column in columns]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{markdown_text(name)}**\n\n{table}\n"


def summary_latex(name: str, summaries: Sequence[SettingSummary], directions: Directions) -> str:
    """Return the summary as a table of LaTeX, which needs the package booktabs.

    Text beyond ASCII stays as it is: engines that read UTF-8 print it, in a font that has it.
    """
    columns, rows = summary_cells(summaries, directions)
    lines = [
        r"% \usepackage{booktabs}; for quotation marks in names also \usepackage[T1]{fontenc}",
        r"\begin{table}",
        rf"\caption{{{latex_text(name)}}}",
        rf"\begin{{tabular}}{{ll{'r' * (len(columns) - 2)}}}",
        r"\toprule",
        _latex_row(columns),
        r"\midrule",
        *map(_latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def summary_cells(
    summaries: Sequence[SettingSummary], directions: Directions
) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of the summary table, as in the terminal."""
    metrics = shown_metrics(
        dict.fromkeys(name for s in summaries for name in s.metrics), directions
    )
    rows = [
        [
            summary.optimizer,
            setting_text(summary.setting) + (" *" if summary.best else ""),
            runs_text(summary),
            *(spread_cell(summary, metric, directions) for metric in metrics),
        ]
        for summary in summaries
    ]
    return ["optimizer", "setting", "runs", *map(directions.heading, metrics)], rows


def _latex_row(cells: Sequence[str]) -> str:
    row = " & ".join(map(latex_text, cells))
    guard = "{}" if row.startswith(("[", "*")) else ""  # LaTeX reads these as arguments of \\
    return rf"{guard}{row} \\"
