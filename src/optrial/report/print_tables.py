"""Tables for print, as Markdown and LaTeX, and the table of all settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optrial.analysis import SettingSummary
from optrial.markup import Passage, latex, latex_text, markdown, markdown_text
from optrial.report.tables import runs_text, shown_metrics, spread_cell
from optrial.spec import Directions, setting_text

__all__ = ["PrintTable", "Row", "label_of", "settings_table", "summary_cells"]

PACKAGES = r"% \usepackage{booktabs}; for quotation marks in names also \usepackage[T1]{fontenc}"
LONG_PACKAGES = PACKAGES.replace("booktabs", "booktabs,longtable")
MOST_ROWS = 40
"""Most rows that fit a page; longer tables continue on the next one."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one per column.
        bold: whether it stands out.
        notes: footnotes of its first cell, without full stops.
    """

    cells: Sequence[str | Passage]
    bold: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PrintTable:
    """A table for print.

    Attributes:
        name: name for a file and a label.
        title: the caption's first sentence, without a full stop.
        columns: headers.
        rows: the rows.
        text_columns: number of columns of text, which come first; the others are aligned right.
        caption: how to read the table, in sentences.
        widths: width of each column as a fraction of that of the text, for columns whose text is
            wrapped; 0 for others; empty if none is.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    text_columns: int = 1
    caption: str = ""
    widths: Sequence[float] = ()

    @property
    def footnotes(self) -> dict[str, str]:
        """Letter of each footnote by its text; rows with equal notes share one."""
        texts = dict.fromkeys(note for row in self.rows for note in row.notes)
        return {text: _letters(number) for number, text in enumerate(texts)}

    @property
    def full_caption(self) -> str:
        """Title and caption as sentences."""
        return f"{self.title}. {self.caption}".strip() if self.caption else self.title

    def markdown(self) -> str:
        """Return the table in Markdown, as GitHub and pandoc read it: title, table, footnotes."""
        numbers = len(self.columns) - self.text_columns
        lines = [
            [markdown_text(column) for column in self.columns],
            [*["---"] * self.text_columns, *["---:"] * numbers],
            *(list(self._markdown_cells(row)) for row in self.rows),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        about = f" {markdown_text(self.caption)}" if self.caption else ""
        dot = "." if self.caption else ""
        notes = [
            f"{markdown_text(f'[{letter}] {text}')}." for text, letter in self.footnotes.items()
        ]
        parts = [f"**{markdown_text(self.title)}{dot}**{about}", table, "  \n".join(notes)]
        return "\n\n".join(filter(None, parts)) + "\n"

    def latex(self) -> str:
        """Return the table in LaTeX, which needs the package booktabs, for a long one longtable.

        Text beyond ASCII stays as it is: engines that read UTF-8 print it, in a font that has it.
        """
        kinds = "l" * self.text_columns + "r" * (len(self.columns) - self.text_columns)
        widths = self.widths or [0.0] * len(kinds)
        columns = "".join(
            rf"p{{{width:g}\textwidth}}" if width else kind
            for kind, width in zip(kinds, widths, strict=True)
        )
        caption = rf"\caption{{{latex_text(self.full_caption)}}}"
        label = rf"\label{{tab:{label_of(self.name)}}}"
        head = [r"\toprule", _latex_row(map(latex_text, self.columns)), r"\midrule"]
        rows = [_latex_row(self._latex_cells(row)) for row in self.rows]
        notes = list(self._latex_notes())
        if len(rows) <= MOST_ROWS:
            tabular = [rf"\begin{{tabular}}{{{columns}}}", *head, *rows]
            tabular += [r"\bottomrule", r"\end{tabular}", *notes]
            opening = [PACKAGES, r"\begin{table}", r"\centering\small", f"{caption}{label}"]
            return "\n".join([*opening, *tabular, r"\end{table}"]) + "\n"
        lines = [LONG_PACKAGES, r"{\small", rf"\begin{{longtable}}{{{columns}}}"]
        lines += [rf"{caption}{label} \\", *head, r"\endfirsthead", *head, r"\endhead"]
        lines += [*rows, r"\bottomrule", r"\end{longtable}", *notes, "}"]
        return "\n".join(lines) + "\n"

    def _markdown_cells(self, row: Row) -> Iterator[str]:
        for place, cell in enumerate(row.cells):
            text = markdown_text(cell) if isinstance(cell, str) else markdown(cell)
            shown = f"**{text}**" if row.bold and text.strip() else text
            yield shown + self._marks(row, r" \[{}\]") * (place == 0)

    def _latex_cells(self, row: Row) -> Iterator[str]:
        for place, cell in enumerate(row.cells):
            text = latex_text(cell) if isinstance(cell, str) else latex(cell)
            shown = rf"\textbf{{{text}}}" if row.bold and text else text
            yield shown + self._marks(row, r"\textsuperscript{{{}}}") * (place == 0)

    def _marks(self, row: Row, form: str) -> str:
        """Return the letters of the notes of a row."""
        letters = self.footnotes
        return form.format(", ".join(letters[note] for note in row.notes)) if row.notes else ""

    def _latex_notes(self) -> Iterator[str]:
        if letters := self.footnotes:
            yield r"\par\smallskip"
            notes = (
                rf"\textsuperscript{{{letter}}}~{latex_text(text)}."
                for text, letter in letters.items()
            )
            yield rf"{{\footnotesize\raggedright {' '.join(notes)}\par}}"


def _letters(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ... for 0, 1, ..."""
    before, place = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("a") + place)


def label_of(name: str) -> str:
    """Return a name of letters, digits and hyphens, for a label or a file."""
    return re.sub(r"[^0-9A-Za-z]+", "-", name).strip("-") or "study"


def _latex_row(cells: Iterator[str]) -> str:
    row = " & ".join(cells)
    guard = "{}" if row.startswith(("[", "*")) else ""  # LaTeX reads these as arguments of \\
    return rf"{guard}{row} \\"


def settings_table(
    title: str, summaries: Sequence[SettingSummary], directions: Directions
) -> PrintTable:
    """Return the summary of all settings; see `summary_cells`."""
    columns, rows = summary_cells(summaries, directions)
    return PrintTable("settings", title, columns, list(map(Row, rows)), text_columns=2)


def summary_cells(
    summaries: Sequence[SettingSummary], directions: Directions
) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of the summary table, as in the terminal.

    The best setting of each optimizer has a star.
    """
    recorded = dict.fromkeys(name for summary in summaries for name in summary.metrics)
    metrics = shown_metrics(recorded, directions)
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
