"""Models, losses and metrics as people write them, which are easily trained wrong."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Around(nn.Module):
    """Linear, some layer of 8 units, linear."""

    def __init__(self, inner: nn.Module, outputs: int = 2) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(2, 8), inner, nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(torch.tanh(self.first(x))))


class Called(nn.Module):
    """Uses a layer as a function says."""

    def __init__(self, layer: nn.Module, use: object) -> None:
        super().__init__()
        self.layer, self.use = layer, use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)  # type: ignore[operator]


def _counted(module: nn.Module, x: Tensor) -> Tensor:
    module.count = getattr(module, "count", 0) + module.training
    return module.layer(x) * (1 + 0.1 * module.count)


def _made(module: nn.Module, x: Tensor) -> Tensor:
    if not hasattr(module, "late"):
        module.late = nn.Linear(8, 8)
    return module.late(module.layer(x))


def _shifted(module: nn.Module, x: Tensor) -> Tensor:
    x -= 0.5
    return module.layer(x)


class NoReturn(Around):
    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


class Hinted(nn.Module):
    """Stays in use by its rate, as fused attention uses dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.drop.p if self.training else 0.0)


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(3, 8, padding_idx=1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embedding((x > 0).long()).mean(1))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.utils.weight_norm(nn.Linear(8, 8))
        self.unused = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def plain() -> nn.Module:
    return Around(nn.ReLU())


class Later(nn.Module):
    """Changes after some steps, which it counts in an attribute or a buffer.

    Args:
        change: what changes.
    """

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change = change
        self.layer, self.more = nn.Linear(8, 8), nn.Linear(8, 8)
        self.more.weight.requires_grad_(change != "unfreeze")
        self.steps = 0
        if change == "buffer":
            del self.steps
            self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        if self.change in ("scale", "buffer"):
            return self.layer(x) * (1 + 0.1 * self.steps)
        if self.change == "grow":
            return self.more(x) if self.steps > 4 else self.layer(x)
        if self.steps == 6 and self.change == "unfreeze":
            self.more.weight.requires_grad_()
        if self.steps == 6 and self.change == "replace":
            self.more = copy.deepcopy(self.more)
        return self.more(self.layer(x))


class Centred(nn.Module):
    """Subtracts a running mean, a buffer.

    Args:
        in_place: whether it changes the buffer or replaces it.
    """

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        batch = 0.1 * x.detach().mean(0)
        if self.training and self.in_place:
            self.mean.mul_(0.9).add_(batch)
        elif self.training:
            self.mean = 0.9 * self.mean + batch
        return torch.relu(x - self.mean)


class Once(nn.Module):
    """Computes an attribute at its first use."""

    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.linspace(0, 1, 8)
        return x * self.mask


def later(change: str) -> nn.Module:
    return Around(Later(change))


def normalized() -> nn.Module:
    return Around(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))


def centred(in_place: bool = True) -> nn.Module:
    return Around(Centred(in_place))


def once() -> nn.Module:
    return Around(Once())


def one_output() -> nn.Module:
    return Around(nn.ReLU(), outputs=1)


def counting() -> nn.Module:
    return Around(Called(nn.Linear(8, 8), _counted))


def made_late() -> nn.Module:
    return Around(Called(nn.Linear(8, 8), _made))


def shifting() -> nn.Module:
    return Called(Around(nn.ReLU()), _shifted)


def no_return() -> nn.Module:
    return NoReturn(nn.BatchNorm1d(8))


def hinted() -> nn.Module:
    return Around(Hinted())


def unused() -> nn.Module:
    return Around(Unused())


def hooked() -> nn.Module:
    model = Around(nn.Linear(8, 8))
    model.inner.weight.register_hook(lambda gradient: 0.1 * gradient)
    return model


def drawn_by_numpy() -> nn.Module:
    model = Around(nn.Linear(8, 8))
    model.inner.weight.data = torch.from_numpy(np.random.randn(8, 8).astype(np.float32))
    return model


def checkpointed(again: bool = False) -> nn.Module:
    layer = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Tanh())

    def use(module: nn.Module, x: Tensor) -> Tensor:
        for _ in range(1 + again):
            x = checkpoint(module.layer, x, use_reentrant=False)
        return x

    return Around(Called(layer, use))


def checkpointed_twice() -> nn.Module:
    return checkpointed(again=True)


def not_checkpointed() -> nn.Module:
    return Around(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Tanh()))


class WithParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs * self.weight, targets)


with_parameters = WithParameters()
_losses: list[int] = []


def remembering(outputs: Tensor, targets: Tensor) -> Tensor:
    _losses.append(1)
    return functional.cross_entropy(outputs, targets) * len(_losses)


def drawing_with_numpy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets) * (1 + 1e-6 * np.random.rand())


def drawing_with_python(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets) * (1 + 1e-6 * random.random())


def in_numpy(outputs: Tensor, targets: Tensor) -> Any:
    return functional.cross_entropy(outputs, targets).detach().numpy()


def without_gradient(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets).detach()


def in_float64(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, weight=torch.ones(2, dtype=torch.float64))


def one_element(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)[None]


def changing(outputs: Tensor, targets: Tensor) -> Tensor:
    targets.zero_()
    return functional.cross_entropy(outputs, targets)


def one_number(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs[:, 0] - targets) ** 2).mean()


def distance(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.dist(outputs[:, 0], targets[:, None].to(outputs.dtype))


def broadcast(outputs: Tensor, targets: Tensor) -> Tensor:
    pair = torch.broadcast_tensors(outputs[:, 0], targets[:, None])
    return (pair[0] - pair[1]).abs().mean()


class Averaging(nn.Module):
    """Adds products to a buffer by an operation that takes one type only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(x)
        if self.training:
            self.mean.lerp_(outputs.detach().mean(0), 0.1)
        return outputs


class Optional(nn.Module):
    """Has parts without parameters if asked for: a matrix, a convolution and a vector."""

    def __init__(self, empty: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        shapes = ((0, 5), (3, 0, 2, 2), (0,)) if empty else ()
        self.parts = nn.ParameterList(torch.zeros(shape) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layers(x)
        for part in self.parts:
            outputs = outputs + part.sum()
        return outputs
