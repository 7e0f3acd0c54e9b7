"""What the best constant answer scores, beside the dummy estimators of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier, DummyRegressor

from optrial.data import Dataset
from tests.small import MOONS, small_plan, train
from tests.tolerance import STATISTIC_FLOAT64

UNEQUAL = "tests.engine.test_constant_answer:unequal"
LABELS = "tests.engine.test_constant_answer:several_labels"


def unequal() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three classes, of which one is frequent."""
    generator = np.random.default_rng(0)
    sizes = {"train": 60, "validation": 30, "test": 40}
    return {
        name: (
            generator.normal(size=(size, 2)),
            np.concatenate([np.arange(3), generator.choice(3, size - 3, p=[0.7, 0.2, 0.1])]),
        )
        for name, size in sizes.items()
    }


def several_labels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Samples with any of three labels."""
    generator = np.random.default_rng(1)
    return {
        name: (generator.normal(size=(50, 2)), generator.random((50, 3)) < (0.2, 0.5, 0.9))
        for name in ("train", "test")
    }


def answers(**problem: Any) -> tuple[dict[str, float], Dataset]:
    """The recorded answers of a run on a problem, and its data."""
    on = ["test"] if problem["dataset"] == LABELS else ["validation", "test"]
    plan, dataset = small_plan(
        problem={"model": {"kind": "mlp", "hidden": [4]}} | problem,
        evaluate={"on": on},
        budget={"steps": 1},
    )
    recorded = train(plan.runs[0], dataset, "reference").facts.constant_answer
    assert recorded is not None
    return dict(recorded), dataset


@pytest.mark.parametrize(
    ("dataset", "count"), [(UNEQUAL, 2), (dict(MOONS), 1)], ids=["unequal", "moons"]
)
def test_labels_are_answered_with_their_shares(dataset: Any, count: int) -> None:
    asked = ["accuracy", "balanced_accuracy", "log_loss", "matthews", f"top_{count}_accuracy"]
    recorded, data = answers(dataset=dataset, metrics=asked)
    train_split = data.splits["train"]
    dummy = DummyClassifier(strategy="prior").fit(train_split.inputs, train_split.targets)
    for split in ("train", "validation", "test"):
        inputs, targets = data.splits[split].inputs, data.splits[split].targets
        shares, predicted = dummy.predict_proba(inputs), dummy.predict(inputs)
        top = np.argsort(-shares[0])[:count]
        expected = {
            "loss": sk.log_loss(targets, shares),
            "accuracy": sk.accuracy_score(targets, predicted),
            f"top_{count}_accuracy": np.isin(targets, top).mean(),
        }
        if split != "train":
            expected |= {
                "log_loss": sk.log_loss(targets, shares),
                "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
                "matthews": sk.matthews_corrcoef(targets, predicted),
            }
        for metric, value in expected.items():
            assert recorded[f"{split}_{metric}"] == pytest.approx(value, rel=STATISTIC_FLOAT64)


def test_smoothed_labels_are_answered_with_smoothed_shares() -> None:
    loss = {"name": "cross_entropy", "label_smoothing": 0.2}
    recorded, data = answers(dataset=UNEQUAL, loss=loss)
    shares = np.bincount(data.splits["train"].targets) / len(data.splits["train"].targets)
    smoothed = 0.8 * shares + 0.2 / 3
    entropy = -(smoothed * np.log(smoothed)).sum()
    assert recorded["train_loss"] == pytest.approx(entropy, rel=STATISTIC_FLOAT64)


def test_values_are_answered_with_their_mean_or_median() -> None:
    recorded, data = answers(dataset="diabetes", loss="mse", metrics=["mae", "r2"])
    train_split, test = data.splits["train"], data.splits["test"]
    targets = data.original(test.targets)
    mean, median = (
        DummyRegressor(strategy=how)
        .fit(train_split.inputs, data.original(train_split.targets))
        .predict(test.inputs)
        for how in ("mean", "median")
    )
    for metric, score, best in (
        ("loss", sk.mean_squared_error, min),
        ("mae", sk.mean_absolute_error, min),
        ("r2", sk.r2_score, max),
    ):
        scale = data.target_scale.std.item() ** 2 if metric == "loss" else 1.0
        expected = best(score(targets, mean), score(targets, median)) / scale
        assert recorded[f"test_{metric}"] == pytest.approx(expected, rel=STATISTIC_FLOAT64)


def test_several_labels_are_answered_each_with_its_share() -> None:
    recorded, data = answers(dataset=LABELS, loss="bce", metrics=["accuracy"])
    train_split, test = data.splits["train"], data.splits["test"]
    shares = np.tile(train_split.targets.mean(axis=0, dtype=np.float64), (len(test.targets), 1))
    expected = np.mean(
        [sk.log_loss(test.targets[:, k], shares[:, k], labels=[0, 1]) for k in range(3)]
    )
    assert recorded["test_loss"] == pytest.approx(expected, rel=STATISTIC_FLOAT64)
    right = ((shares > 0.5) == (test.targets > 0.5)).all(axis=1).mean()
    assert recorded["test_accuracy"] == right


def test_user_functions_have_no_constant_answer() -> None:
    recorded, _ = answers(
        dataset=dict(MOONS), loss="torch.nn.functional:cross_entropy", metrics=["accuracy"]
    )
    assert "test_loss" not in recorded
    assert "test_accuracy" in recorded
