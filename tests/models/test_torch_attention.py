"""Attention whose dropout is keyed, against that of `torch.nn`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optrial.keyed import mask_key
from optrial.models import drop_threshold, keep_mask, key_dropout, set_mask_key
from tests.models.stacks import relative_error, seeded
from tests.tolerance import GRADIENT_FLOAT64

BATCH, TIME, OTHER, WIDTH, HEADS, RATE = 3, 5, 4, 6, 2, 0.4
BOOLEAN = seeded(9, TIME, OTHER) > 0.5
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_first": True, "bias": False},
    {"kdim": 7, "vdim": 2},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": True},
)
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no weights": {"need_weights": False},
    "weights of each head": {"average_attn_weights": False},
    "boolean mask": {"attn_mask": BOOLEAN},
    "mask of each head": {"attn_mask": seeded(8, BATCH * HEADS, TIME, OTHER)},
    "padding": {"key_padding_mask": torch.arange(OTHER).expand(BATCH, -1) > 2},
    "added padding and mask": {
        "key_padding_mask": seeded(7, BATCH, OTHER),
        "attn_mask": seeded(6, TIME, OTHER),
    },
}


def pair(**options: Any) -> tuple[nn.MultiheadAttention, nn.MultiheadAttention]:
    """The same weights in that of torch.nn and in ours, both evaluating."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, dropout=RATE, **options).double().eval()
    for parameter in theirs.parameters():  # biases, too
        parameter.data += 0.1 * torch.randn_like(parameter)
    ours = copy.deepcopy(theirs)
    assert len(key_dropout(ours)) == 1
    return theirs, ours.eval()


def arguments(layer: nn.MultiheadAttention) -> list[Tensor]:
    """Query, key and value."""
    sizes = [(TIME, WIDTH), (OTHER, layer.kdim), (OTHER, layer.vdim)]
    inputs = [seeded(index, BATCH, *size) for index, size in enumerate(sizes)]
    return [values if layer.batch_first else values.transpose(0, 1) for values in inputs]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_equals_torch_nn(options: dict[str, Any], call: str) -> None:
    theirs, ours = pair(**options)
    (wanted, weights), (attended, attention) = (
        layer(*arguments(layer), **CALLS[call]) for layer in (theirs, ours)
    )
    assert attended.shape == wanted.shape
    assert relative_error(attended, wanted) <= GRADIENT_FLOAT64
    if weights is None:
        assert attention is None
    else:
        assert relative_error(attention, weights) <= GRADIENT_FLOAT64
    for layer, outputs in ((theirs, wanted), (ours, attended)):
        (outputs**3).sum().backward()
        assert layer.out_proj.weight.grad is not None
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert relative_error(mine.grad, other.grad) <= GRADIENT_FLOAT64, name


def test_without_a_batch_it_is_torch_nn() -> None:
    theirs, ours = pair()
    sample = [seeded(1, TIME, WIDTH)] * 3
    assert torch.equal(ours(*sample)[0], theirs(*sample)[0])


def test_weights_are_dropped_by_seed_and_step() -> None:
    _, ours = pair(batch_first=True)
    inputs = arguments(ours)
    whole = ours(*inputs, average_attn_weights=False)[1]
    set_mask_key([ours.weight_dropout], seed=3, step=2)
    dropped = ours.train()(*inputs, average_attn_weights=False)[1]
    positions = torch.arange(whole.numel()).view(whole.shape)
    kept = keep_mask(mask_key(3, 2), 0, positions, drop_threshold(RATE))
    assert 0 < kept.sum() < kept.numel()
    assert relative_error(dropped, whole * kept / (1 - RATE)) <= GRADIENT_FLOAT64
