"""What users bring: models, losses, metrics, rules and optimizers, as their modules would have."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from optrial.rules import RULES, Rule


def small_network(input_shape: tuple[int, ...], classes: int, width: int = 8) -> nn.Module:
    """A function that asks for what the data knows."""
    return nn.Sequential(
        nn.Linear(input_shape[0], width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, classes)
    )


class Residual(nn.Module):
    """A class of one's own, with layer norm and a skip connection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.norm = nn.LayerNorm(width)
        self.middle = nn.Linear(width, width)
        self.last = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return self.last(hidden + torch.relu(self.middle(self.norm(hidden))))


class Branching(Residual):
    """Control flow that depends on the data, which no stack can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(x)
        return outputs * 2 if outputs.sum().item() > 0 else outputs


class AlwaysDropping(Residual):
    """Dropout as a function, which does not know that the model is evaluated."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x), 0.5)


class Counting(Residual):
    """A buffer that is changed in place while training and used in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        return super().forward(x) / self.seen


class Tied(Residual):
    """One weight in two layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width)
        self.again = nn.Linear(width, width)
        self.again.weight = self.middle.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.again(torch.tanh(self.first(x))))
        return self.last(hidden + torch.tanh(self.middle(hidden)))


class PartlyTrained(Tied):
    """Besides, a layer that is frozen, and one that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(False)
        self.spare = nn.Linear(3, 4)


class Attending(nn.Module):
    """A transformer's layer over the coordinates of a point."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(1, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layer(self.first(x.unsqueeze(-1))).mean(1))


class Reading(nn.Module):
    """A recurrent layer of `torch.nn`, which reads the coordinates of a point."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.GRU(1, 6, num_layers=2, batch_first=True)
        self.last = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.layer(x.unsqueeze(-1))[0][:, -1])


def lazy(classes: int) -> nn.Module:
    """Layers that learn their sizes from data."""
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(classes))


def without_memory() -> nn.Module:
    return nn.Linear(2, 2, device="meta")


def all_frozen() -> nn.Module:
    return Residual().requires_grad_(False)


def not_a_module() -> str:
    return "a string"


def wide() -> nn.Module:
    return nn.Linear(4, 3)


def of_one_class(input_shape: tuple[int, ...], flat: bool = False) -> nn.Module:
    return nn.Sequential(nn.Linear(*input_shape, 1), *([nn.Flatten(0)] if flat else []))


class OwnLoss(nn.Module):
    """A linear autoencoder that returns its loss."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(*input_shape, *input_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((self.layer(x) - x) ** 2).mean()


class DropsTwice(Residual):
    """One dropout layer in two places, where it has to draw twice."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.first(x)))
        return self.last(hidden + self.drop(torch.relu(self.middle(self.norm(hidden)))))


class Pair(Residual):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def of_three(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A metric that takes three classes for granted."""
    return outputs[:, 2] * targets


def focal_loss(outputs: torch.Tensor, targets: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Lin et al. 2017, equation 4."""
    log_probability = outputs.log_softmax(dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return -((1 - log_probability.exp()) ** gamma * log_probability).mean()


def error_rate(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """One value a sample."""
    return (outputs.argmax(dim=-1) != targets).float()


def half_adam() -> Rule:
    """A rule of one's own; here simply a catalogued one under another name."""
    return RULES["adam"]


class SignSGD(torch.optim.Optimizer):
    """An optimizer package in five lines."""

    def __init__(self, params: Any, lr: float = 0.01, betas: tuple[float, float] = (0, 0)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                memory = self.state[p].setdefault("memory", torch.zeros_like(p))
                memory.mul_(0.9).add_(p.grad)
                p.sub_(group["lr"] * memory.sign())
