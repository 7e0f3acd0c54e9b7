"""The convolutional network: its layers, their shapes, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from optrial.errors import StudyError
from optrial.models import build_model, check_input_shape, check_model

WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
POOLED = (1, 2, 4, 6, 8)


def build(input_shape: tuple[int, ...] = (3, 32, 32), **arguments: object) -> nn.Module:
    return build_model("cnn", arguments, input_shape=input_shape, classes=10, seed=0)


def out_size(size: int, kernel: int, padding: int, stride: int) -> int:
    """H_out = floor((H + 2p - k) / s) + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def expected_layers(
    input_shape: tuple[int, int, int], widths: tuple[int, ...], pooled: tuple[int, ...]
) -> list[tuple[str, tuple[int, ...]]]:
    """Every layer up to the flattened image, with the shape that it puts out."""
    _, height, width = input_shape
    layers = []
    for number, channels in enumerate(widths, start=1):
        height, width = (out_size(size, 3, 1, 1) for size in (height, width))
        layers += [(n, (channels, height, width)) for n in ("Conv2d", "BatchNorm2d", "ReLU")]
        if number in pooled:
            height, width = (out_size(size, 3, 1, 2) for size in (height, width))
            layers.append(("MaxPool2d", (channels, height, width)))
    return [*layers, ("Flatten", (channels * height * width,))]


def layers_at_work(model: nn.Module, input_shape: tuple[int, ...]) -> list[tuple[str, object]]:
    seen: list[tuple[str, object]] = []

    def note(layer: nn.Module, _: object, outputs: Tensor) -> None:
        seen.append((type(layer).__name__, tuple(outputs.shape[1:])))

    for layer in model.children():
        layer.register_forward_hook(note)
    model(torch.zeros(2, *input_shape))
    return seen


@pytest.mark.parametrize("input_shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (2, 9, 17)])
def test_every_layer_has_the_shape_of_the_formula(input_shape: tuple[int, int, int]) -> None:
    seen = layers_at_work(build(input_shape), input_shape)
    expected = expected_layers(input_shape, WIDTHS, POOLED)
    assert seen[:-2] == expected
    assert seen[-2:] == [("Dropout", expected[-1][1]), ("Linear", (10,))]


def test_the_default_ends_at_one_pixel_of_a_32_by_32_image() -> None:
    sizes = [shape[1] for name, shape in expected_layers((3, 32, 32), WIDTHS, POOLED)[:-1]]
    assert sizes[0] == 32
    assert sizes[-1] == 1
    assert layers_at_work(build(), (3, 32, 32))[-4] == ("MaxPool2d", (512, 1, 1))


@pytest.mark.parametrize("bias", [None, True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_number_of_parameters(batch_norm: bool, bias: bool | None) -> None:
    pairs = list(zip((3, *WIDTHS), WIDTHS, strict=False))
    weights = sum(9 * n_in * n_out for n_in, n_out in pairs) + 512 * 10
    of_convolutions = not batch_norm if bias is None else bias  # batch norm takes them off again
    biases = of_convolutions * sum(WIDTHS) + (bias is not False) * 10
    counted = weights + biases + batch_norm * 2 * sum(WIDTHS)
    model = build(batch_norm=batch_norm, bias=bias)
    assert sum(parameter.numel() for parameter in model.parameters()) == counted
    if batch_norm:
        assert counted == {None: 9_228_362, True: 9_231_114, False: 9_228_352}[bias]


@pytest.mark.parametrize(
    ("depth", "pooled"),
    [
        (1, {1}),
        (3, {1, 2, 3}),
        (8, {1, 2, 4, 6, 8}),
        (16, {2, 4, 8, 12, 16}),  # configuration E, VGG-19
    ],
)
def test_other_depths_pool_alike(depth: int, pooled: set[int]) -> None:
    expected = expected_layers((1, 32, 32), (4,) * depth, tuple(pooled))
    seen = layers_at_work(build((1, 32, 32), widths=[4] * depth), (1, 32, 32))
    assert seen[:-2] == expected


def test_pooling_goes_where_it_is_asked_for() -> None:
    model = build((1, 8, 8), widths=[4, 5, 6], pool_after=[2], batch_norm=False, dropout=0.3)
    names = [type(layer).__name__ for layer in model.children()]
    convolution = ["Conv2d", "ReLU"]
    pooling = ["MaxPool2d"]
    end = ["Flatten", "Dropout", "Linear"]
    assert names == [*convolution, *convolution, *pooling, *convolution, *end]
    assert model[-2].p == 0.3
    assert build((1, 8, 8), widths=[4], pool_after=[])[-1].in_features == 4 * 8 * 8


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"widths": []}, "widths", "must not be empty"),
        ({"widths": [8, 0]}, "widths[1]", "greater than or equal to 1"),
        ({"pool_after": [0, 2]}, "pool_after[0]", "greater than or equal to 1"),
        ({"pool_after": [2, 1]}, "pool_after", "ascending"),
        ({"pool_after": [2, 2]}, "pool_after", "ascending"),
        ({"width": [8]}, "width", "Did you mean 'widths'?"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], path: str, message: str) -> None:
    (problem,) = check_model("cnn", arguments)
    assert problem.path == path
    assert message in problem.message


def test_pooling_beyond_the_last_convolution_is_refused() -> None:
    arguments = {"widths": [8, 8], "pool_after": [1, 3, 4]}
    (problem,) = check_input_shape("cnn", arguments, (1, 8, 8))
    assert problem.path == "pool_after"
    assert "[3, 4]" in problem.message
    assert "from 1 to 2" in problem.message
    with pytest.raises(StudyError, match="from 1 to 2"):
        build((1, 8, 8), **arguments)


@pytest.mark.parametrize("input_shape", [(64,), (8, 8), (1, 8, 8, 8)])
def test_samples_that_are_not_images_are_refused(input_shape: tuple[int, ...]) -> None:
    (problem,) = check_input_shape("cnn", {}, input_shape)
    assert problem.path == "kind"
    assert "(channels, height, width)" in problem.message
    assert str(input_shape) in problem.message
    with pytest.raises(StudyError, match="takes images"):
        build(input_shape)
    assert not check_input_shape("mlp", {}, input_shape)
