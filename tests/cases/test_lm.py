"""Targets per position: the next token, and the class of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from optrial.errors import StudyError
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch, split_of
from tests.tolerance import TRAJECTORY_FLOAT64


def study(model: Any = "lm:CharLSTM", loss: Any = "cross_entropy", **more: Any) -> Study:
    problem = {
        "dataset": more.pop("dataset", {"name": "lm:tokens"}),
        "model": {"factory": model} if isinstance(model, str) else model,
        "loss": loss,
    }
    problem |= {key: more.pop(key) for key in ("metrics",) if key in more}
    keys = {
        "name": "lm",
        "batch_size": 40,
        "budget": {"epochs": 1},
        "seeds": 1,
        "precision": "float64",
        "optimizers": [{"rule": "adam", "lr": 0.01}],
    }
    return Study(problem=problem, **(keys | more))


def by_rows(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over all tokens of logits whose classes are last."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.long().flatten())


def by_columns(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def check(made: Study, loss: Any, axis: int, engine: str) -> dict[str, np.ndarray]:
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    model, losses = by_torch(run, dataset, loss, lambda p: torch.optim.Adam(p, lr=0.01))
    _, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        outputs = model(inputs)
    wanted = {"loss": loss(outputs, targets).item()}
    right = outputs.argmax(axis) == targets
    wanted["accuracy"] = right.double().mean().item()
    wanted["per_token"] = wanted["accuracy"]
    label = outputs.gather(axis, targets.long().unsqueeze(axis))
    wanted["top_3_accuracy"] = ((outputs > label).sum(axis) < 3).double().mean().item()
    for name in wanted.keys() & {n.removeprefix("test_") for n in curves}:
        value = curves[f"test_{name}"][-1]
        assert value == pytest.approx(wanted[name], rel=TRAJECTORY_FLOAT64), name
    return curves


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize(
    ("model", "loss", "axis"), [("lm:CharLSTM", by_rows, -1), ("lm:CharLSTMT", by_columns, 1)]
)
def test_next_tokens_in_both_layouts(
    case: Case, model: str, loss: Any, axis: int, engine: str
) -> None:
    case("lm")
    curves = check(study(model, metrics=["accuracy", "top_3_accuracy"]), loss, axis, engine)
    assert 0 <= curves["test_accuracy"][-1] <= curves["test_top_3_accuracy"][-1] <= 1


def test_the_study_of_the_case(case: Case) -> None:
    case("lm")
    made = Study.from_file("lm.yaml", ["precision=float64", "seeds=1"])
    assert made.load_data().classes == 12
    assert "test_accuracy" in check(made, by_rows, -1, "reference")


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_a_loss_of_ones_own_gets_tokens(case: Case, as_float: bool, engine: str) -> None:
    case("lm")
    data = {"name": "lm:tokens", "as_float": as_float}
    made = study(loss="lm:seq_ce", metrics=["lm:per_token"], dataset=data)
    check(made, by_rows, -1, engine)


def test_label_smoothing_is_that_of_torch(case: Case) -> None:
    case("lm")
    loss = {"name": "cross_entropy", "label_smoothing": 0.1}

    def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.transpose(1, 2), targets, label_smoothing=0.1)

    check(study(loss=loss), smoothed, -1, "reference")


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_model_that_takes_the_whole_sequence(case: Case, engine: str) -> None:
    case("lm")
    made = study("lm:Lossy", "mean_output", dataset={"name": "lm:whole"})
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        del targets
        return outputs

    _, losses = by_torch(run, dataset, mean, lambda p: torch.optim.Adam(p, lr=0.01))
    _, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)


PIXELS = """
import numpy as np, torch
from torch import nn


def masks(classes=3, side=6):
    g = np.random.default_rng(0)
    x = g.normal(size=(120, 1, side, side)).astype(np.float32)
    return x, np.digitize(x[:, 0], np.linspace(-0.5, 0.5, classes - 1)).astype(np.uint8)


