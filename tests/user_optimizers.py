"""Optimizers of users that keep state in every place there is."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler, swa_utils

from optrial.rules import RULES, Rule


class Descent(torch.optim.Optimizer):
    """Gradient descent whose change can be replaced."""

    def __init__(self, params: Any, lr: float = 0.05) -> None:
        super().__init__(params, {"lr": lr})
        self.list = self.param_groups[0]["params"]
        self.setup()

    def setup(self) -> None: ...

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for index, p in enumerate(group["params"]):
                p.sub_(group["lr"] * self.change(p, index))

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad


class Counter(Descent):
    def setup(self) -> None:
        self.steps = 0

    def step(self, closure: Any = None) -> None:
        self.steps += 1
        super().step()

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad / self.steps


class OfModel(Descent):
    """Takes a model and keeps it, as AdamMini of pytorch_optimizer does."""

    def __init__(self, model: nn.Module, lr: float = 0.05) -> None:
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        super().__init__(model.parameters(), lr)


def of_model(params: Any, lr: float = 0.05) -> OfModel:
    return OfModel(nn.ParameterList(params), lr)


class WithinBackward(Descent):
    """Has no step, as LOMO."""

    def step(self, closure: Any = None) -> None:
        raise NotImplementedError


class Deques(Descent):
    """The mean of the last three gradients, in deques in a list."""

    def setup(self) -> None:
        self.last = [deque(maxlen=3) for _ in self.list]

    def change(self, p: Tensor, index: int) -> Any:
        self.last[index].append(p.grad.clone())
        return sum(self.last[index]) / len(self.last[index])


class ById(Descent):
    """Momentum in a dictionary by `id`, which is another in each process."""

    def setup(self) -> None:
        self.momentum: dict[int, Tensor] = {}

    def change(self, p: Tensor, index: int) -> Any:
        return self.momentum.setdefault(id(p), torch.zeros_like(p)).mul_(0.9).add_(p.grad)


class Noisy(Descent):
    """Three generators of its own."""

    def setup(self) -> None:
        self.torch = torch.Generator().manual_seed(3)
        self.numpy, self.python = np.random.default_rng(1), random.Random(5)

    def change(self, p: Tensor, index: int) -> Any:
        noise = torch.randn(p.shape, generator=self.torch) + self.numpy.normal()
        return p.grad + 0.1 * noise + 0.1 * self.python.random()


class Enclosed(Descent):
    """A counter in the closure of a function."""

    def setup(self) -> None:
        calls = 0

        def rate() -> float:
            nonlocal calls
            calls += 1
            return 1 / calls

        self.rate = rate

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad * self.rate()


class Flat(Descent):
    """Parameters that are views of one vector."""

    def setup(self) -> None:
        self.flat = torch.cat([p.detach().reshape(-1) for p in self.list])
        self.momentum = torch.zeros_like(self.flat)
        at = 0
        for p in self.list:
            p.data = self.flat[at : at + p.numel()].view_as(p)
            at += p.numel()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        gradient = torch.cat([p.grad.reshape(-1) for p in self.list])
        self.momentum.mul_(0.9).add_(gradient)
        self.flat.sub_(0.05 * self.momentum)


class Averaged(Descent):
    """Stochastic weight averaging from step 5 on, evaluated at the average."""

    def setup(self) -> None:
        self.steps, self.average, self.at_average = 0, None, False

    def step(self, closure: Any = None) -> None:
        super().step()
        self.steps += 1
        if self.steps < 5:
            return
        now = [p.detach().clone() for p in self.list]
        old, count = self.average or now, self.steps - 4
        self.average = [a + (p - a) / count for a, p in zip(old, now, strict=True)]

    def eval(self) -> None:
        if self.average and not self.at_average:
            self.swap()

    def train(self) -> None:
        if self.at_average:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        self.at_average = not self.at_average
        for index, p in enumerate(self.list):
            other = p.clone()
            p.copy_(self.average[index])
            self.average[index] = other


class AveragedModel(Descent):
    """Pulled towards an `AveragedModel` of a module that it holds."""

    def setup(self) -> None:
        self.copy = nn.Module()
        self.copy.values = nn.ParameterList(nn.Parameter(p.detach().clone()) for p in self.list)
        self.averaged = swa_utils.AveragedModel(self.copy)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        super().step()
        for mine, p in zip(self.copy.values, self.list, strict=True):
            mine.copy_(p)
        self.averaged.update_parameters(self.copy)

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad + 0.1 * (p - self.averaged.module.values[index].detach())


class Scheduled(Descent):
    """An optimizer and schedulers in attributes."""

    def setup(self) -> None:
        self.inner = torch.optim.SGD(self.list, 0.1, momentum=0.9)
        self.cosine = lr_scheduler.CosineAnnealingLR(self.inner, 50)
        self.plateau = lr_scheduler.ReduceLROnPlateau(self.inner)

    def step(self, closure: Any = None) -> None:
        self.inner.step()
        self.cosine.step()
        self.plateau.step(1.0)


class Generated(Descent):
    """Rates from a Python generator, whose position nobody can store."""

    def setup(self) -> None:
        self.rates: Iterator[float] = (1 / (step + 1) for step in range(1000))

    def step(self, closure: Any = None) -> None:
        self.rate = next(self.rates)
        super().step()

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad * self.rate


class Counted(Generated):
    def setup(self) -> None:
        self.rates = itertools.count(1)


class GeneratedWithStateDict(Generated):
    """The same; its own `state_dict` knows the position."""

    def setup(self) -> None:
        super().setup()
        self.steps = 0

    def step(self, closure: Any = None) -> None:
        self.steps += 1
        super().step()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.setup()
        for _ in range(state_dict["steps"]):
            self.steps += 1
            next(self.rates)


class GeneratedWithWrongStateDict(GeneratedWithStateDict):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]


STEPS_OF_ALL = [0]


class Global(Descent):
    """A counter in its module."""

    def setup(self) -> None:
        STEPS_OF_ALL[0] = 0

    def step(self, closure: Any = None) -> None:
        STEPS_OF_ALL[0] += 1
        super().step()

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad / STEPS_OF_ALL[0]


class LateObject(Descent):
    """Makes an object of its own class while it trains."""

    class Memory:
        def __init__(self) -> None:
            self.steps = 0

    memory: Memory | None = None

    def step(self, closure: Any = None) -> None:
        self.memory = self.memory or self.Memory()
        self.memory.steps += 1
        super().step()

    def change(self, p: Tensor, index: int) -> Any:
        return p.grad / self.memory.steps


class LatelyUnstorable(Counter):
    """Nothing can be stored of it from step 20 on."""

    def step(self, closure: Any = None) -> None:
        super().step()
        if self.steps >= 20:
            self.rates = itertools.count(self.steps)


class Repeating(torch.optim.SGD):
    """Calls its closure three times at one point and keeps the losses."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr)
        self.losses: list[float] = []

    @torch.no_grad()
    def step(self, closure: Any) -> None:
        self.losses += [float(closure())]
        for _ in range(2):
            self.zero_grad()
            self.losses.append(float(closure()))
        super().step()


