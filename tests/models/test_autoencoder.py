"""Autoencoders against plain modules with the same weights, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from optrial.errors import StudyError
from optrial.models import build_model, check_input_shape
from optrial.study import Study
from tests.models.stacks import relative_error, seeded
from tests.tolerance import DRAWN_STD, GRADIENT_FLOAT64


def build(shape: tuple[int, ...], **arguments: Any) -> nn.Module:
    values = torch.Size(shape).numel()
    return build_model("autoencoder", arguments, input_shape=shape, classes=values, seed=1)


def dense() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)),
        *(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5)),
    )


def convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(4 * 2 * 2, 6), nn.ReLU(), nn.Linear(6, 2)),
        *(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 16), nn.Unflatten(1, (4, 2, 2)), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 3, 3, 2, 1, (1, 0)), nn.ReLU()),
        nn.ConvTranspose2d(3, 2, 3, 2, 1, (0, 1)),
    )


@pytest.mark.parametrize(
    ("shape", "arguments", "plain"),
    [
        ((5,), {"hidden": [8], "code": 2}, dense),
        ((2, 7, 6), {"hidden": [6], "code": 2, "widths": [3, 4]}, convolutional),
    ],
    ids=["dense", "convolutional"],
)
def test_it_is_the_plain_network(
    shape: tuple[int, ...], arguments: dict[str, Any], plain: Any
) -> None:
    ours, theirs = build(shape, **arguments).double(), plain().double()
    for value, wanted in zip(theirs.parameters(), ours.parameters(), strict=True):
        value.data.copy_(wanted.detach())
    x = seeded(0, 6, *shape)
    outputs = ours(x), theirs(x)
    assert outputs[0].shape == x.shape
    assert relative_error(*outputs) <= GRADIENT_FLOAT64
    mine, wanted = (
        torch.autograd.grad(((out - x) ** 2).mean(), list(model.parameters()))
        for out, model in zip(outputs, (ours, theirs), strict=True)
    )
    for one, other in zip(mine, wanted, strict=True):
        assert relative_error(one, other) <= GRADIENT_FLOAT64


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 9), (3, 8, 8), (2, 28, 28)])
def test_images_keep_their_size(shape: tuple[int, ...]) -> None:
    model = build(shape, widths=[4, 4, 4], hidden=[], initialization="kaiming_normal")
    assert model(torch.zeros(2, *shape)).shape == (2, *shape)


def test_the_spread_of_transposed_convolutions_is_that_of_their_inputs() -> None:
    model = build((1, 8, 8), widths=[8, 200], initialization="fan_in_normal")
    layer = next(m for m in model.modules() if isinstance(m, nn.ConvTranspose2d))
    spread = layer.weight.std().item()
    assert spread == pytest.approx((9 * 200) ** -0.5, rel=DRAWN_STD)


def study(**dataset: Any) -> Study:
    return Study(
        problem={
            "dataset": {"name": "digits", **dataset},
            "model": {"kind": "autoencoder", "hidden": [8], "code": 2},
            "loss": "mse",
        },
        budget={"steps": 2},
        optimizers=[{"rule": "adam", "lr": 0.001}],
    )


def test_targets_must_be_the_inputs() -> None:
    assert study(targets="inputs").plan().runs
    with pytest.raises(StudyError, match="say targets: inputs"):
        study().plan()
    arguments = {"widths": [4]}
    (problem,) = check_input_shape("autoencoder", arguments, (64,))
    assert "takes images" in problem.message
