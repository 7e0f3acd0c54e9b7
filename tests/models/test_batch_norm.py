"""Batch norm that can be stacked, against that of torch.nn alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from optrial.models import make_stackable
from tests.models.stacks import (
    Tensors,
    gradients_alone,
    gradients_of_all,
    loss_of_one,
    over_runs,
    relative_error,
    seeded,
    stacked,
)
from tests.tolerance import BATCH_NORM_BFLOAT16, GRADIENT_FLOAT64

SHAPE = (2, 2)
LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "1d": (nn.BatchNorm1d, (7, 3)),
    "1d, sequences": (nn.BatchNorm1d, (7, 3, 4)),
    "2d": (nn.BatchNorm2d, (7, 3, 4, 5)),
    "3d": (nn.BatchNorm3d, (7, 3, 2, 2, 3)),
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"momentum": 0.3, "eps": 1e-3},
    {"momentum": None},
    {"affine": False},
    {"track_running_stats": False},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_it_equals_torch_nn_over_training_and_evaluation(
    kind: str, options: dict[str, Any]
) -> None:
    layer, shape = LAYERS[kind]
    theirs = layer(3, **options).double()
    ours = copy.deepcopy(theirs)
    assert make_stackable(ours) == 1
    for step in range(20):
        for model in (theirs, ours):
            model.zero_grad()
        inputs = [(2 * seeded(step, *shape) + 1).requires_grad_() for _ in range(2)]
        outputs = [theirs(inputs[0]), ours(inputs[1])]
        for output in outputs:
            (output**3).sum().backward()
        assert relative_error(outputs[1], outputs[0]) <= GRADIENT_FLOAT64
        assert relative_error(inputs[1].grad, inputs[0].grad) <= GRADIENT_FLOAT64
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert relative_error(mine.grad, other.grad) <= GRADIENT_FLOAT64
        for name, buffer in theirs.named_buffers():
            mine = ours.get_buffer(name)
            assert mine.dtype == buffer.dtype
            assert not mine.requires_grad
            assert relative_error(mine.double(), buffer.double()) <= GRADIENT_FLOAT64
    states = [theirs.eval().state_dict(), ours.eval().state_dict()]
    x = seeded(99, *shape)
    assert relative_error(ours(x), theirs(x)) <= GRADIENT_FLOAT64
    assert list(states[0]) == list(states[1])
    theirs.load_state_dict(states[1])


def test_it_assigns_new_buffers_and_writes_into_none() -> None:
    layer = nn.BatchNorm1d(3)
    make_stackable(layer)
    before = dict(layer.named_buffers())
    kept = {name: buffer.clone() for name, buffer in before.items()}
    layer(torch.randn(5, 3))
    for name, buffer in before.items():
        assert torch.equal(buffer, kept[name])
        assert layer.get_buffer(name) is not buffer
    after = dict(layer.eval().named_buffers())
    layer(torch.randn(5, 3))
    assert all(layer.get_buffer(name) is buffer for name, buffer in after.items())


def test_it_finds_every_layer_and_leaves_others_alone() -> None:
    class Own(nn.BatchNorm1d):
        pass

    model = nn.ModuleDict(
        {"deep": nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm3d(2))), "own": Own(2)}
    )
    model["shared"] = model["deep"][0]
    assert make_stackable(model) == 2
    assert type(model["own"]) is Own
    assert isinstance(model["deep"][0], nn.BatchNorm1d)
    assert make_stackable(model) == 0


def test_inputs_of_the_wrong_dimension_are_refused_as_in_torch_nn() -> None:
    layer = nn.BatchNorm2d(3)
    make_stackable(layer)
    with pytest.raises(ValueError, match="expected 4D input"):
        layer(torch.zeros(5, 3))


@pytest.mark.parametrize("whole", [False, True], ids=["activations", "activations and layer"])
def test_statistics_of_bfloat16_activations_are_not_rounded(whole: bool) -> None:
    layer = nn.BatchNorm1d(1)
    make_stackable(layer)
    x = (1 + torch.arange(2.0**12) / 2**12).unsqueeze(1)  # a sum in bfloat16 would stop growing
    rounded = x.to(torch.bfloat16)
    if whole:
        layer.to(torch.bfloat16)
    outputs = layer(rounded)
    exact = rounded.double()
    expected = (exact - exact.mean()) / (exact.var(correction=0) + layer.eps).sqrt()
    assert outputs.dtype == torch.bfloat16
    assert relative_error(outputs.double(), expected) <= BATCH_NORM_BFLOAT16
    assert layer.running_mean.dtype == (torch.bfloat16 if whole else torch.float32)
    assert relative_error(layer.running_mean.double()[0], exact.mean() / 10) <= BATCH_NORM_BFLOAT16


def network(seed: int, momentum: float | None = 0.1) -> nn.Module:
    """Batch norm first, where settings share their inputs, after a convolution and on vectors."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3, momentum=momentum),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 4),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Linear(4, 3),
    ).double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def check_a_stack(compiled: bool, momentum: float | None = 0.1) -> None:
    """Train five steps; every run must be the run alone by torch.nn, buffers included."""
    alone = [network(seed, momentum) for seed in range(4)]
    models = copy.deepcopy(alone)
    for model in models:
        make_stackable(model)
    params, buffers = stacked(models, SHAPE)
    base = models[0].to("meta")
    differentiate = gradients_of_all(base)
    if compiled:
        differentiate = torch.compile(differentiate, dynamic=False)
    for step in range(5):
        x = seeded(step, 2, 6, 2, 5, 5)
        y = torch.arange(12).view(2, 6) % 3
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        gradients, (losses, after) = differentiate(params, buffers, x, y)
        assert all(torch.equal(buffers[name], copies[name]) for name in buffers)
        for run, model in enumerate(alone):
            seed, setting = divmod(run, 2)
            loss, expected = gradients_alone(model, x[seed], y[seed])
            check_run(gradients, expected, seed, setting)
            check_run(after, dict(model.named_buffers()), seed, setting)
            assert relative_error(losses[seed, setting], loss) <= GRADIENT_FLOAT64
            for name, parameter in model.named_parameters():
                parameter.data -= 0.1 * expected[name]
        params = {name: value - 0.1 * gradients[name] for name, value in params.items()}
        buffers = after
    check_evaluation(base, alone, params, buffers)


