"""The tables of `optrial timing` in Markdown."""

from __future__ import annotations

from collections.abc import Container, Sequence

from optrial.markup import markdown_text
from optrial.timing.results import StudyTiming, reported_times
from optrial.timing.table import reported_time_rows, timing_rows

__all__ = ["timing_markdown"]


def timing_markdown(timing: StudyTiming) -> str:
    """Return the tables in Markdown, as GitHub and pandoc read it."""
    tables = [_table(*timing_rows(timing), {"optimizer", "setting"})]
    if times := reported_times(timing.reported_seconds, timing):
        columns, rows = reported_time_rows(times)
        tables.append(_table(columns, rows, columns[:1]))
    return "\n\n".join([f"**{markdown_text(timing.study)}**", *tables]) + "\n"


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], text_columns: Container[str]
) -> str:
    rule = ["---" if column in text_columns else "---:" for column in columns]
    lines = [list(map(markdown_text, columns)), rule]
    lines += [["—" if cell is None else markdown_text(str(cell)) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
