"""Multinomial logistic regression."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, StrictBool
from torch import nn

from optrial.models.arguments import InitializationByName
from optrial.models.initialization import Initialization

__all__ = ["LogisticArguments", "logistic"]


class LogisticArguments(BaseModel):
    """Arguments of multinomial logistic regression.

    Attributes:
        bias: whether each class has an intercept.
        initialization: a scheme by name, or ``{name: normal, std: 0.01}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: StrictBool = True
    initialization: InitializationByName = Initialization()


def logistic(
    arguments: LogisticArguments, input_shape: tuple[int, ...], classes: int
) -> nn.Sequential:
    """Build one linear layer that maps (batch, *input_shape) to (batch, classes) logits."""
    linear = nn.Linear(math.prod(input_shape), classes, arguments.bias)
    return nn.Sequential(nn.Flatten(), linear)
