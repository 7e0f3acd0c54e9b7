"""What a sample costs a model, against PyTorch's counter and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from optrial.models import build_model, call_count, linear_rows, make_stackable, sample_cost


@pytest.mark.parametrize(
    ("kind", "arguments", "shape"),
    [
        ("mlp", {"hidden": [30, 20], "dropout": 0.5}, (12,)),
        ("cnn", {"widths": [4, 8]}, (3, 8, 8)),
        ("rnn", {"hidden": 16}, (5, 1)),
        ("rnn", {"hidden": 16, "cell": "gru"}, (5, 1)),
        ("rnn", {"hidden": 16, "cell": "lstm"}, (5, 1)),
    ],
)
def test_operations_are_those_that_pytorch_counts(
    kind: str, arguments: dict[str, Any], shape: tuple[int, ...]
) -> None:
    model = build_model(kind, arguments, input_shape=shape, classes=10, seed=0)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(2, *shape))
    assert 2 * sample_cost(model, shape).operations == counter.get_total_flops()


@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(3, 5, num_layers=2, bidirectional=True),
        nn.GRU(3, 5, batch_first=True),
        nn.RNN(3, 5, bias=False),
        nn.TransformerEncoderLayer(3, 1, 8, dropout=0.0),
        nn.TransformerDecoderLayer(3, 1, 8, dropout=0.0, batch_first=True),
    ],
    ids=lambda model: type(model).__name__,
)
def test_so_are_those_of_recurrent_layers_and_attention(model: nn.Module) -> None:
    whole = _TakesOne(model) if isinstance(model, nn.TransformerDecoderLayer) else model
    counted = 2 * sample_cost(whole, (4, 3)).operations
    # It knows neither the LSTM of oneDNN, which takes float32 only, nor a CPU's fused attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        whole.double()(torch.zeros(2, 4, 3, dtype=torch.float64))
    assert counted == counter.get_total_flops()


class _TakesOne(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x, x[:, :2])


def test_kernels_are_counted_through_layers_that_are_written_out() -> None:
    mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert call_count(mlp, (3,)) == 3
    fused, written_out = (nn.LSTM(3, 5, batch_first=True) for _ in range(2))
    make_stackable(written_out)
    short, long = (call_count(written_out, (time, 3)) for time in (4, 8))
    assert call_count(fused, (4, 3)) < short < long
    assert call_count(nn.TransformerEncoderLayer(4, 1, 8), (5, 4)) > 25
    assert call_count(mlp, (4,)) == 0


def test_saved_numbers_are_those_of_the_hidden_units() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    assert sample_cost(model, (6,)).saved == 8 + 4


def test_a_model_that_refuses_zeros_counts_its_weights() -> None:
    assert sample_cost(nn.Embedding(5, 3), (2,)) == (0, 2 * 15)


def test_global_generators_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    before = torch.get_rng_state()
    sample_cost(model, (2,))
    assert torch.equal(before, torch.get_rng_state())


def test_rows_of_linear_layers_are_positions() -> None:
    options = {"width": 16, "depth": 1, "heads": 2, "pool": "last"}
    model = build_model("transformer", options, input_shape=(6,), classes=5, seed=0, vocabulary=5)
    rows = linear_rows(model, (6,), torch.int64)
    assert rows.pop("head") == 1
    assert len(rows) == 4
    assert set(rows.values()) == {6}
    assert set(linear_rows(model, (6,)).values()) == {1}, "numbers, which it does not take"
