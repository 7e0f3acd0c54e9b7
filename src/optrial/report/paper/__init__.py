"""A study in the form of a paper: text, tables, figures with captions, and a bibliography."""

from optrial.report.paper.documents import FIGURE_FORMATS, Paper
from optrial.report.paper.tables import result_table, study_tables

__all__ = ["FIGURE_FORMATS", "Paper", "result_table", "study_tables"]
