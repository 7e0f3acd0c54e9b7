"""The recurrent network: a sequence, one recurrent layer, a linear read-out of its last state."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from optrial.errors import Problem
from optrial.models.arguments import Count, InitializationByName, Rate
from optrial.models.initialization import Initialization
from optrial.models.recurrent import CELLS

__all__ = ["RNNArguments", "check_rnn_input", "rnn"]


class RNNArguments(BaseModel):
    """Arguments of the recurrent network.

    Attributes:
        hidden: units of the recurrent layer.
        cell: ``rnn``, h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h), or a gated one.
        dropout: probability with which a unit of the last state is dropped.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: Count = 128
    cell: Literal["rnn", "gru", "lstm"] = "rnn"
    dropout: Rate = 0.0
    initialization: InitializationByName = Initialization()


class AsSequence(nn.Module):
    """Reads (batch, time) as one feature a step, and images row by row, channels side by side."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, *input_shape) to (batch, time, features)."""
        if inputs.ndim == 2:
            return inputs.unsqueeze(2)
        return inputs if inputs.ndim == 3 else inputs.transpose(1, 2).flatten(2)


def check_rnn_input(_: RNNArguments, input_shape: tuple[int, ...]) -> list[Problem]:
    """Return what is wrong with the shape of a sample."""
    if len(input_shape) in (1, 2, 3):
        return []
    allowed = "(time,), (time, features) or images (channels, height, width)"
    way_out = "Choose another dataset, or the model mlp or logistic."
    message = f"the model rnn takes {allowed}, not samples of shape {input_shape}. {way_out}"
    return [Problem("kind", message)]


def rnn(arguments: RNNArguments, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Build a network that maps (batch, *input_shape) to (batch, classes) logits.

    Samples are (time, features), (time,) with one feature a step, or images (channels, height,
    width), which are read row by row: `height` steps of channels * width features. Dropout is there
    at rate 0 too.
    """
    features = {1: 1, 2: input_shape[-1]}.get(len(input_shape), input_shape[0] * input_shape[-1])
    return nn.Sequential(
        AsSequence(),
        CELLS[arguments.cell](features, arguments.hidden),
        nn.Dropout(arguments.dropout),
        nn.Linear(arguments.hidden, classes),
    )
