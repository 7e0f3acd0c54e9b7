"""Recurrent layers of `torch.nn` that can be stacked, against those of `torch.nn` themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from optrial.keyed import mask_key
from optrial.models import drop_threshold, keep_mask, key_dropout, make_stackable, set_mask_key
from tests.models.stacks import relative_error, seeded, stacked
from tests.tolerance import GRADIENT_FLOAT64

BATCH, TIME, FEATURES, HIDDEN = 5, 7, 3, 4
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_first": True, "bias": False},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "batch_first": True, "bidirectional": True, "dropout": 0.5},
)
LAYERS = [
    *((kind, options) for kind in (nn.RNN, nn.GRU, nn.LSTM) for options in OPTIONS),
    (nn.RNN, {"nonlinearity": "relu"}),
]


def pair(kind: type[nn.RNNBase], options: dict[str, Any]) -> tuple[nn.RNNBase, nn.RNNBase]:
    """The same weights in the layer of torch.nn and in ours, evaluating if there is dropout."""
    torch.manual_seed(0)
    theirs = kind(FEATURES, HIDDEN, **options).double()
    theirs.train(not options.get("dropout"))
    ours = copy.deepcopy(theirs)
    assert make_stackable(ours) == 1
    return theirs, ours


def first_states(layer: nn.RNNBase, seed: int) -> Any:
    shape = (layer.num_layers * (1 + layer.bidirectional), BATCH, HIDDEN)
    states = seeded(seed, *shape), seeded(seed + 1, *shape)
    return states if layer.mode == "LSTM" else states[0]


def tensors(outputs: Any) -> list[Tensor]:
    """Output and last states, one after the other."""
    output, states = outputs
    return [output, *(states if isinstance(states, tuple) else [states])]


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize(("kind", "options"), LAYERS)
def test_it_equals_torch_nn(
    kind: type[nn.RNNBase], options: dict[str, Any], with_states: bool
) -> None:
    theirs, ours = pair(kind, options)
    shape = (BATCH, TIME) if theirs.batch_first else (TIME, BATCH)
    states = [first_states(theirs, 2)] if with_states else []
    inputs = [seeded(1, *shape, FEATURES).requires_grad_() for _ in range(2)]
    answers = [tensors(layer(x, *states)) for layer, x in zip((theirs, ours), inputs, strict=True)]
    for outputs in answers:
        sum((value**3).sum() for value in outputs).backward()
    for mine, other in zip(answers[1], answers[0], strict=True):
        assert mine.shape == other.shape
        assert relative_error(mine, other) <= GRADIENT_FLOAT64
    assert relative_error(inputs[1].grad, inputs[0].grad) <= GRADIENT_FLOAT64
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert relative_error(mine.grad, other.grad) <= GRADIENT_FLOAT64, name


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_runs_side_by_side_are_the_runs_alone(kind: type[nn.RNNBase]) -> None:
    alone = [kind(FEATURES, HIDDEN, num_layers=2).double() for _ in range(4)]
    models = copy.deepcopy(alone)
    for model in models:
        make_stackable(model)
    params, _ = stacked(models, (4, 1))
    x = seeded(1, TIME, BATCH, FEATURES)
    outputs = vmap(lambda weights: functional_call(models[0], weights, (x,))[0])(
        {name: value[:, 0] for name, value in params.items()}
    )
    for mine, layer in zip(outputs, alone, strict=True):
        assert relative_error(mine, layer(x)[0]) <= GRADIENT_FLOAT64


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_dropout_between_layers_is_keyed(kind: type[nn.RNNBase]) -> None:
    """Layer after layer by torch.nn, with masks by seed and step between them."""
    torch.manual_seed(0)
    both = kind(FEATURES, HIDDEN, num_layers=3, dropout=0.4).double()
    singles = [kind(both.input_size if not n else HIDDEN, HIDDEN).double() for n in range(3)]
    for number, single in enumerate(singles):
        for mine, other in zip(single.parameters(), both.all_weights[number], strict=True):
            mine.data = other.data.clone()
    set_mask_key(key_dropout(both), seed=1, step=2)
    x = wanted = seeded(1, TIME, BATCH, FEATURES)
    for number, single in enumerate(singles):
        if number:
            positions = torch.arange(wanted.numel()).view(wanted.shape)
            kept = keep_mask(mask_key(1, 2), number - 1, positions, drop_threshold(0.4))
            wanted = wanted * kept / 0.6
        wanted = single(wanted)[0]
    assert relative_error(both(x)[0], wanted) <= GRADIENT_FLOAT64


def test_what_is_not_covered_is_torch_nn() -> None:
    packed = pack_padded_sequence(seeded(1, TIME, BATCH, FEATURES), [7, 6, 5, 2, 1])
    for options, x in (
        ({"proj_size": 2}, seeded(1, TIME, BATCH, FEATURES)),
        ({}, seeded(1, TIME, FEATURES)),
        ({}, packed),
    ):
        theirs, ours = pair(nn.LSTM, options)
        assert torch.equal(ours(x)[1][0], theirs(x)[1][0])
    theirs, ours = pair(nn.LSTM, {"num_layers": 2, "dropout": 0.5})
    drawn = []
    for layer in (theirs, ours):
        torch.manual_seed(1)
        drawn.append(layer.train()(seeded(1, TIME, BATCH, FEATURES))[0])
    assert torch.equal(drawn[1], drawn[0])
