"""Initialisation schemes: how the weights of a new model are drawn.

All draws come from torch's global generator, as in `torch.nn`, so that a plain script that seeds,
builds and initialises in this order gets the same weights.

n_in and n_out are the fan-in and fan-out of a weight matrix: inputs and outputs of a linear layer;
channels times the area of the kernel, in and out, of a convolution. In a recurrent layer the matrix
of each gate is drawn separately: from features to hidden units for input weights, from hidden units
to hidden units for recurrent weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from optrial.models.layers.recurrent import Recurrent

__all__ = ["Initialization", "Scheme", "initialize"]

Scheme = Literal[
    "torch_default",
    "xavier_normal",
    "xavier_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "kaiming_normal_fan_out",
    "normal",
    "fan_in_normal",
]

"""Names of initialisation schemes:

- ``torch_default``: the default of `torch.nn`: weights and biases uniform within 1/sqrt(n_in), in
  recurrent layers within 1/sqrt(hidden).
- ``xavier_normal``: N(0, 2/(n_in + n_out)), zero bias (Glorot and Bengio 2010).
- ``xavier_uniform``: uniform within sqrt(6/(n_in + n_out)), zero bias (Glorot and Bengio 2010).
- ``kaiming_normal``: N(0, 2/n_in), zero bias (He et al. 2015, for ReLU).
- ``kaiming_uniform``: uniform within sqrt(6/n_in), zero bias (He et al. 2015, for ReLU).
- ``kaiming_normal_fan_out``: N(0, 2/n_out) for convolutions (He et al. 2015, for ReLU), N(0,
  2/(n_in + n_out)) for other layers (Glorot and Bengio 2010), zero bias.
- ``normal``: N(0, std^2), zero bias; needs `std`.
- ``fan_in_normal``: N(0, 1/n_in), zero bias.
"""


class Initialization(BaseModel):
    """An initialisation scheme.

    Attributes:
        name: the scheme.
        std: standard deviation of `normal`; None for the other schemes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Scheme = "torch_default"
    std: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None

    def model_post_init(self, _: object) -> None:
        """Refuse a `std` that would be ignored, and a `normal` without one."""
        if (self.name == "normal") != (self.std is not None):
            raise ValueError("std applies only to the initialization 'normal'")


Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def initialize(model: Model, initialization: Initialization) -> Model:
    """Draw the weights of linear, convolutional and recurrent layers, in place; return the model.

    Layers are drawn in the order in which they were registered. Batch norm keeps its ones and
    zeros.
    """
    if initialization.name == "torch_default":
        return model
    for layer in model.modules():
        if weights := _weights(layer):
            for weight in weights:
                _draw(weight, initialization)
            for parameter in layer.parameters(recurse=False):
                if parameter.ndim == 1:
                    nn.init.zeros_(parameter)
    return model


def _weights(layer: nn.Module) -> Sequence[torch.Tensor]:
    """Return the weight matrices or kernels of a single layer, in the order of its parameters."""
    match layer:
        case nn.Linear() | nn.Conv2d():
            return [layer.weight]
        case nn.ConvTranspose2d():
            return [layer.weight.transpose(0, 1)]  # outputs first, as in a convolution
        case Recurrent():
            return [*layer.weight_hx.chunk(layer.gates), *layer.weight_hh.chunk(layer.gates)]
        case _:
            return []


def _draw(weight: torch.Tensor, initialization: Initialization) -> None:
    """Fill a weight of shape (n_out, n_in), or (channels out, channels in, height, width)."""
    match initialization.name:
        case "xavier_normal":
            nn.init.xavier_normal_(weight)
        case "xavier_uniform":
            nn.init.xavier_uniform_(weight)
        case "kaiming_normal":
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        case "kaiming_uniform":
            nn.init.kaiming_uniform_(weight, nonlinearity="relu")
        case "kaiming_normal_fan_out" if weight.ndim > 2:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        case "kaiming_normal_fan_out":
            nn.init.xavier_normal_(weight)
        case "normal":
            nn.init.normal_(weight, std=initialization.std or 0.0)
        case "fan_in_normal":
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
