"""Metrics of each step's batch against loops written out, and what they share with the loss."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from optrial.analysis.audit import Severity
from optrial.data import Dataset
from optrial.engine import Training
from optrial.engine.options import batch_order
from optrial.models import build_model
from optrial.plan import pack
from optrial.report.figures import study as figures
from optrial.report.tables import shown_metrics
from optrial.results import Results
from optrial.spec import RunSpec, Status
from optrial.study import Study, recorded_metrics
from tests.small import MOONS, learner_for, small_keys, small_plan, train, train_stack
from tests.tolerance import RULE_FLOAT64, STATISTIC_FLOAT64

RATES = [0.1, 0.5]
ASKED: dict[str, Any] = {
    "problem": {
        "dataset": dict(MOONS),
        "model": {"kind": "mlp", "hidden": [8]},
        "metrics": ["accuracy", "mae"],
    },
    "batch_size": 50,  # of 160 samples: the last batch of an epoch has 10
    "budget": {"steps": 14},
    "evaluate": {"every": {"steps": 5}, "batch_metrics": True},
    "precision": "float64",
    "seeds": [3, 5],
    "optimizers": [{"rule": "sgd", "lr": RATES}],
}
NAMES = ("train_loss", "train_accuracy", "train_mae")
ENGINES = pytest.mark.parametrize("engine", ["reference", "stacked", "numpy"])


def by_hand(run: RunSpec, dataset: Dataset) -> np.ndarray:
    """Train SGD as a script would; return loss, accuracy and mean error of each batch, (3, steps).

    Forward pass and gradient are written out in NumPy.
    """
    model = build_model(
        run.model, run.model_arguments, input_shape=(2,), classes=2, seed=run.seed
    ).double()
    w1, b1, w2, b2 = (parameter.detach().numpy().copy() for parameter in model.parameters())
    split = dataset.splits["train"]
    rows = []
    for batch in islice(batch_order(run, len(split.targets)).batches(), run.steps):
        x, y = split.inputs[batch].astype(np.float64), split.targets[batch]
        hidden = np.maximum(x @ w1.T + b1, 0)
        outputs = hidden @ w2.T + b2
        shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
        wanted = np.eye(2)[y]
        loss = -np.log(shares[np.arange(len(y)), y]).mean()
        right = (outputs[:, 1] > outputs[:, 0]) == (y == 1)
        rows.append((loss, right.sum() / len(y), np.abs(outputs - wanted).mean()))
        slope = (shares - wanted) / len(y)
        back = (slope @ w2) * (hidden > 0)
        gradients = (back.T @ x, back.sum(0), slope.T @ hidden, slope.sum(0))
        for parameter, gradient in zip((w1, b1, w2, b2), gradients, strict=True):
            parameter[...] -= run.hyperparameters["lr"] * gradient
    return np.array(rows).T


@ENGINES
def test_each_step_is_that_of_a_loop_written_out(engine: str) -> None:
    plan, dataset = small_plan(**ASKED)
    stack = pack(plan.runs, len(plan.runs))[0]
    assert len(stack) == 4
    segments = (
        train_stack(stack, dataset, engine)
        if engine == "stacked"
        else [train(run, dataset, engine) for run in stack]
    )
    for run, segment in zip(stack, segments, strict=True):
        for name, expected in zip(NAMES, by_hand(run, dataset), strict=True):
            curve = segment.curves[name]
            assert curve.steps.tolist() == list(range(1, 15))
            assert curve.values == pytest.approx(expected, rel=RULE_FLOAT64), name


def test_a_plain_script_with_one_generator_sees_the_same() -> None:
    """`rng: script`, float32, batches from a DataLoader: equal to the bit."""
    keys = ASKED | {"rng": "script", "precision": "float32", "seeds": [7]}
    keys |= {"evaluate": {"every": {"steps": 14}, "batch_metrics": True}}  # it draws numbers too
    plan, dataset = small_plan(**keys | {"optimizers": [{"rule": "sgd", "lr": 0.1}]})
    split = dataset.splits["train"]
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
    )
    loader = torch.utils.data.DataLoader(data, batch_size=50, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected: list[float] = []
    while len(expected) < 14:
        for x, y in islice(loader, 14 - len(expected)):
            outputs = model(x)
            expected.append((outputs.argmax(1) == y).double().mean().item())
            optimizer.zero_grad()
            nn.functional.cross_entropy(outputs, y).backward()
            optimizer.step()
    (run,) = plan.runs
    assert train(run, dataset).curves["train_accuracy"].values.tolist() == expected


@ENGINES
def test_means_over_epochs_are_those_of_the_batches(engine: str) -> None:
    """Weighted by samples: the last batch of 10 counts a fifth of a batch of 50."""
    plan, dataset = small_plan(**ASKED)
    curves = train(plan.runs[0], dataset, engine).curves
    for name in NAMES:
        epochs = curves[name].values[:12].reshape(3, 4)
        means = np.average(epochs, axis=1, weights=[50, 50, 50, 10])
        assert curves[f"{name}_epoch"].values == pytest.approx(means, rel=STATISTIC_FLOAT64)


def test_asking_changes_nothing_else() -> None:
    plan, dataset = small_plan(**ASKED)
    (stack,) = pack(plan.runs, len(plan.runs))
    silent = [replace(run, batch_metrics=False) for run in stack]
    for asked, without in zip(
        train_stack(stack, dataset, "stacked"),
        train_stack(silent, dataset, "stacked"),
        strict=True,
    ):
        assert asked.facts.parameters_sha256 == without.facts.parameters_sha256
        assert set(asked.curves) == {*without.curves, "train_accuracy", "train_mae"}
        for name, curve in without.curves.items():
            assert asked.curves[name].values.tolist() == curve.values.tolist()


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_interrupted_and_resumed_is_as_uninterrupted(engine: str) -> None:
    plan, dataset = small_plan(**ASKED)
    stack = pack(plan.runs, len(plan.runs))[0] if engine == "stacked" else plan.runs[:1]
    whole = Training(stack, learner_for(stack, dataset, engine))
    for _ in whole.run():
        pass
    first = Training(stack, learner_for(stack, dataset, engine))
    next(iter(first.run(lambda step: step < 3)))
    assert 0 < first.step < 14
    second = Training(stack, learner_for(stack, dataset, engine))
    second.resume(first.checkpoint())
    earlier = first.segments()
    for _ in second.run():
        pass
    for one, two, together in zip(earlier, second.segments(), whole.segments(), strict=True):
        assert "train_accuracy" in one.curves
        for metric, curve in together.curves.items():
            parts = [part.curves[metric] for part in (one, two) if metric in part.curves]
            assert np.concatenate([p.steps for p in parts]).tolist() == curve.steps.tolist()
            assert np.concatenate([p.values for p in parts]).tolist() == curve.values.tolist()


@pytest.mark.parametrize("limit", [None, 1e3])
def test_they_end_where_the_loss_of_a_diverged_run_ends(limit: float | None) -> None:
    """Its neighbour in the stack goes on."""
    optimizers = [{"rule": "sgd", "lr": [0.1, 1e30 if limit is None else 1e4]}]
    plan, dataset = small_plan(**ASKED | {"optimizers": optimizers, "loss_limit": limit})
    (stack,) = pack(plan.runs[::2], 2)
    segments = train_stack(stack, dataset, "stacked")
    assert {segment.status for segment in segments} == {Status.DONE, Status.DIVERGED}
    for segment in segments:
        steps = segment.curves["train_loss"].steps.tolist()
        assert len(steps) == 14 if segment.status is Status.DONE else 0 < len(steps) < 14
        assert segment.curves["train_accuracy"].steps.tolist() == steps
        assert segment.curves["train_mae"].steps.tolist() == steps


CLAIM = "fast > slow on {}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batches")
    study(CLAIM.format("train_accuracy")).run(folder).store.close()
    return folder


def study(*claims: str, **changes: Any) -> Study:
    optimizers = [{"name": n, "rule": "sgd", "lr": r} for n, r in (("fast", 0.5), ("slow", 0.1))]
    keys = {"optimizers": optimizers, "claims": list(claims), "loss_limit": None}
    return Study(**small_keys(**ASKED | keys | changes))


def test_a_study_lists_what_it_records_and_keeps_it(folder: Path) -> None:
    with Results(Study.run(study(), folder).store, folder) as results:
        recorded = {name for record in results.records for name in record.metrics}
        assert recorded == {n for n in recorded_metrics(study().config) if "validation" not in n}
        curve = results.curves("train_accuracy")
        assert curve.groupby("run_id")["step"].apply(list).tolist() == [list(range(1, 15))] * 4
        final = curve[curve["step"] == 14].set_index("run_id")["value"]
        assert {r.run_id: r.metrics["train_accuracy"] for r in results.records} == final.to_dict()


def test_tables_show_splits_and_figures_the_batches_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_figure", lambda *_, **__: Figure())  # drawing takes seconds
    with Results(study(CLAIM.format("test_accuracy")).run(folder).store, folder) as results:
        shown = shown_metrics(results.records[0].metrics, results.directions)
        assert shown == ["train_loss_epoch", "test_accuracy", "test_mae"]
        drawn = [drawn.name for drawn in figures.study_figures(results.view())]
    assert [name for name in drawn if name.startswith("curves")] == [
        "curves-train_loss_epoch",
        "curves-train_loss",
        "curves-train_accuracy",
        "curves-train_mae",
        "curves-test_accuracy",
    ]


@pytest.mark.parametrize(
    ("metric", "batch_size", "severity"),
    [
        ("train_loss", 50, Severity.WARNING),
        ("train_accuracy", 50, Severity.WARNING),
        ("train_mae", 50, Severity.WARNING),
        ("train_accuracy", "full", Severity.ADVICE),
        ("train_accuracy_epoch", 50, Severity.ADVICE),
        ("train_eval_accuracy", 50, None),
    ],
)
def test_claims_on_batches_are_audited(
    metric: str, batch_size: int | str, severity: Severity | None, tmp_path: Path
) -> None:
    changes = {"batch_size": batch_size, "evaluate": ASKED["evaluate"] | {"on": ["train", "test"]}}
    with study(CLAIM.format(metric), **changes).run(tmp_path) as results:
        findings = [finding for finding in results.audit().findings if finding.rule == "E12"]
    assert [finding.severity for finding in findings] == ([severity] if severity else [])
    for finding in findings:
        evaluated = "train_eval_" + metric.removeprefix("train_").removesuffix("_epoch")
        assert finding.remedy.settings["claims"] == [CLAIM.format(evaluated)]


def test_optimizers_are_not_compared_on_a_batch_unless_one_asks(tmp_path: Path) -> None:
    on_train = {"evaluate": ASKED["evaluate"] | {"on": ["train"]}}
    with study(**on_train).run(tmp_path) as results:
        assert results.view().metric == "train_eval_accuracy"
        assert results.view("train_accuracy").metric == "train_accuracy"
