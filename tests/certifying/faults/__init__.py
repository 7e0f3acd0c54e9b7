"""Faults of one line each in copies of optimizers, with the findings that should name them."""

from tests.certifying.faults import adam, lion, muon, others, plain, rmsprop, sgd
from tests.certifying.faults.fault import SOURCES, Fault, planted

__all__ = ["FAULTS", "OF_PYTORCH", "SOURCES", "Fault", "planted"]

FAULTS = [
    *adam.FAULTS,
    *sgd.FAULTS,
    *rmsprop.FAULTS,
    *lion.FAULTS,
    *muon.FAULTS,
    *others.FAULTS,
    *plain.FAULTS,
]

OF_PYTORCH = {
    ("Adafactor", "defaults"),
    ("Adagrad", "groups: initial_accumulator"),
    ("ASGD", "changing alpha"),
    ("ASGD", "changing lambd"),
    ("NAdam", "state_dict"),
}
"""Classes whose unchanged copies have a fault, because PyTorch's have, and the fault."""
