"""What a user may say: YAML in, validated immutable values out."""

from optrial.config.axis import Axis, parse_axis
from optrial.config.read import override, parse_study, read_study
from optrial.config.study import (
    Component,
    Evaluation,
    OptimizerEntry,
    ProblemEntry,
    Span,
    StudyFile,
)

__all__ = [
    "Axis",
    "Component",
    "Evaluation",
    "OptimizerEntry",
    "ProblemEntry",
    "Span",
    "StudyFile",
    "override",
    "parse_axis",
    "parse_study",
    "read_study",
]