def two(params: Any, lr: float = 0.1) -> list[torch.optim.Optimizer]:
    params = list(params)
    return [torch.optim.Adam(params[:2], lr), torch.optim.Adam(params[2:], lr)]


class Deaf(torch.optim.Optimizer):
    """Holds two optimizers, which do not hear of a changed rate."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        params = list(params)
        super().__init__(params, {"lr": lr})
        self.inner = two(params, lr)

    def step(self, closure: Any = None) -> None:
        for optimizer in self.inner:
            optimizer.step()


def of_the_first_two(params: Any, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(params)[:2], lr)


class Growing(torch.optim.SGD):
    """Trains the first two parameters, and all of them from the sixth step on."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        first, second, *self.later = params
        super().__init__([first, second], lr)
        self.steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.steps += 1
        if self.steps == 6:
            self.add_param_group({"params": self.later, "lr": 0.05})
        super().step(closure)


def not_an_optimizer(params: Any) -> str:
    return "sgd"


class Forgetful(nn.Module):
    """A model whose outputs depend on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(2, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return self.layer(x) / (1 + self.calls)


class Pair(NamedTuple):
    """State of a rule."""

    numbers: Any


def rule_of_two() -> Rule:
    """A rule that cannot take a second step."""

    def update(grad: Any, state: Pair, step: Any, *, lr: Any) -> Any:
        if step > 1:
            raise KeyError("no second step")
        return -lr * grad, state

    return replace(RULES["sgd"], name="two", update=update)


def rule_of_sums() -> Rule:
    """A rule whose change has one axis less."""

    def update(grad: Any, state: Any, step: Any, *, lr: Any) -> Any:
        return -lr * grad[None], state

    return replace(RULES["sgd"], name="sums", update=update)
