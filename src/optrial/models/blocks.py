"""Blocks of attention and MLP, which transformers for tokens and for patches share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field, StrictBool
from torch import Tensor, nn

from optrial.errors import Problem
from optrial.models.arguments import Count, InitializationByName, ModelArguments, Rate
from optrial.models.initialization import Initialization, initialize
from optrial.models.mlp import ACTIVATIONS, Activation

__all__ = [
    "EMBEDDING_STD",
    "Block",
    "BlockArguments",
    "PositionEmbedding",
    "feature_norm",
    "initialize_blocks",
    "rotated",
]

_ROTARY_BASE = 10_000.0
EMBEDDING_STD = 0.02


class BlockArguments(ModelArguments):
    """Arguments of models that consist of blocks.

    Attributes:
        width: features of a position.
        depth: number of blocks.
        heads: attention heads, a divisor of the width.
        mlp_ratio: hidden units of the MLP in a block, as a multiple of the width.
        norm: ``layer`` or ``rms``.
        activation: of the MLP.
        bias: whether linear layers and layer norms have biases.
        dropout: probability of dropping an embedded feature, an attention weight or an output of
            attention and MLP.
        initialization: a scheme by name; by default N(0, 0.02^2), divided by sqrt(2 depth) for the
            layers whose outputs are added (Radford et al. 2019, section 2.3). Embeddings are drawn
            from N(0, 0.02^2) with every scheme but ``torch_default``.
    """

    width: Count = 64
    depth: Annotated[int, Field(strict=True, ge=1, le=200)] = 2
    heads: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 4
    mlp_ratio: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = 4.0
    norm: Literal["layer", "rms"] = "layer"
    activation: Activation = "gelu"
    bias: StrictBool = True
    dropout: Rate = 0.0
    initialization: InitializationByName = Initialization(name="normal", std=EMBEDDING_STD)

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP in a block."""
        return max(1, round(self.mlp_ratio * self.width))

    @property
    def block_weights(self) -> int:
        """Number of weights of all blocks, without biases."""
        return self.depth * (4 * self.width**2 + 2 * self.width * self.hidden)

    def check_heads(self) -> list[Problem]:
        """Return why the heads cannot share the width."""
        if self.width % self.heads:
            return [Problem("heads", f"{self.heads}: must divide the width, {self.width}.")]
        return []


class PositionEmbedding(nn.Embedding):
    """A learned vector for each position."""

    def forward(self, time: int) -> Tensor:  # type: ignore[override]
        """Return the vectors of the first positions, (time, width)."""
        return self.weight[:time]


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    It is written out in products, which can be mapped over the runs of a stack.
    """

    def __init__(self, options: BlockArguments, *, causal: bool, rotary: bool) -> None:
        super().__init__()
        width = options.width
        self.heads, self.causal, self.rotary = options.heads, causal, rotary
        self.project_in = nn.Linear(width, 3 * width, bias=options.bias)
        self.dropout = nn.Dropout(options.dropout)
        self.project_out = nn.Linear(width, width, bias=options.bias)

    def forward(self, inputs: Tensor, time: int) -> Tensor:
        """Map (batch * time, width) to (batch * time, width)."""
        projected = self.project_in(inputs).unflatten(0, (-1, time))
        heads = projected.unflatten(-1, (3, self.heads, -1)).movedim((2, 3), (0, 2))
        query, key, value = heads.unbind(0)  # (batch, heads, time, width / heads) each
        if self.rotary:
            query, key = rotated(query), rotated(key)
        scores = (query / math.sqrt(query.shape[-1])) @ key.mT
        if self.causal:
            # Added, which costs nothing in the backward pass.
            scores = scores + scores.new_full((time, time), -torch.inf).triu(1)
        weights = self.dropout(scores.softmax(-1))
        attended = (weights @ value).transpose(1, 2).flatten(2).flatten(0, 1)
        outputs: Tensor = self.project_out(attended)
        return outputs


def rotated(values: Tensor) -> Tensor:
    """Rotate pairs of features by angles that grow with the position.

    Su et al. 2021, RoFormer, equation 34, with the pairs (i, i + n / 2): feature pair i of position
    t is turned by t / 10000^(2 i / n).

    Args:
        values: (..., time, n), n even.
    """
    time, half = values.shape[-2], values.shape[-1] // 2
    positions = torch.arange(time, dtype=torch.float64, device=values.device)
    pairs = torch.arange(half, dtype=torch.float64, device=values.device)
    angles = positions[:, None] * _ROTARY_BASE ** (-pairs / half)
    cosines, sines = angles.cos().to(values.dtype), angles.sin().to(values.dtype)
    first, second = values[..., :half], values[..., half:]
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


class Block(nn.Module):
    """Attention and an MLP, each behind a norm and added to its inputs (pre-norm).

    Args:
        options: sizes and layers.
        causal: whether a position attends to itself and earlier ones only.
        rotary: whether queries and keys are rotated by their position.
    """

    def __init__(
        self, options: BlockArguments, *, causal: bool = False, rotary: bool = False
    ) -> None:
        super().__init__()
        width, hidden = options.width, options.hidden
        self.attention_norm = feature_norm(options)
        self.attention = Attention(options, causal=causal, rotary=rotary)
        self.attention_dropout = nn.Dropout(options.dropout)
        self.mlp_norm = feature_norm(options)
        self.expand = nn.Linear(width, hidden, bias=options.bias)
        self.activation = ACTIVATIONS[options.activation]()
        self.contract = nn.Linear(hidden, width, bias=options.bias)
        self.mlp_dropout = nn.Dropout(options.dropout)

    def forward(self, inputs: Tensor, time: int) -> Tensor:
        """Map (batch * time, width) to (batch * time, width)."""
        attended = self.attention(self.attention_norm(inputs), time)
        inputs = inputs + self.attention_dropout(attended)
        hidden = self.activation(self.expand(self.mlp_norm(inputs)))
        outputs: Tensor = inputs + self.mlp_dropout(self.contract(hidden))
        return outputs


def feature_norm(options: BlockArguments) -> nn.Module:
    """Return a norm over the features of a position."""
    if options.norm == "rms":
        return nn.RMSNorm(options.width, eps=1e-5)
    return nn.LayerNorm(options.width, bias=options.bias)


def initialize_blocks(
    model: nn.Module, blocks: Iterable[nn.Module], options: BlockArguments
) -> None:
    """Draw the weights of a model in place; see `BlockArguments.initialization`."""
    initialize(model, options.initialization)
    if options.initialization.name != "torch_default":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
    if options.initialization.name == "normal":
        _scale_added_layers(blocks, options.depth)


@torch.no_grad()
def _scale_added_layers(blocks: Iterable[nn.Module], depth: int) -> None:
    """Divide the weights of layers whose outputs are added, so that their sum stays small."""
    for block in blocks:
        assert isinstance(block, Block)
        block.attention.project_out.weight /= math.sqrt(2 * depth)
        block.contract.weight /= math.sqrt(2 * depth)
