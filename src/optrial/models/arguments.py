"""Arguments of models: their base class and the types that several models share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from torch import nn

from optrial.errors import Problem
from optrial.models.initialization import Initialization

__all__ = [
    "MOST_LAYERS",
    "Bias",
    "Count",
    "InitializationByName",
    "ModelArguments",
    "Rate",
    "Shape",
    "has_bias",
    "input_dtype",
]

Shape = tuple[int, ...]
"""Shape of one sample, without the batch."""

Bias = StrictBool | None
"""True or False for all layers; None for all layers except those that batch norm follows."""

Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
"""A number of units or channels, from 1 to a million."""

MOST_LAYERS = 1_000
"""Most layers of a model of the catalogue."""

Rate = Annotated[float, Field(strict=True, ge=0, lt=1)]
"""Probability of dropping an activation, in [0, 1)."""


def _by_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


InitializationByName = Annotated[Initialization, BeforeValidator(_by_name)]
"""``xavier_normal``, or ``{name: normal, std: 0.01}``."""


class ModelArguments(BaseModel):
    """Arguments of a model of the catalogue, and how to build it from them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    takes_tokens: ClassVar[bool] = False
    """True if the inputs are tokens, False if they are numbers."""

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape; by default it can."""
        del input_shape
        return []

    def check_outputs(self, input_shape: Shape, outputs: int) -> list[Problem]:
        """Return why the model cannot have so many outputs; by default it can."""
        del input_shape, outputs
        return []

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights below the last layer, without biases; by default 0."""
        del input_shape
        return 0

    @abstractmethod
    def build(self, input_shape: Shape, classes: int) -> nn.Module:
        """Build the model with freshly drawn weights, from the generators as they stand.

        Args:
            input_shape: shape of one sample, accepted by `check_input`.
            classes: number of outputs.
        """

    def build_for(self, input_shape: Shape, classes: int, vocabulary: int | None) -> nn.Module:
        """Build the model for inputs that may be tokens; see `build`.

        Args:
            input_shape: shape of one sample.
            classes: number of outputs.
            vocabulary: number of tokens, if inputs are tokens.
        """
        del vocabulary
        return self.build(input_shape, classes)


def input_dtype(vocabulary: int | None) -> torch.dtype:
    """Return the type of inputs to try a model with: int64 for tokens, else PyTorch's default."""
    return torch.get_default_dtype() if vocabulary is None else torch.int64


def has_bias(bias: bool | None, *, normalised: bool) -> bool:
    """Return whether a layer has a bias.

    By default a layer before batch norm has none. Batch norm subtracts the bias again, so that its
    gradient consists of rounding errors. Rules that divide by the size of the gradient turn these
    into full steps, which the running means lag behind: two runs that differ only in rounding
    would differ in evaluation.

    Args:
        bias: the argument of the model.
        normalised: whether batch norm follows the layer.
    """
    return not normalised if bias is None else bias
