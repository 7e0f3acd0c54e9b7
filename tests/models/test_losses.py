"""Losses against PyTorch, scikit-learn and the equations of their papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from optrial.models import LOSSES, build_objective, check_loss
from tests.small import small_plan
from tests.tolerance import GRADIENT_FLOAT64, ZERO_GRADIENT

DRAWS = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(12, 4, generator=DRAWS, dtype=torch.float64)
LABELS = torch.randint(4, (12,), generator=DRAWS)
VALUES = torch.randn(12, 4, generator=DRAWS, dtype=torch.float64)
ONES = (VALUES > 0).double()
WEIGHTS = [0.5, 2.0, 1.0, 3.0]
POSITIONS = 3 * torch.randn(5, 6, 4, generator=DRAWS, dtype=torch.float64)
TOKENS = torch.randint(4, (5, 6), generator=DRAWS)
TOKENS[1, 2:] = -100


def weighted(outputs: Tensor, targets: Tensor, **arguments: Any) -> Tensor:
    of_classes = outputs.new_tensor(WEIGHTS)
    return functional.cross_entropy(outputs, targets, weight=of_classes, **arguments)


@pytest.mark.parametrize(
    ("loss", "arguments", "outputs", "targets", "expected"),
    [
        ("mae", {}, LOGITS, VALUES, functional.l1_loss),
        ("huber", {}, LOGITS, VALUES, functional.huber_loss),
        ("huber", {"delta": 0.3}, LOGITS, VALUES, torch.nn.HuberLoss(delta=0.3)),
        ("poisson", {}, LOGITS, VALUES.abs(), functional.poisson_nll_loss),
        (
            "bce",
            {"pos_weight": WEIGHTS},
            LOGITS,
            ONES,
            lambda o, t: functional.binary_cross_entropy_with_logits(
                o, t, pos_weight=o.new_tensor(WEIGHTS)
            ),
        ),
        ("cross_entropy", {"weight": WEIGHTS}, LOGITS, LABELS, weighted),
        (
            "cross_entropy",
            {"weight": WEIGHTS, "label_smoothing": 0.2},
            LOGITS,
            LABELS,
            lambda o, t: weighted(o, t, label_smoothing=0.2),
        ),
        (
            "cross_entropy",
            {"weight": WEIGHTS},
            POSITIONS,
            TOKENS,
            lambda o, t: weighted(o.movedim(-1, 1), t),
        ),
        ("focal", {"gamma": 0}, LOGITS, LABELS, functional.cross_entropy),
        (
            "focal",
            {"gamma": 0},
            POSITIONS,
            TOKENS,
            lambda o, t: functional.cross_entropy(o.movedim(-1, 1), t),
        ),
    ],
)  # fmt: skip
def test_loss_and_gradient_are_those_of_torch(
    loss: str, arguments: dict[str, Any], outputs: Tensor, targets: Tensor, expected: Any
) -> None:
    ours, theirs = (outputs.clone().requires_grad_() for _ in range(2))
    value, known = LOSSES[loss](ours, targets, **arguments), expected(theirs, targets)
    value.backward()
    known.backward()
    torch.testing.assert_close(value, known, rtol=GRADIENT_FLOAT64, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=GRADIENT_FLOAT64, atol=ZERO_GRADIENT)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_two_classes_is_that_of_the_paper(alpha: float | None, gamma: float) -> None:
    logits, labels = LOGITS[:, :2], LABELS % 2
    p = torch.sigmoid(logits[:, 1] - logits[:, 0]).numpy()
    of_label = np.where(labels == 1, p, 1 - p)
    weight = 1.0 if alpha is None else np.where(labels == 1, alpha, 1 - alpha)
    expected = np.mean(-weight * (1 - of_label) ** gamma * np.log(of_label))
    value = LOSSES["focal"](logits, labels, gamma=gamma, alpha=alpha)
    assert float(value) == pytest.approx(expected, rel=GRADIENT_FLOAT64)


def test_focal_loss_has_a_gradient_where_a_label_is_certain() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    LOSSES["focal"](logits, torch.tensor([0]), gamma=0.5).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("q", [0.3, [0.1, 0.5, 0.9]])
def test_quantile_loss_is_that_of_scikit_learn(q: Any) -> None:
    levels = q if isinstance(q, list) else [q]
    outputs = LOGITS.reshape(-1, 1)[: 4 * len(levels)].reshape(4, len(levels))
    targets = VALUES[:4, :1]
    expected = np.mean(
        [mean_pinball_loss(targets, outputs[:, i], alpha=level) for i, level in enumerate(levels)]
    )
    value = LOSSES["quantile"](outputs, targets, q=q)
    assert float(value) == pytest.approx(expected, rel=GRADIENT_FLOAT64)


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (1, 1, 10)])
def test_a_weighted_loss_of_a_split_does_not_depend_on_its_parts(sizes: tuple[int, ...]) -> None:
    objective = build_objective("cross_entropy", {"weight": WEIGHTS}, ["accuracy"])
    parts = zip(LOGITS.split(list(sizes)), LABELS.split(list(sizes)), strict=True)
    total = sum(objective.measure_part(outputs, labels)[0] for outputs, labels in parts)
    mean = total / objective.weights(LABELS)[0]
    assert float(mean) == pytest.approx(float(weighted(LOGITS, LABELS)), rel=GRADIENT_FLOAT64)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    problem = {"dataset": "wine", "loss": {"name": "cross_entropy", "weight": "balanced"}}
    plan, data = small_plan(problem=problem)
    labels = data.splits["train"].targets
    expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    assert plan.runs[0].loss_arguments["weight"] == pytest.approx(expected)


@pytest.mark.parametrize("dataset", ["breast-cancer", "tests.engine.test_losses:several_labels"])
def test_a_balanced_weight_of_ones_is_the_number_of_zeros_for_each(dataset: Any) -> None:
    problem = {"dataset": dataset, "loss": {"name": "bce", "pos_weight": "balanced"}}
    plan, data = small_plan(problem=problem)
    labels = data.splits["train"].targets.reshape(len(data.splits["train"].targets), -1)
    expected = (labels == 0).sum(axis=0) / (labels == 1).sum(axis=0)
    assert plan.runs[0].loss_arguments["pos_weight"] == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("loss", "arguments", "words"),
    [
        ("huber", {"delta": 0}, "above 0"),
        ("huber", {"delta": True}, "above 0"),
        ("quantile", {"q": 1.0}, "between 0 and 1"),
        ("quantile", {"q": [0.5, 0.1]}, "ascending"),
        ("quantile", {"q": []}, "ascending"),
        ("focal", {"gamma": -1}, "0 or more"),
        ("focal", {"alpha": 1.5}, "between 0 and 1"),
        ("cross_entropy", {"weight": "balance"}, "balanced"),
        ("cross_entropy", {"weight": [1, 0]}, "above 0"),
        ("cross_entropy", {"weight": 2.0}, "per class"),
        ("bce", {"pos_weight": -1}, "above 0"),
        ("mae", {"delta": 1.0}, "delta"),
    ],
)
def test_wrong_arguments_are_refused(loss: str, arguments: dict[str, Any], words: str) -> None:
    (problem,) = check_loss(loss, arguments)
    assert words in str(problem)


def test_logits_with_time_first_are_refused() -> None:
    with pytest.raises((ValueError, RuntimeError)):
        LOSSES["cross_entropy"](POSITIONS.transpose(0, 1), TOKENS, class_axis=-1)


@pytest.mark.parametrize("classes", [2, 10, 15, 16])
@pytest.mark.parametrize(
    "arguments", [{}, {"label_smoothing": 0.2}, {"weight": True}, {"ignore_index": 1}]
)
def test_many_runs_have_the_cross_entropies_and_gradients_of_each(
    classes: int, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few classes are transposed, so that samples and not classes fill the vectors of a CPU."""
    if "weight" in arguments:
        arguments = {"weight": list(range(1, classes + 1))}
    draws = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, 3, 12, classes, generator=draws, dtype=torch.float64)
    labels = torch.randint(classes, (2, 12), generator=draws)
    shapes = []

    def seen(outputs: Tensor, *others: Any, **named: Any) -> Tensor:
        shapes.append(tuple(outputs.shape))
        return own(outputs, *others, **named)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return LOSSES["cross_entropy"](outputs, targets, **arguments)

    alone, together = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    each = [loss(alone[seed, run], labels[seed]) for seed in range(2) for run in range(3)]
    own = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", seen)
    of_all = vmap(vmap(loss, in_dims=(0, None)))(together, labels)

    assert shapes == [(1, classes, 12) if classes < 16 else (12, classes)]
    torch.testing.assert_close(of_all.flatten(), torch.stack(each), rtol=GRADIENT_FLOAT64, atol=0)
    torch.stack(each).sum().backward()
    of_all.sum().backward()
    torch.testing.assert_close(
        together.grad, alone.grad, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64
    )
