"""The MLP with residual blocks and layer norm against a plain module, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optrial.models import build_model, check_model, resolve_model
from tests.models.stacks import relative_error, seeded
from tests.tolerance import GRADIENT_FLOAT64


def build(**arguments: Any) -> nn.Module:
    return build_model("mlp", arguments, input_shape=(4,), classes=3, seed=1).double()


class Plain(nn.Module):
    """Residual blocks in the order norm, activation, linear (He et al. 2016)."""

    def __init__(self, norm: type[nn.Module], *, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias)
        self.norm1, self.linear1 = norm(6), nn.Linear(6, 6, bias)
        self.norm2, self.linear2 = norm(6), nn.Linear(6, 6, bias)
        self.norm, self.last = norm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.linear1(self.norm1(x).relu())
        x = x + self.linear2(self.norm2(x).relu())
        logits: Tensor = self.last(self.norm(x).relu())
        return logits


@pytest.mark.parametrize(
    ("name", "norm"), [("layer_norm", nn.LayerNorm), ("batch_norm", nn.BatchNorm1d)]
)
def test_it_is_the_plain_network(name: str, norm: type[nn.Module]) -> None:
    ours = build(hidden=[6, 6, 6], residual=True, **{name: True})
    theirs = Plain(norm, bias=name == "layer_norm").double()
    for value, wanted in zip(theirs.parameters(), ours.parameters(), strict=True):
        value.data.copy_(wanted.detach())
    x, y = seeded(0, 7, 4), torch.arange(7) % 3
    outputs = ours(x), theirs(x)
    assert relative_error(*outputs) <= GRADIENT_FLOAT64
    mine, wanted = (
        torch.autograd.grad(nn.functional.cross_entropy(out, y), list(model.parameters()))
        for out, model in zip(outputs, (ours, theirs), strict=True)
    )
    for one, other in zip(mine, wanted, strict=True):
        assert relative_error(one, other) <= GRADIENT_FLOAT64
    assert relative_error(ours.eval()(x), theirs.eval()(x)) <= GRADIENT_FLOAT64


def test_layer_norm_comes_before_each_activation() -> None:
    names = [type(layer).__name__ for layer in build(hidden=[8], layer_norm=True).children()]
    assert names == ["Dropout", "Linear", "LayerNorm", "ReLU", "Dropout", "Linear"]


def test_blocks_have_the_parameters_of_the_plain_layers() -> None:
    shapes = [
        sorted(tuple(p.shape) for p in build(hidden=[6, 6], layer_norm=True, **more).parameters())
        for more in ({}, {"residual": True})
    ]
    assert shapes[0] == shapes[1]


def test_records_of_other_mlps_do_not_name_them() -> None:
    assert not {"residual", "layer_norm"} & resolve_model("mlp", {}).keys()
    assert resolve_model("mlp", {"hidden": [6, 6], "residual": True})["residual"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"residual": True, "hidden": [6, 7]}, "hidden is [6, 7]"),
        ({"residual": True, "hidden": []}, "hidden is []"),
        ({"batch_norm": True, "layer_norm": True}, "exclude each other"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    (problem,) = check_model("mlp", arguments)
    assert message in problem.message
