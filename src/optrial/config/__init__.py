"""Study files: YAML in, validated immutable values out."""

from optrial.config.axis import Axis, Times, parse_axis, rounded
from optrial.config.optimizers import GroupEntry, ModifierEntry, OptimizerEntry, other_keys
from optrial.config.overrides import override
from optrial.config.parallel import ExecutorName, Parallel, Resources
from optrial.config.places import belongs
from optrial.config.problems import (
    ONE_VALUE,
    Studies,
    as_one,
    by_problem,
    entry_label,
    is_several,
)
from optrial.config.published import with_published
from optrial.config.read import parse_study, read_study, stored_study
from optrial.config.study import (
    FUNCTION_KEYS,
    MOST_RUNS,
    MOST_STEPS,
    Budget,
    Component,
    Evaluation,
    Folding,
    MetricEntry,
    Probing,
    ProblemEntry,
    Span,
    Stopping,
    StudyFile,
    Tuning,
)

__all__ = [
    "FUNCTION_KEYS",
    "MOST_RUNS",
    "MOST_STEPS",
    "ONE_VALUE",
    "Axis",
    "Budget",
    "Component",
    "Evaluation",
    "ExecutorName",
    "Folding",
    "GroupEntry",
    "MetricEntry",
    "ModifierEntry",
    "OptimizerEntry",
    "Parallel",
    "Probing",
    "ProblemEntry",
    "Resources",
    "Span",
    "Stopping",
    "Studies",
    "StudyFile",
    "Times",
    "Tuning",
    "as_one",
    "belongs",
    "by_problem",
    "entry_label",
    "is_several",
    "other_keys",
    "override",
    "parse_axis",
    "parse_study",
    "read_study",
    "rounded",
    "stored_study",
    "with_published",
]
