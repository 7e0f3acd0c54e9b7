"""Vocabulary shared by all packages: runs, metrics, statuses and recorded facts."""

from optrial.spec.facts import (
    HASHED_STEPS,
    Certificate,
    EvaluationCheck,
    RunFacts,
    Scale,
    Scales,
    Seconds,
    TrainingCheck,
)
from optrial.spec.metrics import (
    METRICS,
    PROBES,
    TRAINING_SECONDS,
    Direction,
    Directions,
    MetricName,
    Selection,
    SettingScore,
    catalogued,
    metric_label,
    metric_title,
    undeclared,
)
from optrial.spec.run import Phase, ProbeSettings, RunSpec, StackId
from optrial.spec.status import ENDED, FAILED, FINAL, Status

__all__ = [
    "ENDED",
    "FAILED",
    "FINAL",
    "HASHED_STEPS",
    "METRICS",
    "PROBES",
    "TRAINING_SECONDS",
    "Certificate",
    "Direction",
    "Directions",
    "EvaluationCheck",
    "MetricName",
    "Phase",
    "ProbeSettings",
    "RunFacts",
    "RunSpec",
    "Scale",
    "Scales",
    "Seconds",
    "Selection",
    "SettingScore",
    "StackId",
    "Status",
    "TrainingCheck",
    "catalogued",
    "metric_label",
    "metric_title",
    "undeclared",
]
