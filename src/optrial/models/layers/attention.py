"""`nn.MultiheadAttention` in plain matrix products, so that its dropout masks can be keyed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["StackableMultiheadAttention"]


class StackableMultiheadAttention(nn.MultiheadAttention):
    """Multi-head attention (Vaswani et al. 2017, section 3.2), equal to that of `torch.nn`.

    The cases not covered are passed to `torch.nn`: samples without a batch, `add_bias_kv` and
    `add_zero_attn`.

    Attributes:
        weight_dropout: dropout layer that acts on the attention weights.
    """

    weight_dropout: nn.Module

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; shapes and masks are those of `nn.MultiheadAttention`."""
        if query.ndim != 3 or self.bias_k is not None or self.add_zero_attn:
            return super().forward(
                query,
                key,
                value,
                key_padding_mask,
                need_weights,
                attn_mask,
                average_attn_weights,
                is_causal,
            )
        if not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        query, key, value = (
            self._heads(functional.linear(values, weight, bias))
            for values, weight, bias in zip((query, key, value), *self._projections(), strict=True)
        )
        scores = query @ key.mT / self.head_dim**0.5
        if key_padding_mask is not None:
            scores = scores + _added(key_padding_mask, scores)[:, None, None]
        if attn_mask is not None:
            mask = _added(attn_mask, scores)
            scores = scores + (mask.view(scores.shape) if mask.ndim == 3 else mask)
        weights = self.weight_dropout(scores.softmax(-1))
        outputs = self.out_proj((weights @ value).transpose(1, 2).flatten(2))
        if not self.batch_first:
            outputs = outputs.transpose(0, 1)
        if not need_weights:
            return outputs, None
        return outputs, weights.mean(1) if average_attn_weights else weights

    def _heads(self, projected: Tensor) -> Tensor:
        """Divide (batch, time, width) into (batch, heads, time, head width)."""
        batch, time, _ = projected.shape
        return projected.view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)

    def _projections(self) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        """Return the weights and the biases of query, key and value."""
        weights: Sequence[Tensor]
        if self.in_proj_weight is None:  # they have different widths
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        else:
            weights = self.in_proj_weight.chunk(3)
        return weights, (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """Return the term that a mask adds to scores: -infinity where a boolean mask is true."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -torch.inf)
