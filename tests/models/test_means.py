"""User functions that are not means over samples are recognised."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.models.means import needing_whole_split


def accuracy_per_sample(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(-1) == targets).float()


def mean_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def focal(outputs: Tensor, targets: Tensor, gamma: float = 2.0) -> Tensor:
    log = outputs.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    return -((1 - log.exp()) ** gamma * log).mean()


def weighted(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 12.0]))


def summed(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    predicted = outputs.argmax(-1)
    right = ((predicted == 1) & (targets == 1)).sum()
    return 2 * right / ((predicted == 1).sum() + (targets == 1).sum()).clamp(min=1)


def auc(outputs: Tensor, targets: Tensor) -> Tensor:
    scores = outputs[:, 1] - outputs[:, 0]
    positive, negative = scores[targets == 1], scores[targets == 0]
    return (positive[:, None] > negative).double().mean()  # NaN where a class is missing


def strict_auc(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.unique().numel() < 2:
        raise ValueError("only one class")
    return auc(outputs, targets)


def error_rate_as_float(outputs: Tensor, targets: Tensor) -> float:
    return (outputs.argmax(-1) != targets).float().mean().item()


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean()


def root_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean().sqrt()


def median(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().median()


def largest(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().max()


class Plain(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class OfTheBatch(Plain):
    """Batch norm that keeps no averages: an output depends on the samples beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(functional.batch_norm(x, None, None, training=True))


class Dropping(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(functional.dropout(x, 0.5))


class OwnMeanLoss(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return (self.layer(x) ** 2).mean()


class OwnContrast(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return functional.pdist(self.layer(x)).mean()


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("users_functions")
    module.__dict__.update(globals())
    monkeypatch.setitem(sys.modules, "users_functions", module)
    return "users_functions:"


def batch(kind: str, samples: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 3, generator=generator)
    values = torch.randn(samples, 2, generator=generator)
    labels = torch.arange(samples) % 2
    return inputs.numpy(), (values if kind == "values" else labels).numpy()


@pytest.mark.parametrize("function", [accuracy_per_sample, error_rate_as_float, focal])
def test_means_of_labels(code: str, function: Any) -> None:
    name = code + function.__name__
    loss: Any = ("cross_entropy", {})
    assert needing_whole_split(("logistic", {}), loss, [name], batch("labels"), 2) == []


@pytest.mark.parametrize("function", [mean_cross_entropy, focal])
def test_losses_that_are_means(code: str, function: Any) -> None:
    loss: Any = (code + function.__name__, {})
    assert needing_whole_split(("logistic", {}), loss, [], batch("labels"), 2) == []


@pytest.mark.parametrize("function", [weighted, summed])
def test_losses_that_are_none(code: str, function: Any) -> None:
    loss: Any = (code + function.__name__, {})
    assert needing_whole_split(("logistic", {}), loss, [], batch("labels"), 2) == ["loss"]


@pytest.mark.parametrize("function", [f1, auc, strict_auc])
def test_metrics_of_labels_that_are_none(code: str, function: Any) -> None:
    name = code + function.__name__
    loss: Any = ("cross_entropy", {})
    assert needing_whole_split(("logistic", {}), loss, [name], batch("labels"), 2) == [name]


@pytest.mark.parametrize("function", [absolute, root_mean_square, median, largest])
def test_metrics_of_values(code: str, function: Any) -> None:
    name = code + function.__name__
    expected = [] if function is absolute else [name]
    loss: Any = ("mse", {})
    assert needing_whole_split(("logistic", {}), loss, [name], batch("values"), 2) == expected


@pytest.mark.parametrize(
    ("model", "loss", "expected"),
    [
        (Plain, "cross_entropy", []),
        (OfTheBatch, "cross_entropy", ["model"]),
        (Dropping, "cross_entropy", []),  # its draws are seeded instead
        (OwnMeanLoss, "mean_output", []),
        (OwnContrast, "mean_output", ["model"]),
    ],
)
def test_models(code: str, model: type, loss: str, expected: list[str]) -> None:
    own: Any = (code + model.__name__, {})
    assert needing_whole_split(own, (loss, {}), [], batch("labels"), 2) == expected
