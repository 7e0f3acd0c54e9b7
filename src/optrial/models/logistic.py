"""Multinomial logistic regression."""

from __future__ import annotations

import math

from pydantic import StrictBool
from torch import nn

from optrial.models.arguments import InitializationByName, ModelArguments, Shape
from optrial.models.initialization import Initialization, initialize

__all__ = ["LogisticArguments"]


class LogisticArguments(ModelArguments):
    """Arguments of multinomial logistic regression.

    Attributes:
        bias: whether each class has an intercept.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    bias: StrictBool = True
    initialization: InitializationByName = Initialization()

    def build(self, input_shape: Shape, classes: int) -> nn.Sequential:
        """Build one linear layer that maps (batch, *input_shape) to (batch, classes) logits."""
        linear = nn.Linear(math.prod(input_shape), classes, self.bias)
        return initialize(nn.Sequential(nn.Flatten(), linear), self.initialization)
