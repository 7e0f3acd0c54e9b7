"""User code with one fault each, for studies with audit findings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = [
    "decaying_matrices",
    "duplicates",
    "one_hard_sample",
    "with_batch_norm",
]

Parameters = Iterable[torch.nn.Parameter]


def decaying_matrices(params: Parameters, lr: float = 0.1) -> torch.optim.Optimizer:
    """SGD that leaves biases out of the weight decay."""
    params = list(params)
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr)


def with_batch_norm(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network with running averages."""
    return nn.Sequential(
        nn.Linear(input_shape[0], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes)
    )


def duplicates() -> dict[str, Any]:
    """Data whose test split is also in the training split."""
    inputs = np.random.default_rng(0).normal(size=(60, 2))
    labels = (inputs[:, 0] > 0).astype(int)
    return {"train": (inputs, labels), "test": (inputs[:20], labels[:20])}


def one_hard_sample() -> dict[str, Any]:
    """Data that any optimizer learns, except for one test sample in 2,000 that takes longer."""

    def split(size: int, hard: int) -> tuple[Any, Any]:
        labels = np.arange(size) % 2
        inputs = np.stack([2.0 * labels - 1, np.zeros(size)], axis=1)
        inputs[:hard], labels[:hard] = (0.5, 1.0), 0
        return inputs, labels

    return {"train": split(100, hard=3), "test": split(2000, hard=1)}
