"""Metrics that cannot have a value on a dataset are refused before any run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optrial import Study, StudyError
from optrial.memory import MemoryLimit
from optrial.plan import estimate
from tests.small import small_keys

calls: list[float] = []


def average_so_far(outputs: Any, targets: Any) -> float:
    calls.append((outputs.argmax(-1) == targets).double().mean().item())
    return sum(calls) / len(calls)


def eval_loss(outputs: Any, targets: Any) -> Any:
    return (outputs.argmax(-1) == targets).double()


def accuracy_epoch(outputs: Any, targets: Any) -> Any:
    return (outputs.argmax(-1) == targets).double()


def nested(outputs: Any, targets: Any) -> Any:
    return torch.nested.as_nested_tensor([outputs[0], outputs[0, :1]])


def nothing(outputs: Any, targets: Any) -> None:
    del outputs, targets


def data(kind: str) -> Any:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(30, 2)).astype(np.float32)
    labels = np.arange(30) % 3
    values = generator.normal(size=(30, 1)).astype(np.float32)
    targets = {
        "classes": labels,
        "classes, two": labels % 2,
        "classes, several": np.eye(3)[labels],
        "classes, one logit": labels % 2,
        "classes, column": labels[:, None] % 2,
        "values": values,
        "one class in test": np.where(np.arange(30) < 20, labels, 1),
        "zeros": np.where(np.arange(30) % 4 == 0, 0, values[:, 0])[:, None].astype(np.float32),
        "constant": np.ones((30, 1), np.float32) * 0.5,
    }[kind]
    return {"train": (inputs[:20], targets[:20]), "test": (inputs[20:], targets[20:])}


def study(kind: str, metric: Any, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(f"{__name__}.current", lambda: data(kind), raising=False)
    loss = "cross_entropy" if "class" in kind else "mse"
    if kind in ("classes, several", "classes, one logit", "classes, column"):
        loss = "bce"
    dataset = {"name": f"{__name__}:current"}
    problem = {"dataset": dataset, "model": "logistic", "loss": loss, "metrics": [metric]}
    return Study(**small_keys(problem=problem, batch_size=10))


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        ("classes", "f1", "f1 has no value on the test split: it is for two classes"),
        ("one class in test", "roc_auc", "no sample of class 0, 2"),
        ("one class in test", "average_precision", "no sample of class 0, 2"),
        ("classes", "r2", "r2 needs values to predict; use accuracy"),
        ("values", "f1_macro", "f1_macro needs class labels; use mse"),
        ("zeros", "mape", "targets are 0, by which it divides"),
        ("values", "rmsle", r"log\(1 \+ target\) needs more than -1"),
        ("constant", "r2", "its targets are all equal"),
        ("classes", "top_3_accuracy", "is 1 for every model of 3 classes; use top_2_accuracy"),
        ("classes, two", "top_2_accuracy", "of 2 classes; use accuracy"),
        ("classes, several", "top_2_accuracy", "needs one label per sample; use f1_macro"),
        ("classes, column", "f1", r"the targets are a column \(n, 1\): give them as \(n,\)"),
        ("classes, one logit", "top_1_accuracy", "labels of one logit; use accuracy"),
    ],
)
def test_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, kind: str, metric: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        study(kind, metric, monkeypatch).plan()
    assert "problem.metrics[0]" in str(error.value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("average_so_far", "keeps state between calls"),
        ("nested", "returned a nested tensor, float32 for .* samples"),
        ("nothing", "returned None for .* samples; a metric returns one real number per sample"),
        ("eval_loss", "'eval_loss' and the loss would both be recorded as train_eval_loss"),
    ],
)
def test_functions_without_a_value_of_their_own_are_refused(
    monkeypatch: pytest.MonkeyPatch, metric: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        study("classes", f"{__name__}:{metric}", monkeypatch).plan()


def test_two_metrics_of_one_recorded_name_are_refused() -> None:
    metrics = ["accuracy", f"{__name__}:accuracy_epoch"]
    problem = {"dataset": "moons", "metrics": metrics}
    message = "both be recorded as train_accuracy_epoch; rename the function"
    with pytest.raises(StudyError, match=message):
        Study(**small_keys(problem=problem))


@pytest.mark.parametrize(
    ("kind", "metric"), [("classes", "roc_auc"), ("values", "r2"), ("constant", "rmse")]
)
def test_planned_where_it_has_a_value(
    monkeypatch: pytest.MonkeyPatch, kind: str, metric: str
) -> None:
    assert study(kind, metric, monkeypatch).plan().runs


def test_outputs_of_a_split_that_exceed_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = study("classes", "f1_macro", monkeypatch)
    tiny = MemoryLimit("this container, memory.max", 2, 1)
    monkeypatch.setattr("optrial.plan.evaluation.memory_limit", lambda: tiny)
    with pytest.raises(StudyError, match="needs all outputs of a split at once"):
        changed.plan()
    assert study("classes", "accuracy", monkeypatch).plan().runs


def test_estimate_counts_the_outputs_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = study("classes", "f1_macro", monkeypatch)
    plain = study("classes", "accuracy", monkeypatch)
    dataset = plain.load_data()
    more = estimate(planned.plan(dataset).runs, dataset, width=5).peak_bytes
    less = estimate(plain.plan(dataset).runs, dataset, width=5).peak_bytes
    assert more - less == 5 * 10 * 3 * 4  # runs, samples, classes, bytes
