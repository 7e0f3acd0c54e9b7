"""A vision transformer (Dosovitskiy et al. 2021): attention among the patches of an image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from optrial.errors import Problem
from optrial.models.arguments import Count, Shape
from optrial.models.blocks import (
    EMBEDDING_STD,
    Block,
    BlockArguments,
    PositionEmbedding,
    feature_norm,
    initialize_blocks,
)
from optrial.models.images import image_problems
from optrial.models.transformer import pooled

__all__ = ["VisionTransformer", "VisionTransformerArguments"]


class PatchEmbedding(nn.Linear):
    """One linear layer for the pixels of every patch.

    It equals a convolution whose stride is its kernel, and can be stacked at the cost of a product.

    Args:
        channels: channels of the images.
        patch: height and width of a patch.
        width: features of a patch.
        bias: whether there is a bias.
    """

    def __init__(self, channels: int, patch: int, width: int, bias: bool) -> None:
        super().__init__(channels * patch**2, width, bias)
        self.patch = patch

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Map images (batch, channels, height, width) to (batch, patches, width)."""
        batch, channels, height, width = input.shape
        patch = self.patch
        rows = input.reshape(batch, channels, height // patch, patch, width // patch, patch)
        patches = rows.permute(0, 2, 4, 1, 3, 5)  # (batch, rows, columns, channels, patch, patch)
        return super().forward(patches.flatten(3).flatten(1, 2))


class VisionTransformer(nn.Module):
    """Embedded patches with learned positions, blocks, a last norm and a linear layer.

    Args:
        options: arguments of the model.
        input_shape: (channels, height, width) of the images.
        classes: number of outputs.
    """

    def __init__(
        self, options: VisionTransformerArguments, input_shape: Shape, classes: int
    ) -> None:
        super().__init__()
        channels, width = input_shape[0], options.width
        self.pool = options.pool
        self.embedding = PatchEmbedding(channels, options.patch, width, options.bias)
        positions = options.patches(input_shape) + (options.pool == "first")
        self.class_token = nn.Parameter(torch.zeros(width)) if options.pool == "first" else None
        self.positions = PositionEmbedding(positions, width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.norm = feature_norm(options)
        self.head = nn.Linear(width, classes, bias=options.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, classes) logits."""
        values = self.embedding(images)
        if self.class_token is not None:
            first = self.class_token.expand(len(values), 1, -1)
            values = torch.cat([first, values], dim=1)
        time = values.shape[1]
        values = self.dropout((values + self.positions(time)).flatten(0, 1))
        for block in self.blocks:
            values = block(values, time)
        values = self.norm(values).unflatten(0, (-1, time))
        outputs: Tensor = self.head(pooled(values, self.pool))
        return outputs


class VisionTransformerArguments(BlockArguments):
    """Arguments of the vision transformer; those of its blocks are in `BlockArguments`.

    Attributes:
        patch: height and width of a patch, a divisor of those of the images.
        pool: ``mean`` over the patches, or ``first`` for an additional class token.
    """

    patch: Count = 4
    pool: Literal["mean", "first"] = "mean"

    def patches(self, input_shape: Shape) -> int:
        """Return the number of patches of an image."""
        _, height, width = input_shape
        return (height // self.patch) * (width // self.patch)

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        problems = image_problems("vit", input_shape) + self.check_heads()
        if len(input_shape) == 3 and any(length % self.patch for length in input_shape[1:]):
            height, width = input_shape[1:]
            reason = f"{self.patch}: must divide height and width of the images, {height} x {width}"
            problems.append(Problem("patch", f"{reason}."))
        return problems

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights of patches, positions and blocks, without biases."""
        of_a_patch = input_shape[0] * self.patch**2
        return self.block_weights + self.width * (of_a_patch + self.patches(input_shape))

    def build(self, input_shape: Shape, classes: int) -> VisionTransformer:
        """Build a vision transformer; see `VisionTransformer`."""
        model = VisionTransformer(self, input_shape, classes)
        initialize_blocks(model, model.blocks, self)
        if model.class_token is not None and self.initialization.name != "torch_default":
            nn.init.normal_(model.class_token, std=EMBEDDING_STD)
        return model
