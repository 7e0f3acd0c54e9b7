"""Kinds of targets: those of a dataset, and those that a loss takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TargetKind = Literal["labels", "positions", "multilabel", "values"]
"""Kind of the targets of a dataset.

labels
    One class per sample: int64, (n,).
positions
    One class per position of a sample, such as the next token or the class of a pixel: int64,
    (n, ...).
multilabel
    Independent yes-or-no answers: 0 or 1, float32, (n, ...).
values
    Numbers: float32, (n, ...); (n,) becomes (n, 1).
"""

Targets = Literal["classes", "binary", "values", "any"]
"""Targets that a loss takes.

classes
    Labels, or labels per position.
binary
    0/1 labels of a single logit, 0/1 arrays, or probabilities.
values
    Numbers of any shape; labels (n,) count as one-hot vectors.
any
    Targets of any kind: whole numbers are labels, other numbers are values.
"""

IGNORE_INDEX = -100
"""Label of the positions that do not count, unless the loss names another one, as in PyTorch."""

_TARGETS: Mapping[str, Targets] = {
    "cross_entropy": "classes",
    "focal": "classes",
    "bce": "binary",
    **dict.fromkeys(("mse", "mae", "huber", "poisson", "quantile"), "values"),
}

LABEL_LOSSES = ("cross_entropy", "focal", "bce")
"""Losses of class labels, whose classes may be weighted."""


def targets_of(loss: str) -> Targets:
    """Return the targets that a loss takes; a user-defined loss takes any."""
    return _TARGETS.get(loss, "any")
