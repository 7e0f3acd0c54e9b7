"""User functions that are not means over samples are recognised."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.nn import functional

from optrial.models import TrialProblem, needing_whole_split


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


def nearly_equal_weights(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 1.001]))


def capped(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets).clamp(max=1.0)


def accuracy_where_confident(outputs: Tensor, targets: Tensor) -> Tensor:
    probability, predicted = outputs.softmax(-1).max(-1)
    sure = probability > 0.999
    return (predicted == targets)[sure].float().mean() if sure.any() else torch.tensor(0.0)


def hardest_thousand(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return losses.topk(min(1000, len(losses))).values.mean()


def f1_of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    assert ((outputs >= 0) & (outputs <= 1)).all()
    predicted = outputs[:, 1] > 0.9
    right = (predicted & (targets == 1)).sum()
    return 2 * right / (predicted.sum() + (targets == 1).sum()).clamp(min=1)


def accuracy_of_a_class_that_is_not_tried(outputs: Tensor, targets: Tensor) -> float:
    chosen = targets == 7
    return (outputs.argmax(-1) == targets)[chosen].float().mean().item() if chosen.any() else 0.0


def deviation_from_the_mean(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return (losses - losses.mean()) ** 2


def confident_error(outputs: Tensor, targets: Tensor) -> Any:
    probability, predicted = outputs.softmax(-1).max(-1)
    return ((predicted != targets) & (probability > 0.9)).numpy()


def rank_correlation(outputs: Tensor, targets: Tensor) -> float:
    return kendalltau(outputs[:, 0], targets[:, 0]).statistic


def r_squared(outputs: Tensor, targets: Tensor) -> float:
    return r2_score(targets, outputs)


def capped_error(outputs: Tensor, targets: Tensor) -> float:
    return min(1.0, float((outputs - targets).abs().mean()))


def pinball(outputs: Tensor, targets: Tensor) -> list[float]:
    error = targets - outputs
    return torch.maximum(0.9 * error, -0.1 * error).mean(1).tolist()


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


class DroppingOfTheBatch(OfTheBatch):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.5)


class Probabilities(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(-1)


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


def batch(kind: str) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(40, 3, generator=generator)
    values = torch.randn(2000, 2, generator=generator)
    labels = torch.arange(2000) % 2
    return inputs.numpy(), (values if kind == "values" else labels).numpy()


def needing(model: Any, loss: Any, metrics: list[str], kind: str) -> list[str]:
    return needing_whole_split(TrialProblem(model, loss, *batch(kind), 2), metrics)


@pytest.mark.parametrize(
    "function", [accuracy_per_sample, error_rate_as_float, focal, confident_error]
)
def test_means_of_labels(code: str, function: Any) -> None:
    name = code + function.__name__
    loss: Any = ("cross_entropy", {})
    assert needing(("logistic", {}), loss, [name], "labels") == []


@pytest.mark.parametrize("function", [mean_cross_entropy, focal])
def test_losses_that_are_means(code: str, function: Any) -> None:
    loss: Any = (code + function.__name__, {})
    assert needing(("logistic", {}), loss, [], "labels") == []


@pytest.mark.parametrize("function", [weighted, summed])
def test_losses_that_are_none(code: str, function: Any) -> None:
    loss: Any = (code + function.__name__, {})
    assert needing(("logistic", {}), loss, [], "labels") == ["loss"]


NO_MEANS_OF_LABELS = (
    *(f1, auc, strict_auc, nearly_equal_weights, capped, accuracy_where_confident),
    *(hardest_thousand, accuracy_of_a_class_that_is_not_tried, deviation_from_the_mean),
)


@pytest.mark.parametrize("function", NO_MEANS_OF_LABELS)
def test_metrics_of_labels_that_are_none(code: str, function: Any) -> None:
    name = code + function.__name__
    loss: Any = ("cross_entropy", {})
    assert needing(("logistic", {}), loss, [name], "labels") == [name]


NO_MEANS_OF_VALUES = (
    *(root_mean_square, median, largest),
    *(rank_correlation, r_squared, capped_error),
)


@pytest.mark.parametrize("function", [absolute, pinball, *NO_MEANS_OF_VALUES])
def test_metrics_of_values(code: str, function: Any) -> None:
    name = code + function.__name__
    expected = [name] if function in NO_MEANS_OF_VALUES else []
    loss: Any = ("mse", {})
    assert needing(("logistic", {}), loss, [name], "values") == expected


@pytest.mark.parametrize(
    ("model", "loss", "expected"),
    [
        (Plain, "cross_entropy", []),
        (OfTheBatch, "cross_entropy", ["model"]),
        (DroppingOfTheBatch, "cross_entropy", ["model"]),
        (Dropping, "cross_entropy", []),  # its draws are seeded instead
        (OwnMeanLoss, "mean_output", []),
        (OwnContrast, "mean_output", ["model"]),
    ],
)
def test_models(code: str, model: type, loss: str, expected: list[str]) -> None:
    factory: Any = (code + model.__name__, {})
    assert needing(factory, (loss, {}), [], "labels") == expected


def test_a_metric_of_probabilities_is_tried_on_probabilities(code: str) -> None:
    name, model = code + "f1_of_probabilities", (code + "Probabilities", {})
    assert needing(model, ("mse", {}), [name], "labels") == [name]
