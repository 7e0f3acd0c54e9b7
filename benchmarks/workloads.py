"""Workloads of the benchmarks: models, shapes, batch sizes, data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from optrial.data import Dataset, Split
from optrial.spec import RunSpec
from optrial.study import Study

SAMPLES = 10_000  # more would only cost memory: each step gathers one batch
WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
POOL_AFTER = (1, 2, 4, 6, 8)

Precision = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True)
class Workload:
    """A model, its batches, and the number of runs of a study.

    Attributes:
        about: short description.
        module: builds the model in plain PyTorch, for the other contenders.
        model: the same for a study: ``kind`` and arguments of the catalogue, or a ``factory``.
        input_shape: of one sample.
        classes: number of classes.
        batch_size: samples per step.
        runs: number of runs of a study, with different learning rates.
        steps: steps of a whole run, to which times are extrapolated; None for no extrapolation.
        stacked: whether ours is a compiled stack; otherwise optrial chooses.
        cuda_only: too large for a few CPU cores.
        vocabulary: number of tokens, if inputs are tokens with a label each; None for numbers.
    """

    about: str
    module: Callable[[], nn.Module]
    model: Mapping[str, Any]
    input_shape: tuple[int, ...]
    classes: int
    batch_size: int
    runs: int
    steps: int | None = None
    stacked: bool = True
    cuda_only: bool = field(default=False, kw_only=True)
    vocabulary: int | None = field(default=None, kw_only=True)

    def data(self) -> Dataset:
        """Random samples; speed does not depend on their values."""
        generator = np.random.default_rng(0)
        shape = (SAMPLES, *self.input_shape)
        inputs: NDArray[Any]
        if self.vocabulary is None:
            inputs = generator.standard_normal(shape, np.float32)
            targets = generator.integers(0, self.classes, SAMPLES)
        else:
            inputs = generator.integers(0, self.vocabulary, shape)
            targets = generator.integers(0, self.classes, shape)
        splits = {"train": Split(inputs, targets), "test": Split(inputs[:100], targets[:100])}
        kind: Literal["labels", "positions"] = "labels" if targets.ndim == 1 else "positions"
        return Dataset(
            "random", splits, self.classes, "0" * 64, kind=kind, vocabulary=self.vocabulary
        )

    def specs(self, dataset: Dataset, precision: Precision = "float32") -> tuple[RunSpec, ...]:
        """Return the runs: Adam with different learning rates, one seed."""
        tokens = {"name": "coriolanus", "context": self.input_shape[0]}
        study = Study(
            problem={
                "dataset": "digits" if self.vocabulary is None else tokens,
                "model": dict(self.model),
            },
            batch_size=self.batch_size,
            budget={"steps": 10**9},
            drop_last=True,
            seeds=1,
            precision=precision,
            optimizers=[{"rule": "adam", "lr": {"log": [1e-4, 1e-2], "points": self.runs}}],
        )
        return study.plan(dataset).runs

    def flops(self) -> int:
        """Count the floating-point operations of the products of one run's step, both passes.

        The counter does not support oneDNN's LSTM (float32) and fused attention.
        """
        dtype = torch.float64 if self.vocabulary is None else torch.int64
        inputs = torch.zeros(self.batch_size, *self.input_shape, dtype=dtype)
        positions = () if self.vocabulary is None else self.input_shape
        targets = torch.zeros(self.batch_size, *positions, dtype=torch.int64)
        network = self.module().double()
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            nn.functional.cross_entropy(network(inputs), targets).backward()
        return int(counter.get_total_flops())


def mlp(*sizes: int) -> Callable[[], nn.Module]:
    """Return a function that builds an MLP of one hidden layer."""
    inputs, hidden, classes = sizes
    return lambda: nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class Recurrent(nn.Module):
    """A vanilla RNN with a linear read-out of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 128, batch_first=True)
        self.linear = nn.Linear(128, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (batch, time, 1) to (batch, 10)."""
        outputs, _ = self.rnn(inputs)
        logits: torch.Tensor = self.linear(outputs[:, -1])
        return logits


class LastState(nn.Module):
    """PyTorch's LSTM over rows of 8 numbers, with a linear read-out of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.linear = nn.Linear(64, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (batch, 8, 8) to (batch, 10)."""
        outputs, _ = self.lstm(rows)
        logits: torch.Tensor = self.linear(outputs[:, -1])
        return logits


class Encoder(nn.Module):
    """Two layers of PyTorch's transformer with default dropout, over rows of 8 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.linear = nn.Linear(32, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (batch, 8, 8) to (batch, 10)."""
        logits: torch.Tensor = self.linear(self.encoder(self.embedding(rows)).mean(1))
        return logits


class GPT(nn.Module):
    """A decoder of 2 layers, width 32, over 32 of 65 tokens, as such a script is written."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(65, 32), nn.Embedding(32, 32)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(32),
                    "project_in": nn.Linear(32, 96),
                    "project_out": nn.Linear(32, 32),
                    "mlp": nn.Sequential(
                        nn.LayerNorm(32), nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32)
                    ),
                }
            )
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 65)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (batch, 32) to logits (batch, 65, 32)."""
        values = self.embedding(tokens) + self.positions.weight
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            projected = block["project_in"](block["norm"](values)).unflatten(-1, (3, 4, 8))
            query, key, value = (part.transpose(1, 2) for part in projected.unbind(2))
            attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            values = values + block["project_out"](attended.transpose(1, 2).flatten(2))
            values = values + block["mlp"](values)
        logits: torch.Tensor = self.head(self.norm(values))
        return logits.mT


def vgg() -> nn.Module:
    """Return a VGG-like network with batch norm for images 3 x 32 x 32."""
    layers: list[nn.Module] = []
    for number, (before, width) in enumerate(pairwise((3, *WIDTHS)), start=1):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        if number in POOL_AFTER:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1], 10))


