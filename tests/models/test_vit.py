"""The vision transformer against a convolution and encoder layers of PyTorch with its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optrial.models import (
    build_model,
    check_input_shape,
    make_stackable,
    matching,
    roles_of_parameters,
)
from optrial.models.vit import VisionTransformer
from tests.models.stacks import relative_error, seeded
from tests.tolerance import DRAWN_STD_OF_FEW, GRADIENT_FLOAT64

IMAGE, WIDTH, HEADS, PATCH = (3, 8, 6), 12, 3, 2


def build(shape: tuple[int, ...] = IMAGE, **arguments: Any) -> VisionTransformer:
    sizes = {"width": WIDTH, "heads": HEADS, "depth": 2, "patch": PATCH}
    model = build_model("vit", sizes | arguments, input_shape=shape, classes=5, seed=2)
    assert isinstance(model, VisionTransformer)
    return model


class Plain(nn.Module):
    """A vision transformer as it is usually written."""

    def __init__(self, positions: int, *, class_token: bool) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(WIDTH)) if class_token else None
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.positions = nn.Parameter(torch.zeros(positions, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, WIDTH), x], dim=1)
        x = self.norm(self.encoder(x + self.positions))
        logits: Tensor = self.head(x.mean(1) if self.class_token is None else x[:, 0])
        return logits

    def in_the_order_of_optrial(self) -> list[nn.Parameter]:
        first = [] if self.class_token is None else [self.class_token]
        first += [*self.patches.parameters(), self.positions]
        for layer in self.encoder.layers:
            assert isinstance(layer, nn.TransformerEncoderLayer)
            attention = layer.self_attn
            first += [*layer.norm1.parameters(), attention.in_proj_weight, attention.in_proj_bias]
            first += [*attention.out_proj.parameters(), *layer.norm2.parameters()]
            first += [*layer.linear1.parameters(), *layer.linear2.parameters()]
        return [*first, *self.norm.parameters(), *self.head.parameters()]


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_it_is_the_plain_network(pool: str) -> None:
    ours = build(pool=pool, initialization="xavier_normal").double()
    theirs = Plain(12 + (pool == "first"), class_token=pool == "first").double()
    parameters = theirs.in_the_order_of_optrial()
    for value, wanted in zip(parameters, ours.parameters(), strict=True):
        value.data.copy_(wanted.detach().view_as(value))
    x, y = seeded(0, 7, *IMAGE), torch.arange(7) % 5
    outputs = ours(x), theirs(x)
    assert relative_error(*outputs) <= GRADIENT_FLOAT64
    mine, wanted = (
        torch.autograd.grad(nn.functional.cross_entropy(logits, y), list(values))
        for logits, values in zip(outputs, (ours.parameters(), parameters), strict=True)
    )
    for one, other in zip(mine, wanted, strict=True):
        assert relative_error(one, other.view_as(one)) <= GRADIENT_FLOAT64


def test_patches_are_numbered_by_rows() -> None:
    model = build()
    image = torch.zeros(1, *IMAGE)
    image[:, :, 2, 5] = 1  # second row of patches, third of three columns
    with torch.no_grad():
        embedded = model.embedding(image) - model.embedding.bias
    assert embedded.abs().sum(-1).nonzero()[:, 1].tolist() == [5]


def test_muon_leaves_patches_positions_and_head_alone() -> None:
    """By the roles of their parameters; the matrices between are hidden ones."""
    parameters = roles_of_parameters(build(pool="first"), IMAGE)
    special = matching(["embedding", "head", "vectors"], parameters)
    hidden = [name for name in parameters if name not in special]
    assert all(name.startswith("blocks.") for name in hidden)
    assert len(hidden) == 2 * 4
    assert "embedding.weight" in special


def test_initial_weights() -> None:
    model = build(width=96, heads=4, pool="first")
    assert model.class_token is not None
    for weights in (model.embedding.weight, model.positions.weight, model.class_token):
        assert weights.std().item() == pytest.approx(0.02, rel=DRAWN_STD_OF_FEW)
    assert make_stackable(model) == 0


@pytest.mark.parametrize(
    ("arguments", "shape", "path", "message"),
    [
        ({"patch": 4}, IMAGE, "patch", "4: must divide height and width of the images, 8 x 6"),
        ({"heads": 5}, IMAGE, "heads", "5: must divide the width, 12"),
        ({}, (64,), "kind", "takes images"),
    ],
)
def test_what_does_not_fit_is_refused(
    arguments: dict[str, Any], shape: tuple[int, ...], path: str, message: str
) -> None:
    sizes = {"width": WIDTH, "heads": HEADS, "patch": PATCH}
    (problem,) = check_input_shape("vit", sizes | arguments, shape)
    assert problem.path == path
    assert message in problem.message
