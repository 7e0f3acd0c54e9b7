"""The learning-rate range test: losses of a plain loop, and the rates that they suggest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from optrial.engine import tensor_splits
from optrial.engine.options import batch_order
from optrial.errors import StudyError
from optrial.lr_range.curves import LrRange, RateCurve
from optrial.lr_range.figure import lr_range_figure
from optrial.models import build_model
from optrial.study import Study
from tests.pages import run_command
from tests.small import small_keys
from tests.tolerance import SMOOTHED_RATE, TRAJECTORY_FLOAT64

STEPS = 40
GROUPS = [{"match": "bias", "lr": 0.05}]


def test_losses_are_those_of_a_loop_whose_rate_grows() -> None:
    optimizers = [{"rule": "momentum", "lr": [0.1, 0.2], "groups": GROUPS}]
    study = Study(**small_keys(optimizers=optimizers, precision="float64", seeds=2))
    data = study.load_data()
    test = study.lr_range(data, low=1e-3, high=0.5, steps=STEPS)
    (curve,) = test.curves
    (spec, *_) = study.plan(data).runs
    assert test.seed not in (0, 1)
    model = build_model(
        spec.model, spec.model_arguments, input_shape=data.input_shape, classes=data.classes,
        seed=test.seed,
    ).double()  # fmt: skip
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    others = [p for name, p in model.named_parameters() if not name.endswith("bias")]
    groups = [{"params": others}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, 1.0, momentum=spec.hyperparameters["momentum"])
    train, losses = tensor_splits(data, "float64", "cpu")["train"], []
    order = batch_order(spec.with_seed(test.seed), len(train))
    for rate, rows in zip(np.geomspace(1e-3, 0.5, STEPS), order.batches(1), strict=False):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.param_groups[1]["lr"] = 0.5 * float(rate)  # as 0.05 beside 0.1
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(train.inputs[rows]), train.targets[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert curve.losses == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    assert curve.label == "momentum"


def test_rates_are_those_of_the_fall_the_least_loss_and_the_burst() -> None:
    rates = np.geomspace(1e-6, 10.0, 300)
    fall = 1 / (1 + np.exp(4 * np.log(rates / 0.01)))  # steepest where the rate is 0.01
    losses = 1 + fall + np.maximum(0, np.log(rates / 0.3)) ** 2
    curve = RateCurve("sgd", "", rates, losses)
    assert curve.steepest == pytest.approx(0.01, rel=SMOOTHED_RATE)
    assert curve.lowest is not None
    assert 0.1 < curve.lowest < 1
    assert curve.bursts is not None
    assert curve.bursts > curve.lowest
    assert curve.suggestion == (curve.steepest / 3, curve.lowest)


def test_losses_that_never_fall_suggest_nothing() -> None:
    rates = np.geomspace(1e-6, 10.0, 50)
    for losses in (np.linspace(1, 9, 50), np.ones(50), np.ones(4)):
        curve = RateCurve("sgd", "", rates, losses)
        assert (curve.steepest, curve.lowest, curve.suggestion) == (None, None, None)
    test = LrRange("none", 0, [curve])
    assert [row["lr"] for row in test.rows()] == [None]
    assert lr_range_figure(test).axes


def test_a_legend_of_many_lines_stands_above_the_losses() -> None:
    rates, losses = np.geomspace(1e-6, 10.0, 9), np.linspace(3, 1, 9)
    curves = [RateCurve(f"optimizer-{number}", "", rates, losses) for number in range(30)]
    figure = lr_range_figure(LrRange("many", 0, curves))
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    names, lines = legend.get_window_extent(), axes.get_window_extent()
    assert names.y0 >= lines.y1 > lines.y0 + 0.4 * figure.bbox.height
    assert figure.bbox.x0 <= names.x0 < names.x1 <= figure.bbox.x1
    assert not [line for line in axes.lines if line.get_marker() == "."]  # points of few lines only
    (few,) = lr_range_figure(LrRange("few", 0, curves[:3])).axes
    assert len([line for line in few.lines if line.get_marker() == "."]) == 3


def test_the_command_prints_rates_and_draws_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizers = [{"rule": "sgd", "lr": 0.1}, {"torch": "torch.optim:Adam", "lr": 0.01}]
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(small_keys(optimizers=optimizers)))
    monkeypatch.chdir(tmp_path)
    assert run_command(["lr-range", str(file), "--steps", "60", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["optimizer"] for row in rows] == ["sgd", "Adam"]
    assert all(row["lr"].startswith("{log: [") for row in rows)
    rates = [row[name] for row in rows for name in ("steepest", "lowest") if row[name]]
    assert rates
    assert rates == [float(f"{rate:.4g}") for rate in rates]  # so that 80 columns hold all
    assert (tmp_path / "small-lr-range.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"low": 0.0}, "low: 0.0"),
        ({"low": 1e-320}, "low: 1e-320: must be a number from 1e-30 to 1e"),
        ({"low": 1.0, "high": 0.5}, "high: 0.5: must be a number above low, 1,"),
        ({"high": 1e308}, r"high: 1e\+308: must be a number above low, 1e-06, and up to 1e"),
        ({"low": 1000.0}, "low: 1000: must be below 100, where sgd ends; or give high"),
        ({"steps": 3}, "steps: 3"),
        ({"steps": 10**9}, "steps: 1000000000: must be a whole number from 30 to 100,000"),
    ],
)
def test_values_out_of_range_are_refused(keys: dict[str, float], words: str) -> None:
    with pytest.raises(StudyError, match=words):
        Study(**small_keys()).lr_range(**keys)


def test_a_format_that_figures_lack_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(small_keys()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Study, "load_data", None)
    assert run_command(["lr-range", str(file), "--out", "rates.jpg"]) == 2
    assert "'.jpg' is not a format of figures. Did you mean 'png'?" in capsys.readouterr().err
