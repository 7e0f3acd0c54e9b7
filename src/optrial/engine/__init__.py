"""Trains runs: the stacked, reference and NumPy engines, and the course of a training."""

from optrial.engine.build import Choice, Engines, out_of_memory
from optrial.engine.certificate import certificates
from optrial.engine.numpy_backprop import NumpyEngine
from optrial.engine.options import storage_dtype
from optrial.engine.process import process_for
from optrial.engine.provenance import provenance
from optrial.engine.reference import ReferenceEngine, tensor_splits
from optrial.engine.resumption import Resumption
from optrial.engine.rule_optimizer import RuleOptimizer
from optrial.engine.solo import Solo
from optrial.engine.speeds import clear_speeds, kept_speeds, speeds_file
from optrial.engine.stacked import StackedEngine
from optrial.engine.training import Learner, Training

__all__ = [
    "Choice",
    "Engines",
    "Learner",
    "NumpyEngine",
    "ReferenceEngine",
    "Resumption",
    "RuleOptimizer",
    "Solo",
    "StackedEngine",
    "Training",
    "certificates",
    "clear_speeds",
    "kept_speeds",
    "out_of_memory",
    "process_for",
    "provenance",
    "speeds_file",
    "storage_dtype",
    "tensor_splits",
]
