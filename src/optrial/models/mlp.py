"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, model_validator
from torch import nn

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
from optrial.models.initialization import Initialization, initialize

__all__ = ["ACTIVATIONS", "Activation", "MLPArguments"]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


Activation = Literal["relu", "leaky_relu", "elu", "silu", "gelu", "tanh", "sigmoid", "identity"]


class MLPArguments(ModelArguments):
    """Arguments of the multi-layer perceptron.

    Attributes:
        hidden: units of each hidden layer; empty for logistic regression.
        activation: activation function after each hidden layer.
        dropout: probability of dropping the output of a hidden unit.
        input_dropout: probability of dropping an input.
        output_dropout: probability of dropping an output (a logit).
        bias: whether the linear layers have a bias; by default all except those before batch norm.
        batch_norm: whether batch norm follows each hidden linear layer, before the activation.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    hidden: Annotated[tuple[Count, ...], Field(max_length=MOST_LAYERS)] = (100,)
    activation: Activation = "relu"
    dropout: Rate = 0.0
    input_dropout: Rate = 0.0
    # Records leave it out at rate 0, where there is no such layer.
    output_dropout: Annotated[Rate, Field(exclude_if=lambda rate: rate == 0)] = 0.0
    bias: Bias = None
    batch_norm: StrictBool = False
    initialization: InitializationByName = Initialization()

    @model_validator(mode="before")
    @classmethod
    def _default_bias(cls, arguments: Any) -> Any:
        """Write out that all layers have a bias if there is no batch norm."""
        return {"bias": None if arguments.get("batch_norm") else True} | arguments

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases."""
        return sum(a * b for a, b in pairwise((math.prod(input_shape), *self.hidden)))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build an MLP that maps (batch, *input_shape) to (batch, classes) logits.

        The layers are registered from input to output: flatten, input dropout, for each hidden
        layer linear, batch norm (if asked for), activation and dropout, and a last linear layer.
        Dropout layers exist at rate 0 too, so that masks have the same numbers at every rate; only
        that of the outputs, the last one, does not.
        """
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
        layers.append(nn.Dropout(self.input_dropout))
        width = math.prod(input_shape)
        for units in self.hidden:
            layers.append(nn.Linear(width, units, has_bias(self.bias, normalised=self.batch_norm)))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(units))
            layers += [ACTIVATIONS[self.activation](), nn.Dropout(self.dropout)]
            width = units
        layers.append(nn.Linear(width, classes, has_bias(self.bias, normalised=False)))
        if self.output_dropout:
            layers.append(nn.Dropout(self.output_dropout))
        return initialize(nn.Sequential(*layers), self.initialization)
