"""Trains runs: learners (reference, numpy), the course of a training, provenance."""

from optrial.engine.build import learner_factory
from optrial.engine.numpy_backprop import NumpyLearner
from optrial.engine.provenance import provenance
from optrial.engine.reference import ReferenceLearner, tensor_splits
from optrial.engine.rule_optimizer import RuleOptimizer
from optrial.engine.training import Batch, Learner, Training

__all__ = [
    "Batch",
    "Learner",
    "NumpyLearner",
    "ReferenceLearner",
    "RuleOptimizer",
    "Training",
    "learner_factory",
    "provenance",
    "tensor_splits",
]
