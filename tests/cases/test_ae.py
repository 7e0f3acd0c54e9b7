"""Autoencoders: targets of any shape, models that compute their own loss, and several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from optrial.errors import OptrialError, StudyError
from optrial.study import Study
from tests.cases.conftest import Case
from tests.cases.plain import by_optrial, by_torch, split_of
from tests.tolerance import TRAJECTORY_FLOAT64


def study(dataset: Any, model: Any, loss: Any = "mse", **more: Any) -> Study:
    problem = {
        "dataset": {"name": dataset} if isinstance(dataset, str) else dataset,
        "model": {"factory": model} if isinstance(model, str) else model,
        "loss": loss,
    }
    problem |= {key: more.pop(key) for key in ("metrics",) if key in more}
    keys = {
        "name": "ae",
        "batch_size": 64,
        "budget": {"epochs": 1},
        "seeds": 1,
        "precision": "float64",
        "optimizers": [{"rule": "adam", "lr": 0.01}],
    }
    return Study(problem=problem, **(keys | more))


def check(made: Study, loss: Any, engine: str) -> dict[str, np.ndarray]:
    dataset = made.load_data()
    run = made.plan(dataset).runs[0]
    model, losses = by_torch(run, dataset, loss, lambda p: torch.optim.Adam(p, lr=0.01))
    _, curves = by_optrial(run, dataset, engine)
    assert curves["train_loss"] == pytest.approx(losses, rel=TRAJECTORY_FLOAT64)
    inputs, targets = split_of(dataset, "test")
    with torch.no_grad():
        outputs = model(inputs)
    wanted = loss(outputs, targets).item()
    assert curves["test_loss"][-1] == pytest.approx(wanted, rel=TRAJECTORY_FLOAT64)
    for metric, function in (("mse", torch.square), ("mae", torch.abs)):
        if f"test_{metric}" in curves:
            value = function(outputs.reshape(targets.shape) - targets).mean().item()
            assert curves[f"test_{metric}"][-1] == pytest.approx(value, rel=TRAJECTORY_FLOAT64)
    return curves


@pytest.mark.parametrize("engine", ["reference", "stacked"])
@pytest.mark.parametrize(
    ("dataset", "model"),
    [
        ("ae:same", "ae:ConvAE"),
        ("ae:images", "ae:ConvAE"),
        ({"name": "ae:same", "flat": True}, "ae:AE"),
    ],
)
def test_targets_of_the_shape_of_images(case: Case, dataset: Any, model: str, engine: str) -> None:
    case("ae")
    curves = check(study(dataset, model, metrics=["mse", "mae"]), functional.mse_loss, engine)
    assert curves["test_mse"] == pytest.approx(curves["test_loss"], rel=TRAJECTORY_FLOAT64)


def flat(loss: Any) -> Any:
    """The loss of flat outputs and targets that are images."""
    return lambda outputs, targets: loss(outputs, targets.flatten(1))


def test_flat_outputs_are_compared_pixel_by_pixel(case: Case) -> None:
    case("ae")
    made = Study.from_file("ae.yaml", ["precision=float64", "optimizers[0].lr=0.01"])
    check(made, flat(functional.mse_loss), "stacked")


AUTOENCODERS = [
    *(("mse", {"kind": "mlp", "hidden": [8]}, e) for e in ("reference", "stacked", "numpy")),
    *(("bce", {"kind": "mlp", "hidden": [8]}, e) for e in ("reference", "stacked")),
    *(("mse", "ae:ConvAE", engine) for engine in ("reference", "stacked")),
]


@pytest.mark.parametrize(("loss", "model", "engine"), AUTOENCODERS)
def test_inputs_as_targets(case: Case, loss: str, model: Any, engine: str) -> None:
    case("ae")
    made = study({"name": "digits", "targets": "inputs"}, model, loss, metrics=["mse", "mae"])
    dataset = made.load_data()
    for split in dataset.splits.values():
        assert (split.inputs == split.targets).all()
        assert (split.inputs.min(), split.inputs.max()) == (0, 1)
    assert (dataset.kind, dataset.classes) == ("values", 64)
    by_name = {"mse": functional.mse_loss, "bce": functional.binary_cross_entropy_with_logits}
    check(made, flat(by_name[loss]) if model != "ae:ConvAE" else by_name[loss], engine)


@pytest.mark.parametrize(
    ("data", "loss", "says"),
    [
        ({"name": "digits"}, "cross_entropy", "the inputs are numbers, and the loss takes class"),
        ({"name": "digits", "scale": "standardize"}, "bce", "bce takes numbers from 0 to 1"),
    ],
)
def test_inputs_that_a_loss_does_not_take(data: dict[str, Any], loss: str, says: str) -> None:
    model = {"kind": "mlp", "hidden": [8]}
    with pytest.raises(OptrialError) as caught:
        study({"targets": "inputs"} | data, model, loss).plan()
    assert says in str(caught.value)


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_binary_cross_entropy_of_pixels(case: Case, engine: str) -> None:
    case("ae")
    check(study("ae:same", "ae:ConvAE", "bce"), functional.binary_cross_entropy_with_logits, engine)


OWN = '''
import torch
from torch import nn
from torch.nn import functional as F


def l1(outputs, targets): return (outputs - targets).abs().mean()


class Several(nn.Module):
    """Returns what its argument says."""

    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Linear(64, 64), what

    def forward(self, x):
        y = self.layer(x.flatten(1))
        mean, loss = y.reshape(x.shape), (y - x.flatten(1)).square().mean()
        several = {"dict": {"logits": y, "loss": loss}, "pair": (mean, y), "list": [mean]}
        one = {"nothing": None, "number": 0.5, "loss": loss}
        return (several | one | {"evaluation": mean if self.training else (mean, y)})[self.what]


class MeanLoss(nn.Module):
    """A deterministic autoencoder that returns the loss of each sample."""

    def __init__(self):
        super().__init__()
        self.e, self.d = nn.Linear(64, 4), nn.Linear(4, 64)

    def forward(self, x):
        x = x.flatten(1)
        return F.mse_loss(self.d(torch.tanh(self.e(x))), x, reduction="none").sum(-1)
'''


def messages(made: Study) -> list[str]:
    with pytest.raises(StudyError) as caught:
        made.plan()
    return [str(problem) for problem in caught.value.problems]


def own(case: Case) -> None:
    (case("ae") / "several.py").write_text(OWN)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ("dict", "returned a dict with the keys 'logits', 'loss'; a model returns one tensor"),
        ("pair", "returned a tuple of 2 (values of shape (32, 1, 8, 8), float32, values of shape"),
        ("list", "returned a list of 1 (values of shape (32, 1, 8, 8), float32); a model"),
        ("nothing", "returned None; a model returns one tensor"),
        ("number", "returned a float; a model returns one tensor"),
        ("loss", "returned outputs of shape (); they must be (32, 1, 8, 8)"),
        ("evaluation", "in evaluation mode returned a tuple of 2"),
    ],
)
@pytest.mark.parametrize("loss", ["mse", "several:l1"])
def test_outputs_of_several_kinds(case: Case, outputs: str, says: str, loss: str) -> None:
    own(case)
    made = study("ae:same", {"factory": "several:Several", "args": {"what": outputs}}, loss,
                 precision="float32")  # fmt: skip
    if (outputs, loss) == ("loss", "several:l1"):  # () against images broadcasts
        assert "shapes" in messages(made)[0] or "shape" in messages(made)[0]
        return
    (message,) = messages(made)
    assert says in message
    assert outputs == "loss" or "use loss: mean_output" in message


@pytest.mark.parametrize("engine", ["reference", "stacked"])
def test_a_model_that_computes_its_loss(case: Case, engine: str) -> None:
    own(case)

    def mean(outputs: Tensor, targets: Tensor) -> Tensor:
        del targets
        return outputs.mean()

    check(study("ae:same", "several:MeanLoss", "mean_output"), mean, engine)


def test_draws_of_a_variational_autoencoder_are_paired(case: Case) -> None:
    case("ae")
    made = study("ae:same", "ae:VAE", "mean_output", optimizers=[{"rule": "adam"}, {"rule": "sgd"}])
    dataset = made.load_data()
    first = [by_optrial(run, dataset, "reference")[1] for run in made.plan(dataset).runs]
    assert first[0]["train_loss"][0] == first[1]["train_loss"][0]
    again = by_optrial(made.plan(dataset).runs[0], dataset, "reference")[1]
    assert np.array_equal(again["train_loss"], first[0]["train_loss"])


def test_a_gan_of_one_loss_trains(case: Case) -> None:
    case("ae")
    made = study("ae:same", "ae:GAN", "mean_output", precision="float32")
    dataset = made.load_data()
    (run,) = made.plan(dataset).runs
    assert np.isfinite(by_optrial(run, dataset, "reference")[1]["test_loss"]).all()
