"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, model_validator
from torch import Tensor, nn

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


class Residual(nn.Sequential):
    """Layers whose outputs are added to their inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map (batch, units) to (batch, units)."""
        outputs: Tensor = input + super().forward(input)  # type: ignore[no-untyped-call]
        return outputs


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
        layer_norm: the same with layer norm.
        residual: whether each hidden layer after the first is a block whose output is added to its
            inputs; see `build`.
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
    # Records leave them out where they are false.
    layer_norm: Annotated[StrictBool, Field(exclude_if=lambda chosen: not chosen)] = False
    residual: Annotated[StrictBool, Field(exclude_if=lambda chosen: not chosen)] = False
    initialization: InitializationByName = Initialization()

    @model_validator(mode="before")
    @classmethod
    def _default_bias(cls, arguments: Any) -> Any:
        """Write out that all layers have a bias if there is no batch norm."""
        return {"bias": None if arguments.get("batch_norm") else True} | arguments

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.batch_norm and self.layer_norm:
            raise ValueError("batch_norm and layer_norm exclude each other; choose one")
        if self.residual and len(set(self.hidden)) != 1:
            raise ValueError(
                f"residual needs hidden layers of equal size, such as [64, 64, 64], and hidden is "
                f"{list(self.hidden)}"
            )
        return self

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases."""
        return sum(a * b for a, b in pairwise((math.prod(input_shape), *self.hidden)))

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build an MLP that maps (batch, *input_shape) to (batch, classes) logits.

        The layers are registered from input to output: flatten, input dropout, for each hidden
        layer linear, norm (if asked for), activation and dropout, and a last linear layer.
        Dropout layers exist at rate 0 too, so that masks have the same numbers at every rate; only
        that of the outputs, the last one, does not.

        With residual blocks, in the order of He et al. 2016 (Identity mappings, figure 4e): a
        linear layer; for each further hidden layer a block
        x + linear(dropout(activation(norm(x)))); norm, activation, dropout and the last linear
        layer. Layers and parameters are as many as without.
        """
        layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
        layers.append(nn.Dropout(self.input_dropout))
        bias = has_bias(self.bias, normalised=self.batch_norm)
        width = math.prod(input_shape)
        for number, units in enumerate(self.hidden):
            linear = nn.Linear(width, units, bias)
            if self.residual and number:
                layers.append(Residual(*self._activated(units), linear))
            else:
                layers.append(linear)
            if not self.residual or number == len(self.hidden) - 1:
                layers += self._activated(units)
            width = units
        layers.append(nn.Linear(width, classes, has_bias(self.bias, normalised=False)))
        if self.output_dropout:
            layers.append(nn.Dropout(self.output_dropout))
        return initialize(nn.Sequential(*layers), self.initialization)

    def _activated(self, units: int) -> list[nn.Module]:
        """Return the layers that follow a hidden linear layer."""
        norms: list[nn.Module] = [nn.BatchNorm1d(units)] if self.batch_norm else []
        norms += [nn.LayerNorm(units)] if self.layer_norm else []
        return [*norms, ACTIVATIONS[self.activation](), nn.Dropout(self.dropout)]
