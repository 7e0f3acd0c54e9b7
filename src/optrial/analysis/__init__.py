"""Records -> frames and summaries; pure functions, failures counted, never imputed."""

from optrial.analysis.frames import curves_frame, runs_frame
from optrial.analysis.summary import SettingSummary, Spread, selection_metric, summarize

__all__ = [
    "SettingSummary",
    "Spread",
    "curves_frame",
    "runs_frame",
    "selection_metric",
    "summarize",
]
