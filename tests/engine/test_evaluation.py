"""Evaluation means the whole split: its values depend on the outputs and targets alone."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn import metrics as sk
from torch.nn.functional import linear

from optrial.data import Dataset
from optrial.data.dataset import Split
from optrial.engine import options
from optrial.engine.evaluation import SplitTotals
from optrial.models import LOSSES, Objective, build_objective, needs_whole_split
from optrial.models.objective.metrics import batch_metric, mean_value, split_metric
from optrial.spec import METRICS, RunSpec
from tests.small import learner_for, small_plan
from tests.tolerance import SPLIT_METRIC

SAMPLES, FEATURES = 83, 5
CLASSES = {"binary": 2, "classes": 4, "values": 3}
BINARY = {"f1", "precision", "recall"}
ENGINES = ["reference", "stacked", "numpy"]


def problem_of(kind: str) -> Dataset:
    """Random samples, their targets in no order."""
    generator = np.random.default_rng(len(kind))
    outputs = CLASSES[kind]

    def split(size: int) -> Split:
        inputs = generator.normal(size=(size, FEATURES))
        values = np.exp(0.3 * generator.normal(size=(size, outputs)))  # above -1, for logarithms
        labels = generator.integers(0, outputs, size)
        labels[:outputs] = np.arange(outputs)
        return Split(inputs, values if kind == "values" else labels)

    splits = {"train": split(40), "test": split(SAMPLES)}
    return Dataset(kind, splits, classes=outputs, sha256=kind)


def names_for(kind: str) -> tuple[str, ...]:
    wanted = {"any", "values" if kind == "values" else "labels"}
    names = [name for name, metric in METRICS.items() if metric.targets in wanted]
    names = [name for name in names if name != "bits_per_byte"]  # which only texts have
    if kind != "binary":
        names = [name for name in names if name not in BINARY]
    return (*names, "top_2_accuracy") if kind == "classes" else tuple(names)


def runs_of(kind: str, precision: str, width: int) -> list[RunSpec]:
    """Runs of one stack: half of the width are seeds, the rest are learning rates."""
    rates = 2 if width > 1 else 1
    plan, _ = small_plan(
        optimizers=[{"rule": "sgd", "lr": [0.01 * (rate + 1) for rate in range(rates)]}],
        seeds=width // rates,
    )
    loss = "mse" if kind == "values" else "cross_entropy"
    changes = {"loss": loss, "metrics": names_for(kind), "precision": precision, "batch_size": 8}
    return [replace(run, **changes) for run in plan.runs]


def outputs_of(weights: dict[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Outputs of the MLP of `small_keys`, by its saved weights, in float64."""
    tensors = [torch.from_numpy(value).double() for value in weights.values()]
    hidden = torch.relu(linear(torch.from_numpy(inputs), *tensors[:2]))
    return linear(hidden, *tensors[2:]).numpy()


def expected(name: str, outputs: np.ndarray, targets: np.ndarray) -> float:
    """Each metric by scikit-learn or its formula, on all outputs of a split."""
    if targets.ndim == 2:
        errors = outputs - targets
        return {
            "mse": lambda: np.mean(errors**2),
            "mae": lambda: np.mean(np.abs(errors)),
            "rmse": lambda: np.mean(np.sqrt(np.mean(errors**2, axis=0))),
            "r2": lambda: np.mean(1 - np.sum(errors**2, axis=0) / len(targets) / targets.var(0)),
            "explained_variance": lambda: np.mean(1 - errors.var(0) / targets.var(0)),
            "mape": lambda: np.mean(np.abs(errors / targets)),
            "msle": lambda: np.mean((np.log1p(outputs) - np.log1p(targets)) ** 2),
            "rmsle": lambda: np.mean(
                np.sqrt(np.mean((np.log1p(outputs) - np.log1p(targets)) ** 2, axis=0))
            ),
            "median_absolute_error": lambda: np.mean(np.median(np.abs(errors), axis=0)),
            "max_error": lambda: np.abs(errors).max(),
            "poisson_deviance": lambda: 2 * np.mean(targets * np.log(targets / outputs) + errors),
        }[name]()
    one_hot = np.eye(outputs.shape[1])[targets]
    predicted, probable = outputs.argmax(1), softmax(outputs, axis=1)
    scores = probable[:, 1] if outputs.shape[1] == 2 else probable
    return {
        "accuracy": lambda: np.mean(predicted == targets),
        "top_2_accuracy": lambda: sk.top_k_accuracy_score(targets, outputs, k=2),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(targets, predicted),
        "f1": lambda: sk.f1_score(targets, predicted),
        "f1_macro": lambda: sk.f1_score(targets, predicted, average="macro", zero_division=0),
        "f1_micro": lambda: sk.f1_score(targets, predicted, average="micro"),
        "f1_weighted": lambda: sk.f1_score(targets, predicted, average="weighted", zero_division=0),
        "precision": lambda: sk.precision_score(targets, predicted, zero_division=0),
        "precision_macro": lambda: sk.precision_score(
            targets, predicted, average="macro", zero_division=0
        ),
        "recall": lambda: sk.recall_score(targets, predicted),
        "recall_macro": lambda: sk.recall_score(targets, predicted, average="macro"),
        "roc_auc": lambda: sk.roc_auc_score(targets, scores, multi_class="ovr"),
        "average_precision": lambda: sk.average_precision_score(targets, scores),
        "matthews": lambda: sk.matthews_corrcoef(targets, predicted),
        "cohen_kappa": lambda: sk.cohen_kappa_score(targets, predicted),
        "log_loss": lambda: -np.mean(np.log(probable[np.arange(len(targets)), targets])),
        "perplexity": lambda: np.exp(sk.log_loss(targets, probable)),
        "bits_per_token": lambda: sk.log_loss(targets, probable) / np.log(2),
        "brier": lambda: np.mean(
            ((probable - one_hot) ** 2).sum(1) / (2 if outputs.shape[1] == 2 else 1)
        ),
        "mse": lambda: np.mean((outputs - one_hot) ** 2),
        "mae": lambda: np.mean(np.abs(outputs - one_hot)),
    }[name]()


