from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from optrial.errors import StudyError
from optrial.models import (
    ACTIVATIONS,
    INITIALIZATIONS,
    build_model,
    check_model,
    drop_threshold,
    keep_mask,
    key_dropout,
    mask_key,
    resolve_model,
    set_mask_key,
)
from tests.tolerance import SAMPLING_SIGMAS


def build(seed: int | None = 0, **arguments: object) -> nn.Module:
    return build_model("mlp", arguments, input_shape=(1, 4, 4), classes=3, seed=seed)


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in model.parameters()]


def test_mlp_has_the_layers_asked_for() -> None:
    model = build(hidden=[8, 5], activation="tanh", dropout=0.5, input_dropout=0.2)
    names = [type(layer).__name__ for layer in model.children()]
    hidden = ["Linear", "Tanh", "Dropout"]
    assert names == ["Flatten", "Dropout", *hidden, *hidden, "Linear"]
    assert shapes(model) == [(8, 16), (8,), (5, 8), (5,), (3, 5), (3,)]
    assert model(torch.zeros(7, 1, 4, 4)).shape == (7, 3)


def test_mlp_without_bias_or_hidden_layer() -> None:
    assert shapes(build(hidden=[], bias=False)) == [(3, 16)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_builds(activation: str) -> None:
    assert build(activation=activation)(torch.zeros(1, 1, 4, 4)).isfinite().all()


def test_torch_default_is_what_a_plain_script_draws() -> None:
    torch.manual_seed(5)
    plain = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
    ours = build(seed=5, hidden=[8])
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build(seed=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", sorted(set(INITIALIZATIONS) - {"torch_default"}))
def test_initialization_has_the_stated_spread(name: str) -> None:
    n_in, n_out = 300, 200
    initialization = {"name": name, "std": 0.03} if name == "normal" else name
    arguments = {"hidden": [n_out], "initialization": initialization}
    model = build_model("mlp", arguments, input_shape=(n_in,), classes=2, seed=0)
    weight, bias = list(model.parameters())[:2]
    variance = {
        "xavier_normal": 2 / (n_in + n_out),
        "xavier_uniform": 2 / (n_in + n_out),
        "kaiming_normal": 2 / n_in,
        "kaiming_uniform": 2 / n_in,
        "normal": 0.03**2,
        "fan_in_normal": 1 / n_in,
    }[name]
    # The variance of n normal draws has standard error sqrt(2/n); of uniform ones it is smaller.
    error = SAMPLING_SIGMAS * math.sqrt(2 / weight.numel())
    assert weight.var().item() == pytest.approx(variance, rel=error)
    assert abs(weight.mean().item()) < SAMPLING_SIGMAS * math.sqrt(variance / weight.numel())
    assert not bias.any()
    if name.endswith("uniform"):
        assert weight.abs().max().item() <= math.sqrt(3 * variance)


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"hiden": [3]}, "hiden", "Did you mean 'hidden'?"),
        ({"hidden": [0]}, "hidden[0]", "greater than or equal to 1"),
        ({"hidden": 3}, "hidden", "tuple"),
        ({"activation": "rleu"}, "activation", "Did you mean 'relu'?"),
        ({"dropout": 1.0}, "dropout", "less than 1"),
        ({"dropout": -0.1}, "dropout", "greater than or equal to 0"),
        ({"initialization": "normal"}, "initialization", "std goes with"),
        ({"initialization": {"name": "xavier_normal", "std": 1.0}}, "initialization", "std goes"),
        ({"bias": "no"}, "bias", "boolean"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], path: str, message: str) -> None:
    problems = {problem.path: problem.message for problem in check_model("mlp", arguments)}
    assert message in problems[path]
    with pytest.raises(StudyError):
        resolve_model("mlp", arguments)


def test_unknown_model() -> None:
    (problem,) = check_model("mpl", {})
    assert "Did you mean 'mlp'?" in problem.message


def test_masks_are_the_same_on_numpy_and_torch() -> None:
    positions = np.arange(1000)
    key = mask_key(seed=3, step=7)
    on_numpy = keep_mask(key, 1, positions, drop_threshold(0.3))
    on_torch = keep_mask(torch.tensor(key), 1, torch.from_numpy(positions), drop_threshold(0.3))
    assert np.array_equal(on_numpy, on_torch.numpy())


def test_masks_keep_the_right_share_and_are_uncorrelated() -> None:
    positions = np.arange(20_000)
    names = [(seed, step, layer) for seed in (0, 1) for step in (1, 2, 3) for layer in (0, 1)]
    masks = np.stack(
        [keep_mask(mask_key(s, t), n, positions, drop_threshold(0.25)) for s, t, n in names]
    )
    error = SAMPLING_SIGMAS * math.sqrt(0.25 * 0.75 / len(positions))
    assert masks.mean(axis=1) == pytest.approx(0.75, abs=error)
    correlation = np.corrcoef(masks) - np.eye(len(names))
    assert np.abs(correlation).max() < SAMPLING_SIGMAS / math.sqrt(len(positions))
    neighbours = np.corrcoef(masks[0][:-1], masks[0][1:])[0, 1]
    assert abs(neighbours) < SAMPLING_SIGMAS / math.sqrt(len(positions))


def test_a_higher_rate_drops_what_a_lower_one_drops() -> None:
    def kept(rate: float) -> np.ndarray:
        return keep_mask(mask_key(0, 1), 0, np.arange(1000), drop_threshold(rate))

    assert (kept(0.2) >= kept(0.6)).all()


def test_keyed_dropout_replaces_every_dropout_and_numbers_it() -> None:
    model = build(hidden=[50, 50], dropout=0.5, input_dropout=0.2)
    layers = key_dropout(model)
    assert not any(type(layer) is nn.Dropout for layer in model.modules())
    inputs = torch.ones(8, 1, 4, 4)
    set_mask_key(layers, seed=0, step=1)
    first = model(inputs)
    assert torch.equal(first, model(inputs))
    set_mask_key(layers, seed=0, step=2)
    assert not torch.equal(first, model(inputs))
    model.eval()
    assert torch.equal(model(inputs)[0], model(inputs)[1])


def test_keyed_dropout_keeps_the_expectation() -> None:
    model = nn.Sequential(nn.Dropout(0.4))
    set_mask_key(key_dropout(model), 0, 1)
    output = model(torch.ones(200, 200))
    assert output.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert output.mean().item() == pytest.approx(
        1, abs=SAMPLING_SIGMAS * math.sqrt(0.4 / 0.6) / 200
    )
