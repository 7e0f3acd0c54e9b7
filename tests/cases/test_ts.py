"""A time series cut into windows, predicted by an LSTM; and models that return no tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from optrial.data import BatchOrder
from optrial.errors import StudyError
from optrial.study import Study
from tests.cases.conftest import Case
from tests.small import train_stack
from tests.tolerance import STATISTICS_FLOAT32, TRAJECTORY_FLOAT64

STEPS = 84  # six epochs of 14 batches


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("ts:Dict", "'ts:Dict' returned a dict with the keys 'logits'; a model returns one tensor"),
        ("ts:Aux", "'ts:Aux' returned a tuple of 2 ("),
        ("ts:Two", "missing 1 required positional argument: 'extra'"),
    ],
)
def test_a_model_that_returns_no_tensor_is_one_error_before_training(
    factory: str, message: str, case: Case
) -> None:
    study = Study.from_file(case("ts") / "m.yaml", [f"problem.model.factory={factory}"])
    with pytest.raises(StudyError) as error:
        study.run("out")
    (problem,) = error.value.problems
    assert problem.path == "problem.model.factory"
    assert message in problem.message
    assert not Path("out").exists()


class Plain(nn.Module):
    """An LSTM and a linear layer, as a tutorial has them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, 16, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


def windows() -> tuple[np.ndarray, np.ndarray]:
    """The same series, cut by NumPy itself."""
    generator, t = np.random.default_rng(0), np.arange(600)
    series = np.sin(t / 9) + 0.05 * t / 20 + 0.1 * generator.normal(size=600)
    series = series.astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(series, 12)[:-1, :, None], series[12:]


def plain_loop(splits: dict[str, tuple[Tensor, Tensor]], seed: int) -> dict[str, Any]:
    """Train in float64 and return what the study records at the end."""
    torch.manual_seed(seed)
    model = Plain().double()
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, targets = splits["train"]
    losses = []
    for step, rows in enumerate(BatchOrder(len(targets), batch_size=32, seed=seed).batches(1)):
        if step == STEPS:
            break
        loss = nn.functional.mse_loss(model(inputs[rows]), targets[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    values: dict[str, Any] = {"train_loss": losses}
    with torch.no_grad():
        for name in ("validation", "test"):
            errors = model(splits[name][0]) - splits[name][1]
            values[f"{name}_loss"] = errors.square().mean().item()
            values[f"{name}_mae"] = errors.abs().mean().item()
    return values


@pytest.mark.parametrize(("engine", "seeds"), [("reference", 1), ("stacked", 3)])
def test_the_values_are_those_of_a_plain_loop(engine: str, seeds: int, case: Case) -> None:
    settings = [f"engine={engine}", f"seeds={seeds}", "precision=float64"]
    study = Study.from_file(case("ts") / "ts.yaml", settings)
    dataset = study.load_data()
    runs = study.plan(dataset).runs
    assert runs[0].steps == STEPS
    splits = {
        name: (torch.from_numpy(split.inputs).double(), torch.from_numpy(split.targets).double())
        for name, split in dataset.splits.items()
    }
    for run, segment in zip(runs, train_stack(runs, dataset, engine), strict=True):
        wanted = plain_loop(splits, run.seed)
        assert segment.curves["train_loss"].values == pytest.approx(
            wanted.pop("train_loss"), rel=TRAJECTORY_FLOAT64
        )
        for metric, value in wanted.items():
            assert segment.curves[metric].values[-1] == pytest.approx(
                value, rel=TRAJECTORY_FLOAT64
            ), metric


def test_windows_are_divided_and_scaled_as_scikit_learn_would(case: Case) -> None:
    dataset = Study.from_file(case("ts") / "ts.yaml").load_data()
    inputs, targets = windows()
    rest, test, rest_targets, test_targets = train_test_split(
        inputs, targets, test_size=0.2, random_state=0
    )
    test_split = dataset.splits["test"]
    assert np.array_equal(test_split.targets[:, 0], test_targets)
    train = dataset.splits["train"]
    kept = np.isin(rest_targets, train.targets[:, 0])
    known = rest[kept].astype(np.float64)
    mean, deviation = known.mean(axis=(0, 1)), known.std(axis=(0, 1))
    for name, raw in (("train", rest[kept]), ("test", test)):
        scaled = (raw.astype(np.float64) - mean) / deviation
        assert dataset.splits[name].inputs == pytest.approx(scaled, abs=STATISTICS_FLOAT32)
