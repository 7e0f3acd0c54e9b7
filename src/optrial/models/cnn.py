"""A convolutional network like VGG (Simonyan and Zisserman 2015, configuration A)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field, StrictBool, field_validator
from torch import nn

from optrial.errors import Problem
from optrial.models.arguments import (
    MOST_LAYERS,
    Bias,
    Count,
    InitializationByName,
    ModelArguments,
    Rate,
    Shape,
    has_bias,
)
from optrial.models.images import image_problems
from optrial.models.initialization import Initialization, initialize

__all__ = ["CNNArguments"]

_VGG_DEPTH, _VGG_POOLS = 8, (1, 2, 4, 6, 8)


class CNNArguments(ModelArguments):
    """Arguments of the convolutional network.

    Attributes:
        widths: channels of each 3x3 convolution.
        pool_after: the convolutions, counted from 1, that 3x3 max pooling with stride 2 follows. By
            default 1, 2, 4, 6 and 8 of 8 convolutions, in proportion for other depths.
        batch_norm: whether batch norm follows each convolution.
        dropout: probability of dropping an input of the last, linear layer.
        bias: whether the convolutions and the linear layer have a bias; by default all except those
            before batch norm.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=1, max_length=MOST_LAYERS)] = (
        *(64, 128, 256, 256),
        *(512, 512, 512, 512),
    )
    pool_after: tuple[Count, ...] | None = None
    batch_norm: StrictBool = True
    dropout: Rate = 0.0
    bias: Bias = None
    initialization: InitializationByName = Initialization()

    @field_validator("pool_after")
    @classmethod
    def _ascending(cls, pool_after: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if any(first >= second for first, second in pairwise(pool_after or ())):
            raise ValueError("must be in ascending order, without repetition")
        return pool_after

    @property
    def pooled(self) -> tuple[int, ...]:
        """The convolutions that pooling follows, counted from 1, after defaults."""
        if self.pool_after is not None:
            return self.pool_after
        depth = len(self.widths)
        return tuple(dict.fromkeys(math.ceil(depth * pool / _VGG_DEPTH) for pool in _VGG_POOLS))

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape, or for its `pool_after`."""
        problems = image_problems("cnn", input_shape)
        depth = len(self.widths)
        if beyond := [number for number in self.pooled if number > depth]:
            reason = f"{beyond}: there are {depth} convolutions, one for each of 'widths'"
            problems.append(Problem("pool_after", f"{reason}; give numbers from 1 to {depth}."))
        return problems

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases."""
        return sum(9 * a * b for a, b in pairwise((input_shape[0], *self.widths)))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build a CNN that maps (batch, channels, height, width) to (batch, classes) logits.

        The layers are registered from input to output. For each width: a 3x3 convolution with
        padding 1, batch norm (if asked for), ReLU and, after the convolutions of `pool_after`, 3x3
        max pooling with stride 2 and padding 1, which halves height and width, rounding up. Then
        flatten, dropout (at rate 0 too) and a linear layer.
        """
        channels, *size = input_shape
        layers: list[nn.Module] = []
        bias = has_bias(self.bias, normalised=self.batch_norm)
        for number, width in enumerate(self.widths, start=1):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=bias))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            if number in self.pooled:
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
                size = [math.ceil(length / 2) for length in size]
            channels = width
        last_bias = has_bias(self.bias, normalised=False)
        linear = nn.Linear(channels * math.prod(size), classes, last_bias)
        model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(self.dropout), linear)
        return initialize(model, self.initialization)
