"""A transformer for tokens: a decoder that predicts the next one, or an encoder that classifies."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, StrictBool
from torch import Tensor, nn

from optrial.errors import Problem, StudyError
from optrial.models.arguments import (
    Count,
    InitializationByName,
    ModelArguments,
    Rate,
    Shape,
)
from optrial.models.initialization import Initialization, initialize
from optrial.models.mlp import ACTIVATIONS, Activation

__all__ = ["Transformer", "TransformerArguments", "rotated"]

_ROTARY_BASE = 10_000.0
_EMBEDDING_STD = 0.02
Pool = Literal["none", "mean", "first", "last"]


class PositionEmbedding(nn.Embedding):
    """A learned vector for each position."""

    def forward(self, time: int) -> Tensor:  # type: ignore[override]
        """Return the vectors of the first positions, (time, width)."""
        return self.weight[:time]


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    It is written out in products, which can be mapped over the runs of a stack.
    """

    def __init__(self, options: TransformerArguments) -> None:
        super().__init__()
        width = options.width
        self.heads, self.causal = options.heads, options.architecture == "decoder"
        self.rotary = options.positions == "rotary"
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
    """Attention and an MLP, each behind a norm and added to its inputs (pre-norm)."""

    def __init__(self, options: TransformerArguments) -> None:
        super().__init__()
        width, hidden = options.width, options.hidden
        self.attention_norm = _norm(options)
        self.attention = Attention(options)
        self.attention_dropout = nn.Dropout(options.dropout)
        self.mlp_norm = _norm(options)
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


class Transformer(nn.Module):
    """Embeddings, blocks, a last norm and a linear layer.

    Args:
        options: arguments of the model.
        context: number of tokens of a sample.
        vocabulary: number of tokens.
        outputs: number of outputs.
    """

    def __init__(
        self, options: TransformerArguments, context: int, vocabulary: int, outputs: int
    ) -> None:
        super().__init__()
        self.pool = options.pooling
        self.embedding = nn.Embedding(vocabulary, options.width)
        learned = options.positions == "learned"
        self.positions = PositionEmbedding(context, options.width) if learned else None
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.norm = _norm(options)
        self.head = nn.Linear(options.width, outputs, bias=options.bias and not options.tied)
        if options.tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, time) to (batch, time, outputs) or, pooled, (batch, outputs)."""
        time = tokens.shape[1]
        values = self.embedding(tokens)
        if self.positions is not None:
            values = values + self.positions(time)
        values = self.dropout(values.flatten(0, 1))
        for block in self.blocks:
            values = block(values, time)
        values = self.norm(values)
        if self.pool == "none":
            outputs: Tensor = self.head(values).unflatten(0, (-1, time))
            return outputs
        pooled: Tensor = self.head(_pooled(values.unflatten(0, (-1, time)), self.pool))
        return pooled


def _pooled(values: Tensor, pool: Pool) -> Tensor:
    """Reduce (batch, time, width) to (batch, width)."""
    if pool == "mean":
        return values.mean(1)
    return values[:, 0 if pool == "first" else -1]


def _norm(options: TransformerArguments) -> nn.Module:
    if options.norm == "rms":
        return nn.RMSNorm(options.width, eps=1e-5)
    return nn.LayerNorm(options.width, bias=options.bias)


class TransformerArguments(ModelArguments):
    """Arguments of the transformer.

    Attributes:
        architecture: ``decoder``, in which a position attends to itself and earlier ones, or
            ``encoder``, in which it attends to all.
        width: features of a position.
        depth: number of blocks.
        heads: attention heads, a divisor of the width.
        mlp_ratio: hidden units of the MLP in a block, as a multiple of the width.
        positions: ``learned`` vectors, or ``rotary`` queries and keys.
        norm: ``layer`` or ``rms``.
        activation: of the MLP.
        tied: whether the last layer has the weights of the embedding, without a bias.
        bias: whether linear layers and layer norms have biases.
        dropout: probability of dropping an embedded feature, an attention weight or an output of
            attention and MLP.
        pool: ``none`` for outputs at every position; for one output per sample the ``mean`` over
            positions, the ``first`` or the ``last``. By default ``none`` for a decoder and ``mean``
            for an encoder.
        initialization: a scheme by name; by default N(0, 0.02^2), divided by sqrt(2 depth) for the
            layers whose outputs are added (Radford et al. 2019, section 2.3). Embeddings are drawn
            from N(0, 0.02^2) with every scheme but ``torch_default``.
    """

    takes_tokens = True

    architecture: Literal["decoder", "encoder"] = "decoder"
    width: Count = 64
    depth: Annotated[int, Field(strict=True, ge=1, le=200)] = 2
    heads: Annotated[int, Field(strict=True, ge=1, le=1_000)] = 4
    mlp_ratio: Annotated[float, Field(strict=True, gt=0, le=100, allow_inf_nan=False)] = 4.0
    positions: Literal["learned", "rotary"] = "learned"
    norm: Literal["layer", "rms"] = "layer"
    activation: Activation = "gelu"
    tied: StrictBool = False
    bias: StrictBool = True
    dropout: Rate = 0.0
    pool: Pool | None = None
    initialization: InitializationByName = Initialization(name="normal", std=_EMBEDDING_STD)

    @property
    def pooling(self) -> Pool:
        """How positions become outputs."""
        return self.pool or ("none" if self.architecture == "decoder" else "mean")

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP in a block."""
        return max(1, round(self.mlp_ratio * self.width))

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        if len(input_shape) != 1:
            message = f"the model transformer takes tokens (time,), not of shape {input_shape}."
            return [Problem("kind", message)]
        if self.width % self.heads:
            message = f"{self.heads}: must divide the width, {self.width}."
            return [Problem("heads", message)]
        features = self.width // self.heads
        if self.positions == "rotary" and features % 2:
            pairs = "rotary turns pairs of features, and a head has an odd number of them"
            return [Problem("positions", f"{pairs}, {features}; use another width or learned.")]
        return []

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights of all blocks and positions, without biases."""
        block = 4 * self.width**2 + 2 * self.width * self.hidden
        return self.depth * block + self.width * input_shape[0] * (self.positions == "learned")

    def build(self, input_shape: Shape, classes: int) -> nn.Module:
        """Build a transformer whose tokens are its classes."""
        return self.build_for(input_shape, classes, classes)

    def build_for(self, input_shape: Shape, classes: int, vocabulary: int | None) -> Transformer:
        """Build a transformer; see `ModelArguments.build_for`.

        Raises:
            StudyError: tied weights for outputs that are not the tokens.
        """
        assert vocabulary is not None  # `check_input_shape` refuses numbers
        if self.tied and classes != vocabulary:
            reason = f"true: the outputs are {classes} classes, not the {vocabulary} tokens"
            raise StudyError([Problem("tied", f"{reason}; leave it out.")], "the model")
        model = Transformer(self, input_shape[0], vocabulary, classes)
        initialize(model, self.initialization)
        if self.initialization.name != "torch_default":
            for module in model.modules():
                if isinstance(module, nn.Embedding):
                    nn.init.normal_(module.weight, std=_EMBEDDING_STD)
        if self.initialization.name == "normal":
            _scale_added_layers(model, self.depth)
        return model


@torch.no_grad()
def _scale_added_layers(model: Transformer, depth: int) -> None:
    """Divide the weights of layers whose outputs are added, so that their sum stays small."""
    for block in model.blocks:
        assert isinstance(block, Block)
        block.attention.project_out.weight /= math.sqrt(2 * depth)
        block.contract.weight /= math.sqrt(2 * depth)
