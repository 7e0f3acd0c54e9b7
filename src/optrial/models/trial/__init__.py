"""Trials of user code on a few samples, which report problems once and before any run."""

from optrial.models.trial.code import try_batch, try_code
from optrial.models.trial.optimizer import (
    TrialOptimizer,
    TrialOutcome,
    gradients_of,
    try_optimizer,
)
from optrial.models.trial.problem import TrialProblem
from optrial.models.trial.whole_split import needing_whole_split

__all__ = [
    "TrialOptimizer",
    "TrialOutcome",
    "TrialProblem",
    "gradients_of",
    "needing_whole_split",
    "try_batch",
    "try_code",
    "try_optimizer",
]
