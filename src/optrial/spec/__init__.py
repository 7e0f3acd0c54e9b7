"""What a run is and what its record means: the vocabulary that every other package shares."""

from optrial.spec.metrics import (
    METRICS,
    PROBES,
    TRAINING_SECONDS,
    Direction,
    Directions,
    Metric,
    Probe,
    Selection,
    catalogued,
    default_metrics,
    label_of,
    metric_label,
    probe_of,
    recorded_as,
    undeclared,
)
from optrial.spec.run import Phase, ProbeSettings, RunSpec, StackId
from optrial.spec.status import ENDED, FAILED, FINAL, Status

__all__ = [
    "ENDED",
    "FAILED",
    "FINAL",
    "METRICS",
    "PROBES",
    "TRAINING_SECONDS",
    "Direction",
    "Directions",
    "Metric",
    "Phase",
    "Probe",
    "ProbeSettings",
    "RunSpec",
    "Selection",
    "StackId",
    "Status",
    "catalogued",
    "default_metrics",
    "label_of",
    "metric_label",
    "probe_of",
    "recorded_as",
    "undeclared",
]
