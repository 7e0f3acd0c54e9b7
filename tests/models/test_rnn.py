"""The recurrent network, against torch.nn, and what it reads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optrial.errors import StudyError
from optrial.models import build_model, check_input_shape, check_model
from tests.models.stacks import relative_error, seeded
from tests.tolerance import GRADIENT_FLOAT64

TORCH = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BATCH, TIME, FEATURES, HIDDEN = 5, 7, 3, 4


def build(input_shape: tuple[int, ...], **arguments: object) -> nn.Module:
    return build_model("rnn", arguments, input_shape=input_shape, classes=2, seed=0).double()


def with_weights_of(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy weights; the two biases of torch.nn act as their sum, but for that of the gate n."""
    ours.weight_hx.data = theirs.weight_ih_l0.data.clone()
    ours.weight_hh.data = theirs.weight_hh_l0.data.clone()
    second = theirs.bias_hh_l0.data.clone()
    if isinstance(theirs, nn.GRU):
        ours.bias_hn.data = second[-HIDDEN:].clone()
        second[-HIDDEN:] = 0
    ours.bias_h.data = theirs.bias_ih_l0.data + second


def last_state(theirs: nn.Module, x: Tensor) -> Tensor:
    return theirs(x)[0][:, -1]


@pytest.mark.parametrize("cell", TORCH)
def test_it_equals_torch_nn(cell: str) -> None:
    torch.manual_seed(0)
    theirs = TORCH[cell](FEATURES, HIDDEN, batch_first=True).double()
    ours = build((TIME, FEATURES), cell=cell, hidden=HIDDEN)[1]
    with_weights_of(theirs, ours)
    inputs = [seeded(1, BATCH, TIME, FEATURES).requires_grad_() for _ in range(2)]
    weights = seeded(2, BATCH, HIDDEN)
    states = [last_state(theirs, inputs[0]), ours(inputs[1])]
    for state in states:
        (state * weights).sum().backward()
    assert relative_error(states[1], states[0]) <= GRADIENT_FLOAT64
    assert relative_error(inputs[1].grad, inputs[0].grad) <= GRADIENT_FLOAT64
    pairs = [
        (ours.weight_hx, theirs.weight_ih_l0),
        (ours.weight_hh, theirs.weight_hh_l0),
        (ours.bias_h, theirs.bias_ih_l0),
    ]
    for mine, other in pairs:
        assert relative_error(mine.grad, other.grad) <= GRADIENT_FLOAT64
    if cell == "gru":
        assert relative_error(ours.bias_hn.grad, theirs.bias_hh_l0.grad[-HIDDEN:]) <= (
            GRADIENT_FLOAT64
        )


def test_the_vanilla_cell_is_its_equation() -> None:
    layer = build((TIME, FEATURES), hidden=HIDDEN)[1]
    x = seeded(1, TIME, FEATURES)
    state = torch.zeros(HIDDEN, dtype=torch.float64)
    for x_t in x:
        state = torch.tanh(layer.weight_hx @ x_t + layer.weight_hh @ state + layer.bias_h)
    assert relative_error(layer(x[None])[0], state) <= GRADIENT_FLOAT64


@pytest.mark.parametrize("cell", TORCH)
def test_the_default_draws_what_torch_nn_draws(cell: str) -> None:
    """Up to the second bias, which torch.nn.RNN and torch.nn.LSTM draw in vain."""
    torch.manual_seed(0)
    theirs = TORCH[cell](FEATURES, HIDDEN).double()
    ours = build((TIME, FEATURES), cell=cell, hidden=HIDDEN)[1]
    assert torch.equal(ours.weight_hx, theirs.weight_ih_l0)
    assert torch.equal(ours.weight_hh, theirs.weight_hh_l0)
    assert torch.equal(ours.bias_h, theirs.bias_ih_l0)


@pytest.mark.parametrize("cell", TORCH)
def test_images_are_read_row_by_row_and_vectors_number_by_number(cell: str) -> None:
    images = seeded(3, BATCH, 2, TIME, 5)  # (batch, channels, height, width)
    rows = torch.stack([torch.cat([i[0], i[1]], dim=1) for i in images])
    model = build((2, TIME, 5), cell=cell)
    assert model[1].weight_hx.shape[1] == 10
    assert torch.equal(model(images), build((TIME, 10), cell=cell)(rows))
    numbers = seeded(4, BATCH, TIME)
    model = build((TIME,), cell=cell)
    assert model[1].weight_hx.shape[1] == 1
    assert torch.equal(model(numbers), build((TIME, 1), cell=cell)(numbers[:, :, None]))


def test_parameters_have_readable_names_and_expected_shapes() -> None:
    shapes = {n: tuple(p.shape) for n, p in build((TIME,), cell="gru").named_parameters()}
    assert shapes == {
        "1.weight_hx": (384, 1),
        "1.weight_hh": (384, 128),
        "1.bias_h": (384,),
        "1.bias_hn": (128,),
        "3.weight": (2, 128),
        "3.bias": (2,),
    }
    assert build((TIME,), dropout=0.25)[2].p == 0.25


def test_what_it_refuses() -> None:
    (problem,) = check_model("rnn", {"cell": "lstn"})
    assert "Did you mean 'lstm'?" in problem.message
    (problem,) = check_input_shape("rnn", {}, (1, 2, 3, 4))
    assert problem.path == "kind"
    assert "(time, features)" in problem.message
    assert "(1, 2, 3, 4)" in problem.message
    with pytest.raises(StudyError, match="time"):
        build(())
