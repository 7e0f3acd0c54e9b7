"""Trains runs: the stacked, reference and NumPy engines, and the course of a training."""

from optrial.engine.backends.numpy_backprop import NumpyEngine
from optrial.engine.backends.reference import ReferenceEngine
from optrial.engine.backends.stacked import StackedEngine
from optrial.engine.backends.tensor_splits import tensor_splits
from optrial.engine.checks.certificate import certificates
from optrial.engine.checks.resumption import Resumption
from optrial.engine.learner import Learner
from optrial.engine.options import storage_dtype
from optrial.engine.process import (
    has_fixed_threads,
    limited_threads,
    process_for,
    release_memory,
    return_freed_memory,
)
from optrial.engine.provenance import ROUNDING, provenance
from optrial.engine.select.choice import Choice
from optrial.engine.select.engines import Engines, Part
from optrial.engine.select.measure import least_seconds, most_seconds, timed_steps
from optrial.engine.select.speeds import clear_speeds, kept_speeds, speeds_file
from optrial.engine.training import Training

__all__ = [
    "ROUNDING",
    "Choice",
    "Engines",
    "Learner",
    "NumpyEngine",
    "Part",
    "ReferenceEngine",
    "Resumption",
    "StackedEngine",
    "Training",
    "certificates",
    "clear_speeds",
    "has_fixed_threads",
    "kept_speeds",
    "least_seconds",
    "limited_threads",
    "most_seconds",
    "process_for",
    "provenance",
    "release_memory",
    "return_freed_memory",
    "speeds_file",
    "storage_dtype",
    "tensor_splits",
    "timed_steps",
]