@pytest.mark.one_in(7)
@pytest.mark.parametrize("kind", list(CLASSES))
@pytest.mark.parametrize(
    ("engine", "width", "precision"),
    [
        *((engine, 1, precision) for engine in ENGINES for precision in SPLIT_METRIC),
        ("stacked", 6, "float32"),
        ("stacked", 6, "float64"),
        ("stacked", 64, "float32"),
    ],
)
def test_value_is_that_of_all_outputs(
    monkeypatch: pytest.MonkeyPatch, engine: str, width: int, kind: str, precision: str
) -> None:
    """Whatever the engine, the width of its stack and the batches of the evaluation."""
    dataset, runs = problem_of(kind), runs_of(kind, precision, width)
    learner = learner_for(runs, dataset, engine)
    learner.start(1)
    learner.advance(2)
    test = dataset.splits["test"]
    weights = [learner.weights(run) for run in range(width)]
    for arrays in weights if kind == "values" else ():
        list(arrays.values())[-1][:] += 3  # the last bias: logarithms need outputs above -1
    outputs = [outputs_of(arrays, test.inputs) for arrays in weights]
    extents = ((1, 2**26), (7, 4 * SAMPLES), (SAMPLES, 1))
    for batch, kept in extents if width < 64 else extents[1:2]:
        monkeypatch.setattr(options, "MOST_SAMPLES", batch * width)
        monkeypatch.setattr("optrial.engine.backends.numpy_backprop._EVALUATION_BATCH", batch)
        monkeypatch.setattr(options, "KEPT_OUTPUTS", kept)
        fresh = learner_for(runs, dataset, engine)
        for run in range(width):
            fresh.load_weights(run, weights[run])
        evaluation = fresh.evaluate("test", 2)
        assert not evaluation.reasons
        for run in range(0, width, 21):
            values = [expected(name, outputs[run], test.targets) for name in runs[0].metrics]
            np.testing.assert_allclose(
                evaluation.metrics[run],
                values,
                rtol=SPLIT_METRIC[precision],
                atol=SPLIT_METRIC[precision],
            )


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_single_logit_predicts_class_1_above_0(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    labels = np.append([0, 1], generator.integers(0, 2, size - 2))
    logits = generator.normal(size=size)
    positive = expit(logits)
    values = {
        "accuracy": np.mean((logits > 0) == labels),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, logits > 0),
        "f1": sk.f1_score(labels, logits > 0, zero_division=0),
        "roc_auc": sk.roc_auc_score(labels, logits),
        "average_precision": sk.average_precision_score(labels, logits),
        "log_loss": sk.log_loss(labels, positive),
        "brier": np.mean((positive - labels) ** 2),
    }
    shape = data.draw(st.sampled_from([(size,), (size, 1)]))
    outputs, targets = torch.from_numpy(logits.reshape(shape)), torch.from_numpy(labels)
    for name, value in values.items():
        measured = (
            split_metric(name)(outputs, targets).value
            if needs_whole_split(name, ())
            else float(batch_metric(name)(outputs, targets)) / size
        )
        assert measured == pytest.approx(value, abs=SPLIT_METRIC["float64"]), name


