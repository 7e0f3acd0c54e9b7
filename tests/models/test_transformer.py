"""The transformer against PyTorch's own attention and layers, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.models import build_model
from optrial.models.blocks import rotated
from optrial.models.transformer import Transformer, TransformerArguments
from tests.tolerance import DRAWN_STD, GRADIENT_FLOAT64

VOCABULARY, TIME, WIDTH, HEADS = 13, 9, 12, 3


def build(outputs: int = VOCABULARY, **arguments: Any) -> Transformer:
    given = {"width": WIDTH, "heads": HEADS, "depth": 2, "initialization": "torch_default"}
    model = build_model(
        "transformer",
        given | arguments,
        input_shape=(TIME,),
        classes=outputs,
        vocabulary=VOCABULARY,
        seed=1,
    ).double()
    assert isinstance(model, Transformer)
    return model


def tokens() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (5, TIME)))


def torch_layers(model: Transformer) -> list[nn.TransformerEncoderLayer]:
    """Layers of `torch.nn` with copies of a model's weights."""
    layers = []
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        ).double()
        weights = {
            "self_attn.in_proj_": block.attention.project_in,
            "self_attn.out_proj.": block.attention.project_out,
            "linear1.": block.expand,
            "linear2.": block.contract,
            "norm1.": block.attention_norm,
            "norm2.": block.mlp_norm,
        }
        parts = ("weight", "bias")
        layer.load_state_dict({f"{n}{p}": getattr(m, p) for n, m in weights.items() for p in parts})
        layers.append(layer)
    return layers


@pytest.mark.parametrize("causal", [True, False])
def test_blocks_are_encoder_layers_of_torch(causal: bool) -> None:
    model = build(architecture="decoder" if causal else "encoder", pool="none")
    layers = torch_layers(model)
    mask = nn.Transformer.generate_square_subsequent_mask(TIME, dtype=torch.float64)
    assert model.positions is not None
    embedding, positions = model.embedding.weight, model.positions.weight
    hidden = functional.embedding(tokens(), embedding) + positions
    for layer in layers:
        hidden = layer(hidden, src_mask=mask if causal else None, is_causal=causal)
    wanted = model.head(model.norm(hidden))
    outputs = model(tokens())
    assert torch.allclose(outputs, wanted, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)
    weights = torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)
    ours = torch.autograd.grad((weights * outputs).sum(), model.blocks.parameters())
    theirs = torch.autograd.grad(
        (weights * wanted).sum(),
        [p for layer in layers for p in in_our_order(layer)],
    )
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)


def in_our_order(layer: nn.TransformerEncoderLayer) -> list[nn.Parameter]:
    attention = layer.self_attn
    return [
        *layer.norm1.parameters(),
        attention.in_proj_weight,
        attention.in_proj_bias,
        *attention.out_proj.parameters(),
        *layer.norm2.parameters(),
        *layer.linear1.parameters(),
        *layer.linear2.parameters(),
    ]


def rotated_by_numpy(values: np.ndarray) -> np.ndarray:
    """Rotation of complex numbers, one vector at a time."""
    time, n = values.shape[-2:]
    turned = np.empty_like(values)
    for index in np.ndindex(values.shape[:-2]):
        for t in range(time):
            vector = values[(*index, t)]
            pairs = vector[: n // 2] + 1j * vector[n // 2 :]
            pairs *= np.exp(1j * t * 10_000.0 ** (-2 * np.arange(n // 2) / n))
            turned[(*index, t)] = np.concatenate([pairs.real, pairs.imag])
    return turned


def test_rotary_positions_are_complex_rotations() -> None:
    values = np.random.default_rng(1).normal(size=(2, 3, TIME, 8))
    ours = rotated(torch.from_numpy(values)).numpy()
    assert np.allclose(ours, rotated_by_numpy(values), rtol=GRADIENT_FLOAT64)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_rotary_attention_is_that_of_torch(norm: str) -> None:
    """Scaled dot-product attention of rotated queries and keys, and RMS norm by its formula."""
    model = build(positions="rotary", norm=norm, depth=1, bias=False, tied=True)
    assert model.head.weight is model.embedding.weight
    assert not [name for name, _ in model.named_parameters() if "bias" in name]
    (block,) = model.blocks

    def normed(values: Tensor, layer: nn.Module) -> Tensor:
        if norm == "rms":
            return values / (values.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight
        return functional.layer_norm(values, (WIDTH,), layer.weight)

    hidden = model.embedding.weight[tokens()]
    projected = normed(hidden, block.attention_norm) @ block.attention.project_in.weight.T
    heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in projected.chunk(3, -1))
    query, key, value = heads
    query, key = (
        torch.from_numpy(rotated_by_numpy(part.detach().numpy())) for part in (query, key)
    )
    attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    hidden = hidden + attended.transpose(1, 2).flatten(2) @ block.attention.project_out.weight.T
    expanded = functional.gelu(normed(hidden, block.mlp_norm) @ block.expand.weight.T)
    hidden = hidden + expanded @ block.contract.weight.T
    wanted = normed(hidden, model.norm) @ model.embedding.weight.T
    assert torch.allclose(model(tokens()), wanted, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)


def test_a_decoder_sees_no_later_token_and_an_encoder_does() -> None:
    changed = tokens()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    for architecture, positions in (("decoder", "learned"), ("decoder", "rotary")):
        model = build(architecture=architecture, positions=positions)
        before, after = model(tokens()), model(changed)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.allclose(before[:, 5:], after[:, 5:])
    encoder = build(architecture="encoder", pool="none")
    assert not torch.allclose(encoder(tokens())[:, :5], encoder(changed)[:, :5])


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(1),
    "first": lambda values: values[:, 0],
    "last": lambda values: values[:, -1],
}


@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool: str) -> None:
    everywhere, pooled = (build(4, architecture="encoder", pool=p) for p in ("none", pool))
    pooled.load_state_dict(everywhere.state_dict())
    wanted = POOLS[pool](everywhere(tokens()))  # the head is linear
    assert torch.allclose(pooled(tokens()), wanted, rtol=GRADIENT_FLOAT64)


def test_initial_weights() -> None:
    model = build(width=96, heads=4, depth=3, initialization={"name": "normal", "std": 0.02})
    (block, *_) = model.blocks
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=DRAWN_STD)
    assert block.expand.weight.std().item() == pytest.approx(0.02, rel=DRAWN_STD)
    assert block.contract.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=DRAWN_STD)
    assert block.attention.project_out.weight.std().item() == pytest.approx(
        0.02 / 6**0.5, rel=DRAWN_STD
    )
    default = TransformerArguments()
    assert default.initialization.std == pytest.approx(0.02)


def test_number_of_parameters() -> None:
    """Those of GPT-2: 12 width^2 in the matrices of a block, 13 width in its vectors."""
    model = build(width=48, heads=4, depth=3, tied=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == 3 * (12 * 48**2 + 13 * 48) + 48 * (VOCABULARY + TIME) + 2 * 48
