"""A transformer for tokens: a decoder that predicts the next one, or an encoder that classifies."""

from __future__ import annotations

from typing import Literal

from pydantic import StrictBool
from torch import Tensor, nn

from optrial.errors import Problem, StudyError
from optrial.models.arguments import Shape
from optrial.models.blocks import (
    Block,
    BlockArguments,
    PositionEmbedding,
    feature_norm,
    initialize_blocks,
)

__all__ = ["Transformer", "TransformerArguments", "pooled"]

Pool = Literal["none", "mean", "first", "last"]


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
        causal, rotary = options.architecture == "decoder", options.positions == "rotary"
        self.blocks = nn.ModuleList(
            Block(options, causal=causal, rotary=rotary) for _ in range(options.depth)
        )
        self.norm = feature_norm(options)
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
            everywhere: Tensor = self.head(values).unflatten(0, (-1, time))
            return everywhere
        outputs: Tensor = self.head(pooled(values.unflatten(0, (-1, time)), self.pool))
        return outputs


def pooled(values: Tensor, pool: Pool) -> Tensor:
    """Reduce (batch, time, width) to (batch, width)."""
    if pool == "mean":
        return values.mean(1)
    return values[:, 0 if pool == "first" else -1]


class TransformerArguments(BlockArguments):
    """Arguments of the transformer; those of its blocks are in `BlockArguments`.

    Attributes:
        architecture: ``decoder``, in which a position attends to itself and earlier ones, or
            ``encoder``, in which it attends to all.
        positions: ``learned`` vectors, or ``rotary`` queries and keys.
        tied: whether the last layer has the weights of the embedding, without a bias.
        pool: ``none`` for outputs at every position; for one output per sample the ``mean`` over
            positions, the ``first`` or the ``last``. By default ``none`` for a decoder and ``mean``
            for an encoder.
    """

    takes_tokens = True

    architecture: Literal["decoder", "encoder"] = "decoder"
    positions: Literal["learned", "rotary"] = "learned"
    tied: StrictBool = False
    pool: Pool | None = None

    @property
    def pooling(self) -> Pool:
        """Reduction of the positions to outputs."""
        return self.pool or ("none" if self.architecture == "decoder" else "mean")

    def check_input(self, input_shape: Shape) -> list[Problem]:
        """Return why the model cannot be built for samples of a shape."""
        if len(input_shape) != 1:
            message = f"the model transformer takes tokens (time,), not of shape {input_shape}."
            return [Problem("kind", message)]
        if problems := self.check_heads():
            return problems
        features = self.width // self.heads
        if self.positions == "rotary" and features % 2:
            pairs = "rotary turns pairs of features, and a head has an odd number of them"
            return [Problem("positions", f"{pairs}, {features}; use another width or learned.")]
        return []

    def weight_count(self, input_shape: Shape) -> int:
        """Return the number of weights of all blocks and positions, without biases."""
        return self.block_weights + self.width * input_shape[0] * (self.positions == "learned")

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
        initialize_blocks(model, model.blocks, self)
        return model
