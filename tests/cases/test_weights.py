"""A class-weighted loss, F1 and AUC on a test split in class order: values of the whole split."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch.nn import functional

from optrial import Study
from optrial.records import Record
from tests.cases.conftest import Case
from tests.tolerance import SPLIT_METRIC


class Trained(NamedTuple):
    """A run of seed 0, with what its weights put out for the test split."""

    record: Record
    outputs: np.ndarray  # (samples, classes)
    targets: np.ndarray


def trained(file: str, *settings: str) -> Trained:
    study = Study.from_file(file, ["save=final", *settings])
    test = study.load_data().splits["test"]
    with study.run("out") as results, torch.no_grad():
        record = results.records[0]
        outputs = results.model(record.run_id)(torch.from_numpy(test.inputs))
    return Trained(record, outputs.double().numpy(), test.targets)


@pytest.mark.parametrize(
    "settings",
    [
        ("engine=reference", "seeds=1"),
        ("engine=stacked", "seeds=16"),
        ("engine=stacked", "seeds=3"),
    ],
)
def test_values_are_those_of_the_whole_split(case: Case, settings: tuple[str, ...]) -> None:
    case("weights")
    run = trained("w2.yaml", *settings)
    score = run.outputs[:, 1] - run.outputs[:, 0]
    loss = functional.cross_entropy(
        torch.from_numpy(run.outputs),
        torch.from_numpy(run.targets),
        weight=torch.tensor([1.0, 12.0], dtype=torch.float64),
    )
    expected = {
        "test_loss": float(loss),
        "test_f1": f1_score(run.targets, run.outputs.argmax(1)),
        "test_auc": roc_auc_score(run.targets, score),
        "test_accuracy": np.mean(run.outputs.argmax(1) == run.targets),
    }
    assert run.record.metrics.keys() >= expected.keys()
    for metric, value in expected.items():
        assert run.record.metrics[metric] == pytest.approx(value, abs=SPLIT_METRIC["float32"])


@pytest.mark.slow
def test_images_in_class_order(case: Case) -> None:
    case("weights")
    run = trained("cnn.yaml")
    expected = f1_score(run.targets, run.outputs.argmax(1))
    assert run.record.metrics["test_f1"] == pytest.approx(expected, abs=SPLIT_METRIC["float32"])
    assert run.record.metrics["test_f1"] > 0.99


def test_plan_says_what_is_no_mean(case: Case) -> None:
    case("weights")
    plan = Study.from_file("w2.yaml").plan()
    assert plan.runs[0].whole_split == ("loss", "w:auc", "w:f1")
    assert [note.partition(" does not appear to be a mean")[0] for note in plan.notes] == [
        "'w:weighted'",
        "'w:auc'",
        "'w:f1'",
    ]
