"""Inverted dropout, which the models have, is the dropout of textbooks with its weights scaled.

Textbooks (Srivastava et al. 2014) drop units with probability p in training and multiply the
weights that leave them by 1 - p in evaluation. Inverted dropout divides what it keeps by 1 - p in
training and leaves evaluation alone. With weights that are 1 / (1 - p) times as large, the network
of the textbook computes the same in both.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.keyed import mask_key
from optrial.models import build_model, drop_threshold, keep_mask, key_dropout, set_mask_key
from tests.tolerance import RULE_FLOAT64, sampled_share

Array = NDArray[np.float64]
Layer = tuple[Array, Array]  # a weight matrix (out, in) and a bias

SEED, STEP, FEATURES, HIDDEN = 3, 7, 12, (9, 6)
INPUTS = np.random.default_rng(0).standard_normal((5, FEATURES))


def inverted(rates: tuple[float, float]) -> nn.Module:
    """The MLP of the catalogue in float64, biases drawn too."""
    arguments = {"hidden": list(HIDDEN), "input_dropout": rates[0], "dropout": rates[1]}
    model = build_model("mlp", arguments, input_shape=(FEATURES,), classes=3, seed=SEED).double()
    set_mask_key(key_dropout(model), SEED, STEP)
    return model


def keep_rates(rates: tuple[float, float]) -> list[float]:
    """The probability with which what each linear layer reads is kept."""
    return [1 - rates[0], *[1 - rates[1]] * len(HIDDEN)]


def weights_of(model: nn.Module) -> list[Layer]:
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in linear]


def textbook(layers: list[Layer], masks: list[Array]) -> Array:
    """The logits of an MLP whose linear layers read what the masks leave, not rescaled."""
    values = INPUTS
    for number, ((weight, bias), mask) in enumerate(zip(layers, masks, strict=True)):
        values = (values * mask) @ weight.T + bias
        if number < len(HIDDEN):
            values = np.maximum(values, 0)
    return values


def masks_of(rates: tuple[float, float]) -> list[Array]:
    """The masks of this seed and step, of zeros and ones, for inputs and hidden layers."""
    key = mask_key(SEED, STEP)
    shapes = [(len(INPUTS), width) for width in (FEATURES, *HIDDEN)]
    thresholds = [drop_threshold(1 - kept) for kept in keep_rates(rates)]
    return [
        keep_mask(key, layer, np.arange(np.prod(shape)).reshape(shape), threshold).astype(float)
        for layer, (shape, threshold) in enumerate(zip(shapes, thresholds, strict=True))
    ]


def logits(model: nn.Module) -> Array:
    outputs: Array = model(torch.from_numpy(INPUTS)).detach().numpy()
    return outputs


@pytest.mark.parametrize("rates", [(0.0, 0.5), (0.2, 0.5), (0.75, 0.1)])
def test_evaluation_is_that_of_weights_times_the_keep_probability(
    rates: tuple[float, float],
) -> None:
    model, kept = inverted(rates), keep_rates(rates)
    trained = [(w / keep, b) for (w, b), keep in zip(weights_of(model), kept, strict=True)]
    np.testing.assert_allclose(
        logits(model.train()), textbook(trained, masks_of(rates)), rtol=RULE_FLOAT64
    )
    scaled = [(w * keep, b) for (w, b), keep in zip(trained, kept, strict=True)]
    everything = [np.ones(1)] * len(scaled)
    np.testing.assert_allclose(
        logits(model.eval()), textbook(scaled, everything), rtol=RULE_FLOAT64
    )


def test_evaluation_without_scaling_is_another_network() -> None:
    """What a script gets that drops without rescaling and evaluates the weights as they are."""
    model, kept = inverted((0.2, 0.5)), keep_rates((0.2, 0.5))
    trained = [(w / keep, b) for (w, b), keep in zip(weights_of(model), kept, strict=True)]
    unscaled = textbook(trained, [np.ones(1)] * len(trained))
    assert not np.allclose(logits(model.eval()), unscaled, rtol=RULE_FLOAT64)


def test_logits_can_be_dropped() -> None:
    """Half of them, in training alone; what is kept counts double."""
    arguments = {"hidden": [4], "output_dropout": 0.5}
    model = build_model("mlp", arguments, input_shape=(FEATURES,), classes=100, seed=SEED).double()
    set_mask_key(key_dropout(model), SEED, STEP)
    whole, dropped = logits(model.eval()), logits(model.train())
    kept = dropped != 0
    assert abs(kept.mean() - 0.5) < sampled_share(0.5, kept.size)
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=RULE_FLOAT64)