class ViT(nn.Module):
    """A vision transformer of 2 layers, width 32, over 16 patches of 8 x 8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 2, 2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, 32))
        layer = nn.TransformerEncoderLayer(
            32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, 3, 8, 8) to (batch, 10)."""
        values = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: torch.Tensor = self.head(self.norm(self.encoder(values)).mean(1))
        return logits


class ResidualBlock(nn.Module):
    """The basic block of a residual network for CIFAR-10."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.more = width - before
        self.layers = nn.Sequential(
            nn.Conv2d(before, width, 3, 2 if self.more else 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Add the layers to a shortcut without parameters."""
        shortcut = images
        if self.more:
            shortcut = nn.functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
        return nn.functional.relu(self.layers(images) + shortcut)


def resnet() -> nn.Module:
    """Return the residual network of 20 layers for images 3 x 32 x 32."""
    widths = [16] * 3 + [32] * 3 + [64] * 3
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(ResidualBlock(*pair) for pair in pairwise((16, *widths))),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def _mlp(
    about: str, sizes: tuple[int, int, int], batch_size: int, runs: int, **more: Any
) -> Workload:
    inputs, hidden, classes = sizes
    model = {"kind": "mlp", "hidden": [hidden]}
    return Workload(about, mlp(*sizes), model, (inputs,), classes, batch_size, runs, **more)


WORKLOADS: Mapping[str, Workload] = {
    "W1": _mlp("moons MLP 2-20-2", (2, 20, 2), 128, 256),
    "W2": _mlp("MNIST MLP 784-100-10", (784, 100, 10), 100, 32),
    "W2x128": _mlp("W2 with 128 runs", (784, 100, 10), 100, 128, cuda_only=True),
    "W3": _mlp("CIFAR-10 MLP 3072-1000-10", (3072, 1000, 10), 128, 10, steps=78_200),
    "W4": Workload(
        "palindromes of 9, RNN 1-128-10",
        Recurrent,
        {"kind": "rnn", "hidden": 128, "cell": "rnn"},
        (9, 1),
        10,
        batch_size=128,
        runs=16,
    ),
    "W5": Workload(
        "CIFAR-10 VGG of 8 convolutions",
        vgg,
        {"kind": "cnn", "widths": list(WIDTHS), "pool_after": list(POOL_AFTER)},
        (3, 32, 32),
        10,
        batch_size=32,
        runs=4,
        stacked=False,
    ),
    "W7": Workload(
        "own model: nn.LSTM 8-64-10 over 8 rows",
        LastState,
        {"factory": "workloads:LastState"},
        (8, 8),
        10,
        batch_size=64,
        runs=16,
    ),
    "W8": Workload(
        "own model: transformer of 2 layers, width 32",
        Encoder,
        {"factory": "workloads:Encoder"},
        (8, 8),
        10,
        batch_size=64,
        runs=16,
    ),
    "W9": Workload(
        "GPT of 2 layers, width 32, context 32",
        GPT,
        {"kind": "transformer", "width": 32, "depth": 2, "heads": 4},
        (32,),
        65,
        batch_size=16,
        runs=8,
        vocabulary=65,
    ),
    "W10": Workload(
        "vision transformer of 2 layers, width 32, 16 patches",
        ViT,
        {"kind": "vit", "width": 32, "depth": 2, "heads": 4, "patch": 2},
        (3, 8, 8),
        10,
        batch_size=32,
        runs=8,
    ),
    "W11": Workload(
        "CIFAR-10 residual network of 20 layers",
        resnet,
        {"kind": "resnet", "layers": 20},
        (3, 32, 32),
        10,
        batch_size=32,
        runs=4,
        stacked=False,
    ),
}
