"""The small convolutional network: its layers, sizes and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from optrial.models import build_model, check_input_shape
from tests.models.stacks import relative_error, seeded
from tests.tolerance import GRADIENT_FLOAT64


def build(shape: tuple[int, ...], **arguments: Any) -> nn.Module:
    return build_model("convnet", arguments, input_shape=shape, classes=3, seed=1)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_it_is_the_plain_network(norm: str) -> None:
    groups = {"groups": 2} if norm == "group" else {}
    ours = build((2, 7, 5), widths=[4, 4], norm=norm, **groups).double()
    bias = norm == "none"

    def normed() -> nn.Module:
        return {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4)}.get(norm, nn.Identity())

    theirs = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, 1, 1, bias=bias), normed(), nn.ReLU()),
        nn.MaxPool2d(2, ceil_mode=True),
        *(nn.Conv2d(4, 4, 3, 1, 1, bias=bias), normed(), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    ).double()
    for value, wanted in zip(theirs.parameters(), ours.parameters(), strict=True):
        value.data.copy_(wanted.detach())
    x, y = seeded(0, 7, 2, 7, 5), torch.arange(7) % 3
    outputs = ours(x), theirs(x)
    assert relative_error(*outputs) <= GRADIENT_FLOAT64
    mine, wanted = (
        torch.autograd.grad(nn.functional.cross_entropy(out, y), list(model.parameters()))
        for out, model in zip(outputs, (ours, theirs), strict=True)
    )
    for one, other in zip(mine, wanted, strict=True):
        assert relative_error(one, other) <= GRADIENT_FLOAT64


def test_its_size_does_not_depend_on_the_images() -> None:
    sizes = [
        sum(p.numel() for p in build((3, size, size)).parameters()) for size in (1, 8, 32, 100)
    ]
    assert set(sizes) == {3 * 9 * 16 + 9 * 16 * 32 + 9 * 32 * 64 + 2 * (16 + 32 + 64) + 65 * 3}


def test_groups_of_every_width_are_checked() -> None:
    arguments = {"widths": [16, 20], "norm": "group"}
    (problem,) = check_input_shape("convnet", arguments, (3, 8, 8))
    assert problem.path == "groups"
    assert "20 channels: set groups to 4" in problem.message
