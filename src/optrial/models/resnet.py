"""Residual networks for small images (He et al. 2016, Deep residual learning)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.errors import Problem
from optrial.models.arguments import Count, InitializationByName, Shape
from optrial.models.convnet import GlobalMean
from optrial.models.images import NormedArguments, channel_norm, image_problems
from optrial.models.initialization import Initialization, initialize

__all__ = ["ResNet", "ResNetArguments"]

_STAGES = {18: 4, 20: 3, 32: 3, 44: 3, 56: 3, 110: 3}
"""Number of layers -> stages, each with twice the channels of the one before."""


class ZeroPadded(nn.Module):
    """A shortcut without parameters: every second pixel, and channels of zeros (option A).

    Args:
        channels: channels of zeros to add.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to more channels and half the height and width."""
        return functional.pad(images[..., ::2, ::2], (0, 0, 0, 0, 0, self.channels))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose output is added to a shortcut.

    Args:
        options: arguments of the model.
        channels: channels of the inputs.
        width: channels of the outputs; if there are more, height and width are halved.
    """

    def __init__(self, options: ResNetArguments, channels: int, width: int) -> None:
        super().__init__()
        stride = 1 if channels == width else 2
        bias = options.norm == "none"
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=bias)
        self.first_norm = nn.Sequential(*channel_norm(options, width))
        self.first_activation = nn.ReLU()
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.second_norm = nn.Sequential(*channel_norm(options, width))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 and options.projects:
            projection = nn.Conv2d(channels, width, 1, stride, bias=bias)
            self.shortcut = nn.Sequential(projection, *channel_norm(options, width))
        elif stride > 1:
            self.shortcut = ZeroPadded(width - channels)
        self.activation = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, width, ...)."""
        hidden = self.first_activation(self.first_norm(self.first(inputs)))
        added = self.second_norm(self.second(hidden)) + self.shortcut(inputs)
        outputs: Tensor = self.activation(added)
        return outputs


class ResNet(nn.Module):
    """A 3x3 convolution, stages of residual blocks, the mean of each channel and a linear layer.

    Args:
        options: arguments of the model.
        channels: channels of the images.
        classes: number of outputs.
    """

    def __init__(self, options: ResNetArguments, channels: int, classes: int) -> None:
        super().__init__()
        widths = options.widths
        first = widths[0]
        self.stem = nn.Conv2d(channels, first, 3, padding=1, bias=options.norm == "none")
        self.stem_norm = nn.Sequential(*channel_norm(options, first))
        self.stem_activation = nn.ReLU()
        self.blocks = nn.Sequential(
            *(ResidualBlock(options, *pair) for pair in pairwise((first, *widths)))
        )
        self.pool = GlobalMean()
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, classes) logits."""
        values = self.stem_activation(self.stem_norm(self.stem(images)))
        outputs: Tensor = self.head(self.pool(self.blocks(values)))
        return outputs


class ResNetArguments(NormedArguments):
    """Arguments of the residual network.

    Attributes:
        layers: number of layers. 20, 32, 44, 56 and 110 have three stages and shortcuts without
            parameters (section 4.2); 18 has four stages and projections, as in table 1 of the
            paper, and begins with a 3x3 convolution without pooling, for small images.
        width: channels of the first stage; by default 16, and 64 with 18 layers.
        initialization: a scheme by name; by default ``kaiming_normal``. Without a norm, the weights
            of the second convolution of each block are divided by the square root of the number of
            blocks, unless the scheme is ``torch_default``.
    """

    layers: Literal[18, 20, 32, 44, 56, 110] = 20
    width: Count | None = None
    initialization: InitializationByName = Initialization(name="kaiming_normal")

    @property
    def projects(self) -> bool:
        """True if shortcuts to more channels have parameters."""
        return self.layers == 18

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each block."""
        first = self.width or (64 if self.layers == 18 else 16)
        stages = _STAGES[self.layers]
        blocks = (self.layers - 2) // (2 * stages)
        return tuple(first * 2**stage for stage in range(stages) for _ in range(blocks))

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        return image_problems("resnet", input_shape) + self.check_groups(self.widths)

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights of all 3x3 convolutions."""
        first, *_ = widths = self.widths
        blocks = sum(9 * width * (before + width) for before, width in pairwise((first, *widths)))
        return 9 * input_shape[0] * first + blocks

    def build(self, input_shape: Shape, classes: int) -> ResNet:
        """Build a residual network; see `ResNet`."""
        model = initialize(ResNet(self, input_shape[0], classes), self.initialization)
        if self.norm == "none" and self.initialization.name != "torch_default":
            _scale_second_layers(model)
        return model


@torch.no_grad()
def _scale_second_layers(model: ResNet) -> None:
    """Divide the weights of convolutions whose outputs are added, so that their sum stays small."""
    for block in model.blocks:
        assert isinstance(block, ResidualBlock)
        block.second.weight /= math.sqrt(len(model.blocks))
