"""Initialisation schemes: how the weights of a new model are drawn.

All draws come from torch's global generator, as `torch.nn` itself does it, so that a plain script
that seeds, builds and initialises in this order gets the same weights.

n_in and n_out are what one weight matrix maps from and to: inputs and outputs of a linear layer;
channels times the area of the kernel, in and out, of a convolution; features and hidden units of a
recurrent layer's input weights, hidden units twice of its recurrent weights, where the matrix of
each gate is drawn by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from optrial.models.recurrent import Recurrent

__all__ = ["INITIALIZATIONS", "Initialization", "initialize"]

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

INITIALIZATIONS: dict[Scheme, str] = {
    "torch_default": "what torch.nn draws: uniform within 1/sqrt(n_in), of recurrent layers within "
    "1/sqrt(hidden), for weights and biases",
    "xavier_normal": "N(0, 2/(n_in + n_out)), zero bias (Glorot and Bengio 2010)",
    "xavier_uniform": "uniform within sqrt(6/(n_in + n_out)), zero bias (Glorot and Bengio 2010)",
    "kaiming_normal": "N(0, 2/n_in), zero bias (He et al. 2015, for ReLU)",
    "kaiming_uniform": "uniform within sqrt(6/n_in), zero bias (He et al. 2015, for ReLU)",
    "kaiming_normal_fan_out": "N(0, 2/n_out) for convolutions (He et al. 2015, for ReLU), "
    "N(0, 2/(n_in + n_out)) for other layers (Glorot and Bengio 2010), zero bias",
    "normal": "N(0, std^2), zero bias; std is required",
    "fan_in_normal": "N(0, 1/n_in), that is standard deviation 1/sqrt(n_in), zero bias",
}


class Initialization(BaseModel):
    """A scheme by name; `std` is the standard deviation for `normal` and goes with no other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Scheme = "torch_default"
    std: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = None

    def model_post_init(self, _: object) -> None:
        """Refuse a `std` that would be ignored, and a `normal` without one."""
        if (self.name == "normal") != (self.std is not None):
            raise ValueError("std goes with the initialization 'normal', and only with it")


@torch.no_grad()
def initialize(model: nn.Module, initialization: Initialization) -> None:
    """Draw the weights of all layers anew, in the order in which they were registered.

    The layers are linear, convolutional and recurrent ones; batch norm keeps its ones and zeros.
    """
    if initialization.name == "torch_default":
        return
    for layer in model.modules():
        if weights := _weights(layer):
            for weight in weights:
                _draw(weight, initialization)
            for parameter in layer.parameters(recurse=False):
                if parameter.ndim == 1:
                    nn.init.zeros_(parameter)


def _weights(layer: nn.Module) -> Sequence[torch.Tensor]:
    """The weight matrices and kernels of a layer's own, in the order of its parameters."""
    match layer:
        case nn.Linear() | nn.Conv2d():
            return [layer.weight]
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
