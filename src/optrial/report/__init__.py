"""Tables, figures and pages of what `optrial.analysis` computes."""

from optrial.report.tables import (
    cells_of,
    fit_columns,
    funnel_table,
    plain_table,
    summary_note,
    summary_table,
)

__all__ = [
    "cells_of",
    "fit_columns",
    "funnel_table",
    "plain_table",
    "summary_note",
    "summary_table",
]
