from __future__ import annotations

import math
import re
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from optrial.errors import StudyError
from optrial.keyed import mask_key
from optrial.models import (
    ACTIVATIONS,
    build_model,
    check_model,
    drop_threshold,
    keep_mask,
    key_dropout,
    resolve_model,
    set_mask_key,
)
from optrial.models.initialization import Scheme
from tests.tolerance import SAMPLING_SIGMAS, sampled_share


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


def test_batch_norm_comes_before_each_activation() -> None:
    names = [type(layer).__name__ for layer in build(hidden=[8, 5], batch_norm=True).children()]
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert names == ["Flatten", "Dropout", *hidden, *hidden, "Linear"]


@pytest.mark.parametrize(
    ("batch_norm", "bias", "biased"),
    [
        (False, None, [True, True]),
        (True, None, [False, True]),
        (True, True, [True, True]),
        (True, False, [False, False]),
    ],
)
def test_layers_before_batch_norm_need_no_bias(
    batch_norm: bool, bias: bool | None, biased: list[bool]
) -> None:
    options = {} if bias is None else {"bias": bias}
    model = build(hidden=[8], batch_norm=batch_norm, **options)
    layers = [layer for layer in model.children() if isinstance(layer, nn.Linear)]
    assert [layer.bias is not None for layer in layers] == biased


def test_the_record_of_a_plain_mlp_says_that_it_has_biases() -> None:
    assert resolve_model("mlp", {})["bias"] is True
    assert resolve_model("mlp", {"batch_norm": True})["bias"] is None


def test_logistic_regression_is_one_linear_layer() -> None:
    for bias in (True, False):
        model = build_model("logistic", {"bias": bias}, input_shape=(2, 3), classes=4, seed=0)
        assert shapes(model) == [(4, 6), (4,)][: 1 + bias]
        x = torch.randn(5, 2, 3)
        linear = model[-1]
        assert torch.equal(model(x), nn.functional.linear(x.flatten(1), linear.weight, linear.bias))


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


def initialized(kind: str, name: str) -> tuple[nn.Module, torch.Tensor, int, int]:
    """Return a layer, a weight of it that is drawn as one, and how many inputs and outputs it has.

    The recurrent weight is that of the last gate of a GRU.
    """
    options = {"initialization": {"name": name, "std": 0.03} if name == "normal" else name}

    def layer(number: int, model: str, shape: tuple[int, ...], **keys: object) -> nn.Module:
        arguments = keys | options
        return build_model(model, arguments, input_shape=shape, classes=2, seed=0)[number]

    match kind:
        case "linear":
            linear = layer(1, "mlp", (300,), hidden=[200])
            return linear, linear.weight, 300, 200
        case "convolution":
            convolution = layer(0, "cnn", (30, 4, 4), widths=[50])
            return convolution, convolution.weight, 30 * 9, 50 * 9
        case "input of a gate":
            gru = layer(1, "rnn", (4, 150), hidden=200, cell="gru")
            return gru, gru.weight_hx[400:], 150, 200
        case _:
            gru = layer(1, "rnn", (4, 150), hidden=200, cell="gru")
            return gru, gru.weight_hh[400:], 200, 200


@pytest.mark.parametrize("kind", ["linear", "convolution", "input of a gate", "state of a gate"])
@pytest.mark.parametrize("name", [name for name in get_args(Scheme) if name != "torch_default"])
def test_initialization_has_the_stated_spread(name: str, kind: str) -> None:
    layer, weight, n_in, n_out = initialized(kind, name)
    glorot = 2 / (n_in + n_out)
    variance = {
        "xavier_normal": glorot,
        "xavier_uniform": glorot,
        "kaiming_normal": 2 / n_in,
        "kaiming_uniform": 2 / n_in,
        "kaiming_normal_fan_out": 2 / n_out if kind == "convolution" else glorot,
        "normal": 0.03**2,
        "fan_in_normal": 1 / n_in,
    }[name]
    # The variance of n normal draws has standard error sqrt(2/n); of uniform ones it is smaller.
    error = SAMPLING_SIGMAS * math.sqrt(2 / weight.numel())
    assert weight.var().item() == pytest.approx(variance, rel=error)
    assert abs(weight.mean().item()) < SAMPLING_SIGMAS * math.sqrt(variance / weight.numel())
    assert not any(value.any() for key, value in layer.named_parameters() if "bias" in key)
    if name.endswith("uniform"):
        assert weight.abs().max().item() <= math.sqrt(3 * variance)


