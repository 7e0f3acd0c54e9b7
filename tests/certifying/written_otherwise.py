"""Correct optimizers that are written in unusual ways."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Written(torch.optim.Optimizer):
    """Calls `move` for each parameter with a gradient, which gets l2 weight decay."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad + group["weight_decay"] * p, self.state[p], group)
        return loss

    def move(self, p: nn.Parameter, grad: Tensor, state: dict[str, Any], group: Mapping[str, Any]):
        raise NotImplementedError


class NumpyAdam(Written):
    """Computes in NumPy."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def move(self, p, grad, state, group):
        if p.is_complex():
            raise TypeError("takes real weights only")
        if not state:
            state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["step"] += 1
        (beta1, beta2), step = group["betas"], state["step"]
        g, m, v, weights = (np.asarray(x.double()) for x in (grad, state["m"], state["v"], p))
        m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g**2 - v)
        state["m"].copy_(torch.from_numpy(np.asarray(m)))
        state["v"].copy_(torch.from_numpy(np.asarray(v)))
        divisor = np.sqrt(v / (1 - beta2**step)) + group["eps"]
        after = weights - group["lr"] * (m / (1 - beta1**step)) / divisor
        p.copy_(torch.from_numpy(np.asarray(after)))


class ProductAdam(Written):
    """Keeps powers of the decay rates as products, and moves eps and the corrections."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def move(self, p, grad, state, group):
        if not state:
            state.update(powers=(1.0, 1.0), m=torch.zeros_like(p), v=torch.zeros_like(p))
        beta1, beta2 = group["betas"]
        state["powers"] = (state["powers"][0] * beta1, state["powers"][1] * beta2)
        state["m"] += (1 - beta1) * (grad - state["m"])
        state["v"] += (1 - beta2) * (grad * grad - state["v"])
        root = math.sqrt(1 - state["powers"][1])
        rate = group["lr"] * root / (1 - state["powers"][0])
        p.sub_(rate * state["m"] / (state["v"].sqrt() + group["eps"] * root))


class Nesterov(Written):
    """Moves by velocities that contain lr; has no switch for the variant."""

    def __init__(self, params, lr=0.01, momentum=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def move(self, p, grad, state, group):
        momentum, before = group["momentum"], state.get("velocity", torch.zeros_like(p))
        state["velocity"] = momentum * before - group["lr"] * grad
        p.add_((1 + momentum) * state["velocity"] - momentum * before)


class HypotAdagrad(Written):
    """Keeps the root of the sum of squares."""

    def __init__(self, params, lr=0.01, eps=1e-10, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    def move(self, p, grad, state, group):
        state["root"] = state.get("root", torch.zeros_like(p)).hypot(grad)
        p.sub_(group["lr"] * grad / (state["root"] + group["eps"]))


class HiddenAdam(torch.optim.Adam):
    """Names no argument."""

    def __init__(self, params, **kwargs):
        super().__init__(params, **kwargs)