def check_run(stack: Tensors, expected: Tensors, seed: int, setting: int) -> None:
    assert stack.keys() == expected.keys()
    for name, value in expected.items():
        mine = stack[name][seed, setting]
        assert relative_error(mine.double(), value.double()) <= GRADIENT_FLOAT64, name


def check_evaluation(
    base: nn.Module, alone: list[nn.Module], params: Tensors, buffers: Tensors
) -> None:
    """In evaluation no buffer may change, and each run uses its own."""
    base.eval()
    x, y = seeded(50, 2, 9, 2, 5, 5), torch.arange(18).view(2, 9) % 3
    losses, after = over_runs(loss_of_one(base))(params, buffers, x, y)
    assert all(torch.equal(after[name], buffer) for name, buffer in buffers.items())
    for run, model in enumerate(alone):
        seed, setting = divmod(run, 2)
        loss = nn.functional.cross_entropy(model.eval()(x[seed]), y[seed])
        assert relative_error(losses[seed, setting], loss.detach()) <= GRADIENT_FLOAT64


@pytest.mark.parametrize("momentum", [0.1, None])
def test_each_run_of_a_stack_is_the_run_alone(momentum: float | None) -> None:
    check_a_stack(compiled=False, momentum=momentum)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, at first use
def test_each_run_of_a_compiled_stack_is_the_run_alone() -> None:
    check_a_stack(compiled=True)


def test_bfloat16_activations_can_be_stacked() -> None:
    """Products in bfloat16, batch norm's parameters and statistics in float32."""
    alone = [network(seed).float() for seed in range(4)]
    models = copy.deepcopy(alone)
    for model in models:
        make_stackable(model)
    params, buffers = stacked(models, SHAPE)
    base = models[0].to("meta")
    x = seeded(0, 2, 6, 2, 5, 5).float()

    def outputs(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return functional_call(base, params | buffers, (x,))

    logits = torch.vmap(torch.vmap(outputs, in_dims=(0, 0, None)))(params, buffers, x)
    for run, model in enumerate(alone):
        seed, setting = divmod(run, 2)
        with torch.autocast("cpu", torch.bfloat16):
            expected = model(x[seed])
        error = relative_error(logits[seed, setting].float(), expected.float())
        assert error <= BATCH_NORM_BFLOAT16
