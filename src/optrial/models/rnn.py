"""A recurrent network: one recurrent layer and a linear read-out of its last state."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from optrial.errors import Problem
from optrial.models.arguments import Count, InitializationByName, ModelArguments, Rate, Shape
from optrial.models.initialization import Initialization, initialize
from optrial.models.layers.recurrent import CELLS

__all__ = ["RNNArguments"]


class AsSequence(nn.Module):
    """Reads samples as sequences.

    Samples (time,) have one feature per step; images are read row by row, their channels side by
    side.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) to (batch, time, features)."""
        if inputs.ndim == 2:
            return inputs.unsqueeze(2)
        return inputs if inputs.ndim == 3 else inputs.transpose(1, 2).flatten(2)


def _features(input_shape: Shape) -> int:
    """Return the number of features per step of a sequence."""
    return {1: 1, 2: input_shape[-1]}.get(len(input_shape), input_shape[0] * input_shape[-1])


class RNNArguments(ModelArguments):
    """Arguments of the recurrent network.

    Attributes:
        hidden: units of the recurrent layer.
        cell: ``rnn``, h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h), or a gated one.
        dropout: probability of dropping a unit of the last state.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    hidden: Count = 128
    cell: Literal["rnn", "gru", "lstm"] = "rnn"
    dropout: Rate = 0.0
    initialization: InitializationByName = Initialization()

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        if len(input_shape) in (1, 2, 3):
            return []
        allowed = "(time,), (time, features) or images (channels, height, width)"
        way_out = "Choose another dataset, or the model mlp or logistic."
        message = f"the model rnn takes {allowed}, not samples of shape {input_shape}. {way_out}"
        return [Problem("kind", message)]

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases."""
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[self.cell]
        return gates * self.hidden * (self.hidden + _features(input_shape))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build a network that maps (batch, *input_shape) to (batch, classes) logits.

        Samples are (time, features), (time,) with one feature per step, or images (channels,
        height, width), which are read as `height` steps of channels * width features. The dropout
        layer exists at rate 0 too.
        """
        features = _features(input_shape)
        model = nn.Sequential(
            AsSequence(),
            CELLS[self.cell](features, self.hidden),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden, classes),
        )
        return initialize(model, self.initialization)