class Segment(nn.Module):
    def __init__(self, classes, last=False, outputs=None):
        super().__init__()
        self.layer, self.last = nn.Conv2d(1, outputs or classes, 3, padding=1), last

    def forward(self, x):
        y = self.layer(x)
        return y.movedim(1, -1) if self.last else y
"""


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize("last", [False, True])
def test_the_class_of_each_pixel(case: Case, last: bool, engine: str) -> None:
    (case("lm") / "pixels.py").write_text(PIXELS)
    model = {"factory": "pixels:Segment", "args": {"last": last}}
    made = study(model, dataset={"name": "pixels:masks"})
    check(made, by_rows if last else by_columns, -1 if last else 1, engine)


@pytest.mark.parametrize(("axis", "last"), [(1, False), (-1, True)])
@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_as_many_classes_as_positions(case: Case, axis: int, last: bool, engine: str) -> None:
    """The shapes say nothing then; a key of the loss does."""
    (case("lm") / "pixels.py").write_text(PIXELS)
    data = {"name": "pixels:masks", "classes": 6}
    model = {"factory": "pixels:Segment", "args": {"last": last}}
    (message,) = messages(study(model, dataset=data))
    assert "outputs of shape (32, 6, 6, 6) for labels of shape (32, 6, 6)" in message
    assert "loss: {name: cross_entropy, class_axis: -1}" in message
    loss = {"name": "cross_entropy", "class_axis": axis}
    metrics = ["accuracy", "top_3_accuracy"]
    made = study(model, loss, dataset=data, metrics=metrics)
    check(made, by_rows if last else by_columns, axis, engine)


def messages(made: Study) -> list[str]:
    with pytest.raises(StudyError) as caught:
        made.plan()
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("model", "loss", "says"),
    [
        ({"kind": "mlp", "hidden": [8]}, "cross_entropy",
         "problem.model: 'mlp' returned outputs of shape (32, 12); 12 classes at each position of "
         "labels of shape (32, 16) need (32, 16, 12) or (32, 12, 16), as a transformer with pool: "
         "none has."),
        ("lm:CharLSTM", {"name": "cross_entropy", "class_axis": 1},
         "returned outputs of shape (32, 16, 12); 12 classes at each position of labels of shape "
         "(32, 16) need (32, 12, 16)."),
        ("lm:CharLSTM", "mse", "outputs of shape (32, 16, 12); they must be (32, 16)."),
    ],
)  # fmt: skip
def test_outputs_of_other_shapes_are_refused(case: Case, model: Any, loss: Any, says: str) -> None:
    case("lm")
    (message,) = messages(study(model, loss))
    assert message.endswith(says)


def test_fewer_classes_than_labels_are_refused(case: Case) -> None:
    (case("lm") / "pixels.py").write_text(PIXELS)
    model = {"factory": "pixels:Segment", "args": {"outputs": 2}}
    (message,) = messages(study(model, dataset={"name": "pixels:masks"}))
    assert "outputs of shape (32, 2, 6, 6); 3 classes at each position" in message


@pytest.mark.parametrize("value", [0, 2, True, "last"])
def test_class_axis_is_checked(case: Case, value: Any) -> None:
    case("lm")
    with pytest.raises(StudyError, match=r"problem\.loss\.class_axis: .*: must be -1 or 1"):
        study(loss={"name": "cross_entropy", "class_axis": value})


def test_the_numpy_engine_refuses_positions(case: Case) -> None:
    case("lm")
    with pytest.raises(StudyError, match="mlp' returned outputs of shape"):
        study({"kind": "mlp", "hidden": [8]}, engine="numpy").plan()
    loss = {"name": "cross_entropy", "class_axis": 1}
    with pytest.raises(StudyError, match="numpy has no labels per position"):
        study({"kind": "mlp", "hidden": [8]}, loss, engine="numpy")
