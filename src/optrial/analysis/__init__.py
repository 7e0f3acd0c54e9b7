"""Records -> frames and summaries; pure functions, failures counted, never imputed."""

from optrial.analysis.frames import curves_frame, run_rows, runs_frame
from optrial.analysis.funnel import Flow, funnel
from optrial.analysis.summary import SettingSummary, Spread, missing_values, summarize

__all__ = [
    "Flow",
    "SettingSummary",
    "Spread",
    "curves_frame",
    "funnel",
    "missing_values",
    "run_rows",
    "runs_frame",
    "summarize",
]
