"""A small convolutional network whose size does not depend on that of the images."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from optrial.errors import Problem
from optrial.models.arguments import (
    MOST_LAYERS,
    Count,
    InitializationByName,
    Rate,
    Shape,
)
from optrial.models.images import NormedArguments, channel_norm, image_problems
from optrial.models.initialization import Initialization, initialize

__all__ = ["ConvNetArguments", "GlobalMean"]


class GlobalMean(nn.Module):
    """Averages each channel over all pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels)."""
        return images.mean((-2, -1))


class ConvNetArguments(NormedArguments):
    """Arguments of the small convolutional network.

    Attributes:
        widths: channels of each 3x3 convolution.
        dropout: probability of dropping an input of the last, linear layer.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MOST_LAYERS)] = (16, 32, 64)
    dropout: Rate = 0.0
    initialization: InitializationByName = Initialization()

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        return image_problems("convnet", input_shape) + self.check_groups(self.widths)

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases."""
        return sum(9 * a * b for a, b in pairwise((input_shape[0], *self.widths)))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build a network that maps (batch, channels, height, width) to (batch, classes) logits.

        For each width: a 3x3 convolution with padding 1, the norm, ReLU and, between two widths,
        2x2 max pooling, which halves height and width, rounding up. Then the mean of each channel,
        dropout (at rate 0 too) and a linear layer. Convolutions before a norm have no bias.
        """
        layers: list[nn.Module] = []
        bias = self.norm == "none"
        for number, (channels, width) in enumerate(pairwise((input_shape[0], *self.widths))):
            layers += [nn.MaxPool2d(2, ceil_mode=True)] * (number > 0)
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=bias),
                *channel_norm(self, width),
                nn.ReLU(),
            ]
        head = nn.Linear(self.widths[-1], classes)
        model = nn.Sequential(*layers, GlobalMean(), nn.Dropout(self.dropout), head)
        return initialize(model, self.initialization)