def test_labels_of_several_outputs_must_all_be_right() -> None:
    outputs = torch.tensor([[1.0, -1.0], [2.0, 1.0], [-1.0, -1.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    right = sk.accuracy_score(targets > 0, outputs > 0)
    assert float(batch_metric("accuracy")(outputs, targets)) / 3 == right
    f1 = sk.f1_score(targets > 0, outputs > 0, average="macro")
    assert split_metric("f1_macro")(outputs, targets).value == f1


@pytest.mark.parametrize("name", ["f1_macro", "f1_micro", "roc_auc", "average_precision"])
def test_pixels_of_a_mask_are_several_labels(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(12, 1, 2, 2, generator=generator)
    targets = torch.randint(0, 2, (12, 1, 2, 2), generator=generator).float()
    flat = split_metric(name)(outputs.flatten(1), targets.flatten(1))
    assert split_metric(name)(outputs, targets) == flat
    assert 0 < flat.value < 1


def test_equal_outputs_are_ranked_in_their_order() -> None:
    outputs, targets = torch.zeros(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    for count in (1, 2, 3):
        assert float(batch_metric(f"top_{count}_accuracy")(outputs, targets)) == 2 * count
    assert float(batch_metric("accuracy")(outputs, targets)) == 2
    assert float(batch_metric("top_2_accuracy")(outputs * torch.nan, targets)) == 0


@pytest.mark.parametrize("classes_first", [False, True])
def test_positions_of_a_sequence_count_alike(classes_first: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 5, 3, generator=generator)
    targets = torch.randint(0, 3, (6, 5), generator=generator)
    flat = outputs.argmax(-1).flatten(), targets.flatten()
    logits = outputs.movedim(-1, 1) if classes_first else outputs
    assert float(batch_metric("accuracy")(logits, targets)) / 6 == pytest.approx(
        sk.accuracy_score(*flat[::-1])
    )
    score = split_metric("f1_macro")(logits, targets)
    assert score.value == pytest.approx(sk.f1_score(*flat[::-1], average="macro"))


@pytest.mark.parametrize("value", [0.1, [0.1], np.float64(0.1), np.array([0.1])])
def test_numbers_that_are_no_tensors_keep_their_digits(value: Any) -> None:
    assert float(mean_value(lambda *_: value, torch.ones(1), torch.ones(1))) == 0.1


@pytest.mark.parametrize("axis", [-1, 1])
def test_the_axis_of_classes_holds_for_every_metric(axis: int) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 3, 3, generator=generator)  # as many positions as classes
    targets = torch.randint(0, 3, (6, 3), generator=generator)
    loss: Any = ("cross_entropy", {"class_axis": axis}, ["accuracy", "f1_macro"])
    objective = build_objective(*loss)
    flat = targets.flatten(), outputs.argmax(axis).flatten()
    (accuracy,) = objective.metrics
    assert float(accuracy(outputs, targets)) / 6 == pytest.approx(sk.accuracy_score(*flat))
    score = objective.split_metrics[1](outputs, targets)
    assert score.value == pytest.approx(sk.f1_score(*flat, average="macro"))


def test_a_mean_that_is_not_finite_has_a_reason() -> None:
    objective = Objective(LOSSES["mse"], [lambda outputs, targets: outputs.sum() * float("nan")])
    outputs = targets = torch.ones(4, 1)
    totals = SplitTotals(objective, targets, runs=1)
    loss, sums = objective.measure_part(outputs, targets)
    totals.add(loss[None], sums[None], outputs[None], slice(0, 4))
    assert totals.result([nullcontext]).reasons == {(0, 0): "it is nan"}


def test_reason_tells_why_a_value_is_not_finite() -> None:
    outputs, one_class = torch.randn(5, 2), torch.ones(5, dtype=torch.long)
    value, reason = split_metric("roc_auc")(outputs, one_class)
    assert np.isnan(value)
    assert "one class" in reason
    value, reason = split_metric("rmsle")(-2 * torch.ones(5, 1), torch.ones(5, 1))
    assert np.isnan(value)
    assert "-1" in reason


def test_blocks_cover_the_grid_in_the_order_of_the_runs() -> None:
    for runs in range(1, 30):
        extent = options.Extent(samples=10, runs=runs)
        for shape in ((1, 7), (4, 5), (6, 1)):
            places: Any = np.arange(np.prod(shape)).reshape(shape)
            blocks = [places[block] for block in extent.blocks(shape)]
            assert all(0 < block.size <= max(runs, 1) for block in blocks)
            assert sorted(np.concatenate([block.ravel() for block in blocks])) == sorted(
                places.ravel()
            )


@pytest.mark.parametrize(("value", "reason"), [(1e300, ""), (np.inf, "returned inf")])
def test_a_large_value_of_a_user_metric_is_a_value(
    monkeypatch: pytest.MonkeyPatch, value: float, reason: str
) -> None:
    """It does not fit into float32."""
    module = ModuleType("users_metric")
    module.constant = lambda outputs, targets: value  # type: ignore[attr-defined]
    module.__file__ = __file__
    monkeypatch.setitem(sys.modules, "users_metric", module)
    score = split_metric("users_metric:constant")(torch.ones(3), torch.ones(3))
    assert score.value == value
    assert reason in score.reason
    assert bool(reason) == bool(score.reason)
