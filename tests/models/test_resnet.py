"""Residual networks against plain modules with the same weights, and their published sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.errors import StudyError
from optrial.models import build_model, check_input_shape, check_model
from optrial.models.resnet import ResNet
from tests.models.stacks import relative_error, seeded
from tests.small import small_plan
from tests.tolerance import DRAWN_STD, GRADIENT_FLOAT64

IMAGE = (3, 8, 6)


def build(shape: tuple[int, ...] = IMAGE, **arguments: Any) -> ResNet:
    model = build_model("resnet", arguments, input_shape=shape, classes=10, seed=3)
    assert isinstance(model, ResNet)
    return model


def plain_norm(norm: str, channels: int) -> nn.Module:
    layers = {"batch": nn.BatchNorm2d(channels), "none": nn.Identity()}
    return layers[norm] if norm in layers else nn.GroupNorm(2, channels)


class PlainBlock(nn.Module):
    """The basic block of torchvision, with option A or a projection."""

    def __init__(self, before: int, planes: int, norm: str, projects: bool) -> None:
        super().__init__()
        self.stride = 2 if planes != before else 1
        bias = norm == "none"
        self.conv1 = nn.Conv2d(before, planes, 3, self.stride, 1, bias=bias)
        self.bn1 = plain_norm(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=bias)
        self.bn2 = plain_norm(norm, planes)
        self.downsample: nn.Module | None = None
        if self.stride == 2 and projects:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, planes, 1, 2, bias=bias), plain_norm(norm, planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.downsample is not None:
            return functional.relu(out + self.downsample(x))
        if self.stride == 2:
            x = functional.avg_pool2d(x, 1, 2)
            x = torch.cat([x, torch.zeros_like(x)], dim=1)
        return functional.relu(out + x)


class PlainResNet(nn.Module):
    def __init__(self, layers: int, width: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=norm == "none")
        self.bn1 = plain_norm(norm, width)
        stages, per_stage = (4, 2) if layers == 18 else (3, (layers - 2) // 6)
        blocks, before = [], width
        for stage in range(stages):
            for _ in range(per_stage):
                blocks.append(PlainBlock(before, width * 2**stage, norm, layers == 18))
                before = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("layers", [18, 20])
def test_it_is_the_plain_network(layers: int, norm: str) -> None:
    groups = {"groups": 2} if norm == "group" else {}
    ours = build(layers=layers, width=4, norm=norm, **groups).double()
    theirs = PlainResNet(layers, 4, norm).double()
    pairs = zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True)
    for value, wanted in pairs:
        value.copy_(wanted)
    y = torch.arange(7) % 10
    for step in range(2):
        x = seeded(step, 7, *IMAGE)
        outputs = [model(x) for model in (ours, theirs)]
        assert relative_error(*outputs) <= GRADIENT_FLOAT64
        gradients = [
            torch.autograd.grad(functional.cross_entropy(out, y), list(model.parameters()))
            for out, model in zip(outputs, (ours, theirs), strict=True)
        ]
        for one, other in zip(*gradients, strict=True):
            assert relative_error(one, other) <= GRADIENT_FLOAT64
    x = seeded(9, 7, *IMAGE)  # in evaluation, by the running statistics of both steps
    assert relative_error(ours.eval()(x), theirs.eval()(x)) <= GRADIENT_FLOAT64


@pytest.mark.parametrize(
    ("layers", "parameters"),
    [(18, 11_173_962), (20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)],
)
def test_sizes_are_the_published_ones(layers: int, parameters: int) -> None:
    """He et al. 2016, table 6 (0.27, 0.46, 0.66 and 0.85 million); 11.17 million for 18 layers."""
    with torch.device("meta"):
        model = build((3, 32, 32), layers=layers)
    assert sum(value.numel() for value in model.parameters()) == parameters
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
    assert len(convolutions) + 1 == layers


def test_outputs_keep_their_size_without_a_norm() -> None:
    x = seeded(0, 50, 3, 8, 8).float()
    with torch.no_grad():
        spreads = [build(layers=n, norm="none", width=8)(x).std().item() for n in (20, 110)]
    assert all(0.1 < spread < 10 for spread in spreads)


def test_default_weights_are_those_of_he() -> None:
    block = build(width=16).blocks[2]
    assert block.second.weight.std().item() == pytest.approx(math.sqrt(2 / 144), rel=DRAWN_STD)


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"layers": 19}, "layers", "18"),
        ({"norm": "layer"}, "norm", "batch, group, none"),
        ({"groups": 4}, "", "groups applies to norm: group"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], path: str, message: str) -> None:
    (problem,) = check_model("resnet", arguments)
    assert problem.path == path
    assert message in problem.message


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    for width in (6, 8):  # not a multiple of 8; one channel per group
        (problem,) = check_input_shape("resnet", {"norm": "group", "width": width}, (3, 8, 8))
        assert problem.path == "groups"
        assert f"{width} channels" in problem.message
    assert not check_input_shape("resnet", {"norm": "group"}, (3, 8, 8))
    (problem,) = check_input_shape("resnet", {}, (64,))
    assert "takes images" in problem.message


def test_arguments_that_belong_together_are_checked_together() -> None:
    model = {"kind": "resnet", "width": 4, "norm": "group", "groups": 2}
    plan, _ = small_plan(problem={"dataset": "digits", "model": model})
    assert plan.runs[0].model_arguments["groups"] == 2
    with pytest.raises(StudyError, match="groups applies to norm: group") as refusal:
        small_plan(problem={"dataset": "digits", "model": model | {"norm": "batch"}})
    assert len(refusal.value.problems) == 1