def test_weights_are_drawn_in_order_of_registration_and_batch_norm_keeps_its_own() -> None:
    arguments = {"widths": [3, 4], "bias": True, "initialization": "xavier_normal"}
    model = build_model("cnn", arguments, input_shape=(2, 5, 5), classes=3, seed=7)
    torch.manual_seed(7)
    plain = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Linear(16, 3),
    )
    for layer in (plain[0], plain[2], plain[4]):
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"hiden": [3]}, "hiden", "Did you mean 'hidden'?"),
        ({"hidden": [0]}, "hidden[0]", "greater than or equal to 1"),
        ({"hidden": 3}, "hidden", "must be a list"),
        ({"activation": "rleu"}, "activation", "Did you mean 'relu'?"),
        ({"dropout": 1.0}, "dropout", "less than 1"),
        ({"dropout": -0.1}, "dropout", "greater than or equal to 0"),
        ({"initialization": "normal"}, "initialization", "std applies only to"),
        (
            {"initialization": {"name": "xavier_normal", "std": 1.0}},
            "initialization",
            "std applies",
        ),
        ({"bias": "no"}, "bias", "must be true or false"),
    ],
)
def test_a_bad_argument_is_refused(arguments: dict[str, object], path: str, message: str) -> None:
    problems = {problem.path: problem.message for problem in check_model("mlp", arguments)}
    assert message in problems[path]
    with pytest.raises(StudyError, match=re.escape(message)):
        resolve_model("mlp", arguments)


def test_an_unknown_model_is_refused() -> None:
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
    error = sampled_share(0.75, len(positions))
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
    rows = model(inputs)
    torch.testing.assert_close(rows[0], rows[1])  # rows of one product may round differently


def test_what_a_user_derives_from_a_layer_stays_what_it_is() -> None:
    class Own(nn.Dropout):
        pass

    class Reader(nn.LSTM):
        pass

    model = nn.ModuleList([Own(0.5), Reader(2, 3, num_layers=2, dropout=0.5)])
    assert key_dropout(model) == []
    assert [type(layer) for layer in model] == [Own, Reader]


def test_a_layer_in_two_places_draws_twice_the_same_in_each_pass() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.drop(x), self.drop(x)])

    model = Twice()
    set_mask_key(key_dropout(model), 0, 1)
    first, second = model(torch.ones(40, 50)) > 0
    once = nn.Sequential(nn.Dropout(0.5))
    set_mask_key(key_dropout(once), 0, 1)
    assert torch.equal(first, once(torch.ones(40, 50)) > 0)
    both = (first & second).double().mean().item()
    assert both == pytest.approx(0.25, abs=sampled_share(0.25, 2000))
    assert torch.equal(model(torch.ones(40, 50)) > 0, torch.stack([first, second]))


@pytest.mark.parametrize(
    ("kind", "size"), [(nn.Dropout1d, (7,)), (nn.Dropout2d, (3, 5)), (nn.Dropout3d, (2, 3, 4))]
)
def test_whole_channels_are_dropped(kind: type[nn.Module], size: tuple[int, ...]) -> None:
    model = nn.Sequential(kind(0.4), nn.Dropout(0.4))
    first, second = key_dropout(model)
    set_mask_key([first], 0, 1)
    output = first(torch.ones(60, 50, *size)).flatten(2)
    assert torch.equal(output, output[..., :1].expand_as(output))
    kept = (output[..., 0] > 0).double()
    assert kept.mean().item() == pytest.approx(0.6, abs=sampled_share(0.6, 3000))
    assert output.max().item() == pytest.approx(1 / 0.6)
    assert (first.layer, second.layer, second.spatial_dims) == (0, 1, None)


def test_keyed_dropout_keeps_the_expectation() -> None:
    model = nn.Sequential(nn.Dropout(0.4))
    set_mask_key(key_dropout(model), 0, 1)
    output = model(torch.ones(200, 200))
    assert output.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert 0.6 * output.mean().item() == pytest.approx(0.6, abs=sampled_share(0.6, 200**2))
