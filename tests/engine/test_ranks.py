"""Metrics of ranks count outputs as tied that only rounding tells apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk

from optrial.models.objective.metrics import split_metric
from optrial.models.objective.ranks import log_odds, tied
from tests.tolerance import SPLIT_METRIC

SAMPLES = 400
METRICS = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
KINDS = {"one logit": 1, "two logits": 2, "four classes": 4, "three labels": 3}


def samples(kind: str, *, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs, of a few levels in each column if `levels` is not 0, and their targets."""
    generator = np.random.default_rng(3)
    shape = SAMPLES, KINDS[kind]
    outputs = generator.normal(3, 2, shape)
    if levels:
        outputs = generator.normal(3, 2, levels)[generator.integers(0, levels, shape)]
    if kind == "three labels":
        return outputs, generator.integers(0, 2, shape)
    return outputs, generator.integers(0, max(2, shape[1]), SAMPLES)


def expected(name: str, kind: str, outputs: np.ndarray, targets: np.ndarray) -> float:
    """The metric by scikit-learn, each class against the rest."""
    scores = outputs.squeeze(1) if kind == "one logit" else outputs
    if kind == "two logits":
        scores = outputs[:, 1] - outputs[:, 0]
    if kind == "four classes":
        scores, targets = np.log(softmax(outputs, axis=1)).round(10), np.eye(4)[targets]
    return float(METRICS[name](targets, scores))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METRICS)
def test_rounding_leaves_ties(name: str, kind: str, dtype: torch.dtype) -> None:
    levels, targets = samples(kind, levels=2)
    exact = torch.from_numpy(levels).to(dtype).double().numpy()
    values = []
    for seed in range(3):  # as three engines round
        noise = torch.finfo(dtype).eps * np.random.default_rng(seed).integers(-3, 4, exact.shape)
        outputs = torch.from_numpy(exact * (1 + noise)).to(dtype)
        values.append(split_metric(name)(outputs, torch.from_numpy(targets)).value)
    wanted = expected(name, kind, levels.round(6), targets)
    assert values == pytest.approx([wanted] * 3, rel=SPLIT_METRIC["float64"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METRICS)
def test_other_outputs_keep_their_order(name: str, kind: str) -> None:
    outputs, targets = samples(kind)
    value = split_metric(name)(torch.from_numpy(outputs), torch.from_numpy(targets)).value
    wanted = expected(name, kind, outputs, targets)
    assert value == pytest.approx(wanted, rel=SPLIT_METRIC["float64"])


def test_many_close_scores_move_by_less_than_the_error() -> None:
    scores = np.random.default_rng(0).random(20_000).astype(np.float32).astype(np.float64)
    error = 64 * 2.0**-20 * scores.max()  # half of it is more than most gaps
    moved = scores - tied(scores, scores, 2.0**-20)
    assert moved.min() >= 0
    assert moved.max() <= error
    assert (np.diff(tied(scores, scores, 2.0**-20)[scores.argsort()]) >= 0).all()


def test_one_large_output_does_not_tie_the_others() -> None:
    scores = np.append(np.linspace(0, 1, 50), 1e9)
    assert len(np.unique(tied(scores, scores, 2.0**-24))) == 51


def test_log_odds_of_certain_classes_are_told_apart() -> None:
    """Their probabilities are 1 in float64."""
    logits = np.array([[50.0, 0, 0], [60.0, 0, 0], [0, 0, 0], [0, -np.inf, 0]])
    odds = log_odds(logits)
    assert odds[:, 0] == pytest.approx([50 - np.log(2), 60 - np.log(2), -np.log(2), 0])
    assert odds[:2, 1] == pytest.approx([-50, -60])
    assert odds[3, 1] < -1e300


def test_missing_class_has_a_reason() -> None:
    outputs, targets = samples("four classes")
    for name in METRICS:
        score = split_metric(name)(torch.from_numpy(outputs), torch.from_numpy(targets % 3))
        assert np.isnan(score.value)
        assert score.reason == "no sample of class 3"
