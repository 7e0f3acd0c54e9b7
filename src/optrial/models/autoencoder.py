"""An autoencoder: a network that passes its inputs through a narrow code."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import nn

from optrial.errors import Problem
from optrial.models.arguments import MOST_LAYERS, Count, InitializationByName, ModelArguments, Shape
from optrial.models.images import image_problems
from optrial.models.initialization import Initialization, initialize
from optrial.models.mlp import ACTIVATIONS, Activation

__all__ = ["AutoencoderArguments"]

_Sizes = Annotated[tuple[Count, ...], Field(max_length=MOST_LAYERS)]


class AutoencoderArguments(ModelArguments):
    """Arguments of the autoencoder.

    Attributes:
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse.
        code: units of the code.
        widths: channels of 3x3 convolutions of stride 2 before the hidden layers, for images; the
            decoder ends with as many transposed convolutions.
        activation: activation function after each layer except the code and the outputs.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    hidden: _Sizes = (128,)
    code: Count = 16
    widths: _Sizes = ()
    activation: Activation = "relu"
    initialization: InitializationByName = Initialization()

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        return image_problems("autoencoder with widths", input_shape) if self.widths else []

    def check_outputs(self, input_shape: Shape, outputs: int) -> list[Problem]:
        """Return why the model cannot predict so many values per sample: it predicts its inputs."""
        if outputs == math.prod(input_shape):
            return []
        inputs = math.prod(input_shape)
        reason = f"the model autoencoder predicts its {inputs} inputs, and targets need {outputs}"
        way_out = "say targets: inputs of the dataset, and a loss such as mse"
        return [Problem("kind", f"{reason} outputs; {way_out}.")]

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights of the linear layers of the encoder."""
        sizes = (math.prod(self._encoded(input_shape)), *self.hidden, self.code)
        return sum(a * b for a, b in pairwise(sizes))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build a network that maps (batch, *input_shape) to outputs of the same shape.

        The encoder is registered before the decoder. The last layer has no activation, so outputs
        are values for ``mse``, or logits for ``bce``.
        """
        del classes  # those of the inputs
        shapes = self._shapes(input_shape)
        encoder = [
            layer
            for (channels, *_), (width, *_) in pairwise(shapes)
            for layer in (nn.Conv2d(channels, width, 3, 2, padding=1), self._activation())
        ]
        sizes = (math.prod(shapes[-1]), *self.hidden, self.code)
        encoder += [nn.Flatten()] * (len(input_shape) > 1) + self._linear(sizes)
        decoder = self._linear(sizes[::-1])
        if len(input_shape) > 1:
            decoder.append(nn.Unflatten(1, shapes[-1]))
        for (channels, *_), (width, *size) in pairwise(shapes[::-1]):
            rows, columns = (1 - length % 2 for length in size)
            layer = nn.ConvTranspose2d(channels, width, 3, 2, 1, output_padding=(rows, columns))
            decoder += [self._activation(), layer]
        model = nn.Sequential(nn.Sequential(*encoder), nn.Sequential(*decoder))
        return initialize(model, self.initialization)

    def _activation(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def _linear(self, sizes: tuple[int, ...]) -> list[nn.Module]:
        """Return linear layers with activations between them."""
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [self._activation()] * bool(layers) + [nn.Linear(before, after)]
        return layers

    def _shapes(self, input_shape: Shape) -> list[Shape]:
        """Return the shapes before and after each convolution."""
        shapes = [input_shape]
        for width in self.widths:
            _, *size = shapes[-1]
            shapes.append((width, *(math.ceil(length / 2) for length in size)))
        return shapes

    def _encoded(self, input_shape: Shape) -> Shape:
        """Return the shape after the convolutions."""
        return self._shapes(input_shape)[-1]
