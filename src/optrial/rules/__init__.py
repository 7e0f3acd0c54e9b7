"""Update rules: pure functions from a gradient and a state to a change of the parameter.

Written once, in operators and the array API, for NumPy arrays, torch tensors, and stacks of runs.
"""

from optrial.rules.apply import apply_all, evaluation_point, initialise_all
from optrial.rules.arrays import compute_once
from optrial.rules.catalogue import ROLES_AS_VECTORS, RULES, get_rules
from optrial.rules.clipping import clip_all
from optrial.rules.curvature import extra_gradients, is_estimated
from optrial.rules.draws import Draws
from optrial.rules.modifiers import (
    ACTS_ON,
    MODIFIERS,
    modified,
    modifier_named,
    modifier_problems,
)
from optrial.rules.rule import Hyperparameter, Modifier, Rule
from optrial.rules.schedules import (
    SCHEDULES,
    OwnFunction,
    Schedule,
    check_schedule,
    learning_rate_factors,
    needs_steps,
    resolve_schedule,
    scheduled_values,
    warmup_starts,
)
from optrial.rules.sharpness import uphill

__all__ = [
    "ACTS_ON",
    "MODIFIERS",
    "ROLES_AS_VECTORS",
    "RULES",
    "SCHEDULES",
    "Draws",
    "Hyperparameter",
    "Modifier",
    "OwnFunction",
    "Rule",
    "Schedule",
    "apply_all",
    "check_schedule",
    "clip_all",
    "compute_once",
    "evaluation_point",
    "extra_gradients",
    "get_rules",
    "initialise_all",
    "is_estimated",
    "learning_rate_factors",
    "modified",
    "modifier_named",
    "modifier_problems",
    "needs_steps",
    "resolve_schedule",
    "scheduled_values",
    "uphill",
    "warmup_starts",
]
