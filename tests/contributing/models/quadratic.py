"""A linear model of all products of two inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from optrial.models.arguments import ModelArguments, Shape

__all__ = ["QuadraticArguments"]


class Products(nn.Module):
    """Map (batch, n) to all products of two inputs, (batch, n * n)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the products."""
        return torch.einsum("bi,bj->bij", inputs, inputs).flatten(1)


class QuadraticArguments(ModelArguments):
    """The model has no arguments."""

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build a linear layer on the products."""
        count = math.prod(input_shape)
        return nn.Sequential(nn.Flatten(), Products(), nn.Linear(count * count, classes))
