"""Update rules: pure functions from a gradient and a state to a change of the parameter.

Written once, in operators and the array API, for NumPy arrays, torch tensors, and stacks of runs.
"""

from optrial.rules.apply import apply_rule, initialise
from optrial.rules.arrays import compute_once
from optrial.rules.catalogue import RULES, get_rule
from optrial.rules.explain import compare, explain, render_explanation
from optrial.rules.rule import Hyperparameter, Rule

__all__ = [
    "RULES",
    "Hyperparameter",
    "Rule",
    "apply_rule",
    "compare",
    "compute_once",
    "explain",
    "get_rule",
    "initialise",
    "render_explanation",
]
