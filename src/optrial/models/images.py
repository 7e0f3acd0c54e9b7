"""Shape of the samples and norms of the channels, for all models of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from optrial.errors import Problem
from optrial.models.arguments import Count, ModelArguments, Shape

__all__ = ["NormedArguments", "channel_norm", "image_problems"]

_GROUPS = 8


class NormedArguments(ModelArguments):
    """Arguments of convolutional networks whose convolutions are normalised.

    Attributes:
        norm: ``batch``, ``group`` or ``none``.
        groups: groups of the channels in group norm, 8 by default.
    """

    norm: Literal["batch", "group", "none"] = "batch"
    groups: Annotated[Count | None, Field(exclude_if=lambda groups: groups is None)] = None

    @model_validator(mode="after")
    def _groups_of_group_norm(self) -> Self:
        if self.groups is not None and self.norm != "group":
            raise ValueError(f"groups applies to norm: group, and norm is {self.norm}")
        return self

    def check_groups(self, widths: Sequence[int]) -> list[Problem]:
        """Return why the channels of layers cannot be divided into the groups of group norm."""
        groups = self.groups or _GROUPS
        unfit = [width for width in widths if width % groups or width <= groups]
        if self.norm != "group" or not unfit:
            return []
        shared = math.gcd(*widths)
        fewer = [n for n in range(1, min(*widths, groups)) if shared % n == 0]
        way_out = f"set groups to {fewer[-1]}" if fewer else "widen the layer, or use another norm"
        reason = f"{groups} groups: each needs the same number of channels, and more than one"
        return [Problem("groups", f"{reason}; a layer has {unfit[0]} channels: {way_out}.")]


def channel_norm(options: NormedArguments, channels: int) -> list[nn.Module]:
    """Return the layer that normalises a number of channels, if there is any."""
    match options.norm:
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "group":
            return [nn.GroupNorm(options.groups or _GROUPS, channels)]
        case "none":
            return []


def image_problems(model: str, input_shape: Shape) -> list[Problem]:
    """Return why samples of a shape are no images for a model."""
    if len(input_shape) == 3:
        return []
    wrong = f"the model {model} takes images (channels, height, width), not samples of shape "
    way_out = "Choose a dataset of images, or the model mlp, logistic or rnn."
    return [Problem("kind", f"{wrong}{input_shape}. {way_out}")]
