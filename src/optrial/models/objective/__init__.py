"""Losses and metrics by name, and their combination: the objective of a problem."""

from optrial.models.objective.losses import LOSSES, check_loss, class_axes
from optrial.models.objective.metrics import check_metric, mean_value, needs_whole_split
from optrial.models.objective.objective import Objective, build_objective, widened

__all__ = [
    "LOSSES",
    "Objective",
    "build_objective",
    "check_loss",
    "check_metric",
    "class_axes",
    "mean_value",
    "needs_whole_split",
    "widened",
]
