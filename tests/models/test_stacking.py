"""Every model of the catalogue can be trained as a stack: a run in it is the run alone."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from optrial.models import MODELS, build_model, key_dropout, make_stackable, set_mask_key
from tests.models.stacks import (
    gradients_alone,
    gradients_of_all,
    relative_error,
    seeded,
    stacked,
)
from tests.tolerance import GRADIENT_FLOAT64


class Case(NamedTuple):
    model: str
    arguments: dict[str, Any]
    input_shape: tuple[int, ...]
    vocabulary: int | None = None


IMAGE = (2, 8, 6)
SMALL = {"widths": [3, 4, 5]}
TINY = {"width": 8, "heads": 2, "depth": 2, "pool": "last"}
GROUPS: dict[str, dict[str, Any]] = {"batch": {}, "group": {"groups": 2}, "none": {}}
CASES = [
    Case("logistic", {}, IMAGE),
    Case("logistic", {"bias": False}, (5,)),
    Case("mlp", {"hidden": []}, (5,)),
    Case("mlp", {"hidden": [6, 5]}, IMAGE),
    Case("mlp", {"hidden": [6, 5], "batch_norm": True, "activation": "tanh"}, (5,)),
    Case("mlp", {"hidden": [70], "batch_norm": True, "dropout": 0.3, "bias": False}, IMAGE),
    Case("mlp", {"hidden": [6], "dropout": 0.3, "input_dropout": 0.1}, (5,)),
    Case("mlp", {"hidden": [6, 6, 6], "layer_norm": True, "residual": True}, (5,)),
    Case("mlp", {"hidden": [6, 6], "batch_norm": True, "residual": True, "dropout": 0.3}, IMAGE),
    Case("convnet", {"widths": [4, 6], "dropout": 0.3}, IMAGE),
    Case("convnet", {"widths": [4, 6], "norm": "group", "groups": 2}, (1, 5, 5)),
    *(Case("resnet", {"width": 4, "norm": n} | GROUPS[n], IMAGE) for n in GROUPS),
    Case("resnet", {"width": 2, "layers": 18}, IMAGE),
    Case("vit", TINY | {"patch": 2, "pool": "mean"}, IMAGE),
    Case("vit", TINY | {"patch": 2, "pool": "first", "dropout": 0.3, "norm": "rms"}, IMAGE),
    Case("autoencoder", {"hidden": [6], "code": 2}, (3,)),
    Case("autoencoder", {"hidden": [6], "code": 2, "widths": [3, 4], "activation": "tanh"}, IMAGE),
    Case("cnn", SMALL, IMAGE),
    Case("cnn", SMALL | {"bias": True}, IMAGE),
    Case("cnn", SMALL | {"batch_norm": False}, IMAGE),
    Case("cnn", SMALL | {"pool_after": [2], "dropout": 0.3, "bias": False}, (1, 5, 5)),
    Case("cnn", SMALL | {"pool_after": []}, (3, 4, 4)),
    *(
        Case("rnn", {"hidden": 6, "cell": cell, "dropout": dropout}, shape)
        for cell in ("rnn", "gru", "lstm")
        for dropout, shape in ((0.0, (9,)), (0.3, (4, 3)), (0.0, IMAGE))
    ),
    Case("transformer", TINY, (5,), 7),
    Case("transformer", TINY | {"dropout": 0.3, "architecture": "encoder"}, (5,), 7),
    Case("transformer", TINY | {"positions": "rotary", "norm": "rms"}, (5,), 7),
    Case("transformer", TINY | {"bias": False, "activation": "silu"}, (5,), 7),
]


def test_every_model_for_data_is_among_the_cases() -> None:
    assert {case.model for case in CASES} == MODELS.keys() - {"function"}  # which has no data


def build(case: Case, seed: int) -> nn.Module:
    model = build_model(
        case.model,
        case.arguments,
        input_shape=case.input_shape,
        classes=math.prod(case.input_shape) if case.model == "autoencoder" else 3,
        vocabulary=case.vocabulary,
        seed=seed,
    ).double()
    set_mask_key(key_dropout(model), seed=0, step=1)
    return model


def check(case: Case, backend: str | None = None) -> None:
    alone = [build(case, seed) for seed in range(4)]
    models = copy.deepcopy(alone)
    for model in models:
        make_stackable(model)
    params, buffers = stacked(models, (2, 2))
    differentiate = gradients_of_all(models[0].to("meta"))
    if backend:
        differentiate = torch.compile(differentiate, dynamic=False, backend=backend)
    x, y = seeded(9, 2, 6, *case.input_shape), torch.arange(12).view(2, 6) % 3
    if case.model == "autoencoder":  # cross entropy over the first axis takes values too
        y = x.softmax(2)
    if case.vocabulary is not None:
        x = (100 * x).long() % case.vocabulary
    gradients, (losses, after) = differentiate(params, buffers, x, y)
    for run, model in enumerate(alone):
        place = divmod(run, 2)
        loss, expected = gradients_alone(model, x[place[0]], y[place[0]])
        assert relative_error(losses[place], loss) <= GRADIENT_FLOAT64
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            assert relative_error(gradients[name][place], gradient) <= GRADIENT_FLOAT64, name
        for name, buffer in model.named_buffers():
            error = relative_error(after[name][place].double(), buffer.double())
            assert error <= GRADIENT_FLOAT64, name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_run_of_a_stack_is_the_run_alone(case: Case) -> None:
    check(case)


COMPILED = [
    Case("rnn", {"hidden": 6}, (5,)),
    Case("rnn", {"hidden": 6, "cell": "gru"}, (5,)),
    Case("rnn", {"hidden": 6, "cell": "lstm"}, (5,)),
    Case("cnn", SMALL, IMAGE),
    Case("mlp", {"hidden": [6], "batch_norm": True, "dropout": 0.3}, (5,)),
    Case("transformer", TINY | {"dropout": 0.3}, (5,), 7),
    Case("transformer", TINY | {"positions": "rotary", "norm": "rms"}, (5,), 7),
    Case("resnet", {"width": 4}, IMAGE),
    Case("vit", TINY | {"patch": 2, "pool": "first", "dropout": 0.3}, IMAGE),
    Case("autoencoder", {"hidden": [6], "code": 2, "widths": [3, 4]}, IMAGE),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_stacks_can_be_traced_as_one_program(case: Case) -> None:
    """By the compiler's front end, which is what can refuse a model, without machine code."""
    check(case, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_recurrent_stacks_can_be_compiled() -> None:
    check(COMPILED[0], backend="inductor")
