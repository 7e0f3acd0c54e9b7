"""The figures of a study for print: curves, learning rates, tuning, differences, time and ranks."""

from optrial.report.figures.looks import plot
from optrial.report.figures.outcomes import (
    draw_differences,
    draw_ranks,
    draw_reported,
    draw_timing,
)
from optrial.report.figures.rates import draw_rate_ranges, draw_sensitivity
from optrial.report.figures.study import PrintFigure, study_figures
from optrial.report.figures.targets import draw_profile, draw_targets
from optrial.report.figures.tuning import draw_trials, draw_tuning

__all__ = [
    "PrintFigure",
    "draw_differences",
    "draw_profile",
    "draw_ranks",
    "draw_rate_ranges",
    "draw_reported",
    "draw_sensitivity",
    "draw_targets",
    "draw_timing",
    "draw_trials",
    "draw_tuning",
    "plot",
    "study_figures",
]
