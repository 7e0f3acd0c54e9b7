"""Probes: diagnostics measured during training.

A probed step is an ordinary step. Before it, the parameters are copied, and probes are computed
from them and the step's batch, by functions of one run that a stack maps over its runs. A probe
costs what `optrial.spec.PROBES` says and changes no number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad, vjp
from torch.overrides import TorchFunctionMode

from optrial.spec import PROBES, ProbeSettings

__all__ = ["Loss", "Prober", "per_run", "series"]

Tensors = Mapping[str, Tensor]
Loss = Callable[[Tensors, Tensors, Tensor, Tensor], Tensor]
"""Parameters, buffers, inputs and targets of one run to the mean loss of the batch."""

_PIECES = 8  # of a batch, whose gradients show the noise
_POWER_ITERATIONS = 30
_OF_RELUS = {"dead_relu_fraction", "active_relu_fraction", "relu_gradient_square_sum"}


class Prober:
    """Measures probes of one run, or of the runs of a stack, while they are trained.

    Args:
        settings: probes of the runs; None measures nothing.
        loss: loss of one run.
        params: parameters of the runs, with `lead` leading axes.
        mapped: maps a function of one run's (params, buffers, inputs, targets) over all runs.
        lead: number of leading axes: 2 for a stack, 0 for a single run.
    """

    def __init__(
        self,
        settings: ProbeSettings | None,
        loss: Loss,
        params: Tensors,
        mapped: Callable[[Callable[..., Any], Tensors], Callable[..., Any]],
        lead: int,
    ) -> None:
        self.asked = frozenset(settings.measure if settings else ())
        self._every = settings.every if settings else 1
        self._per_layer = settings is not None and settings.per_layer
        self._loss = loss
        self._mapped = mapped
        self._lead = lead
        self._always = any(PROBES[name].summed for name in self.asked)
        self.previous = {}  # gradient of the previous step, for the angle between the two
        if "gradient_cosine" in self.asked:
            self.previous = {name: torch.zeros_like(value) for name, value in params.items()}
        self._gradient: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(0)  # one direction for all runs
        self._start = {
            name: torch.randn(value.shape[lead:], generator=generator).to(value)
            for name, value in params.items()
            if "hessian_eigenvalue" in self.asked
        }

    def wants(self, step: int) -> bool:
        """Return whether a step is probed, or its gradient is needed for the next one."""
        if not self.asked:
            return False
        return self._always or self._due(step) or bool(self.previous and self._due(step + 1))

    def _due(self, step: int) -> bool:
        return step == 1 or step % self._every == 0

    @torch.no_grad()
    def before(
        self, step: int, params: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Measure, before a step that `wants` it, the probes that depend on its batch alone.

        Returns:
            Values by name, each with the shape of the leading axes.
        """
        due = (
            self.asked if self._due(step) else frozenset(n for n in self.asked if PROBES[n].summed)
        )

        def measure(function: Callable[..., Any]) -> Any:
            return self._mapped(function, buffers)(params, buffers, inputs, targets)

        values: dict[str, Tensor] = {}
        if _OF_RELUS & due:
            values |= self._relus(measure(_relu_probes(self._loss)), due)
        if "gradient_noise_scale" in due:
            values["gradient_noise_scale"] = measure(_noise_scale(self._loss))
        if "hessian_eigenvalue" in due:
            values["hessian_eigenvalue"] = measure(_hessian_eigenvalue(self._loss, self._start))
        self._gradient = {}
        if {"gradient_norm", "effective_learning_rate", "gradient_cosine"} & self.asked:
            self._gradient = measure(grad(self._loss))
        self._before = {name: value.clone() for name, value in params.items()}
        return values

    @torch.no_grad()
    def after(self, step: int, params: Tensors) -> dict[str, Tensor]:
        """Measure, after that step, the probes that depend on its gradient and its update."""
        values: dict[str, Tensor] = {}
        if self._due(step):
            change = {name: value - self._before[name] for name, value in params.items()}
            gradients, weights = self._squares(self._gradient), self._squares(self._before)
            updates = self._squares(change)
            for layer, weight in weights.items():
                probes = {
                    "weight_norm": weight.sqrt(),
                    "update_to_weight_ratio": (updates[layer] / weight).sqrt(),
                }
                if gradients:
                    probes["gradient_norm"] = gradients[layer].sqrt()
                    probes["effective_learning_rate"] = (updates[layer] / gradients[layer]).sqrt()
                if self.previous:
                    lengths = gradients[layer] * self._squares(self.previous)[layer]
                    probes["gradient_cosine"] = (
                        self._dots(self._gradient, self.previous)[layer] / lengths.sqrt()
                    )
                values |= {_named(n, layer): v for n, v in probes.items() if n in self.asked}
        for name, value in self.previous.items():
            value.copy_(self._gradient[name])
        return values

    def _relus(self, relus: Mapping[str, list[Tensor]], due: frozenset[str]) -> dict[str, Tensor]:
        """Combine the measurements of all ReLUs, in the order of the model; empty without ReLUs."""
        units, entries = relus["units"], relus["entries"]
        fractions = {
            "dead_relu_fraction": (relus["dead"], units),
            "active_relu_fraction": (relus["active"], entries),
        }
        probes: dict[str, Tensor] = {}
        if units and "relu_gradient_square_sum" in due:
            probes["relu_gradient_square_sum"] = torch.stack(relus["squares"]).sum(0)
        for name, (counts, totals) in fractions.items() if units else ():
            if name in due:
                probes[name] = torch.stack(counts).sum(0) / torch.stack(totals).sum(0)
                layers = zip(counts, totals, strict=True) if self._per_layer else ()
                for index, (count, total) in enumerate(layers, start=1):
                    probes[f"{name}/relu{index}"] = count / total
        return probes

    def _squares(self, values: Tensors) -> dict[str, Tensor]:
        return self._dots(values, values)

    def _dots(self, values: Tensors, others: Tensors) -> dict[str, Tensor]:
        """Return the inner products by layer, and under "" that of all parameters."""
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        for name, value in values.items():
            product = (value.double() * others[name].double()).flatten(self._lead).sum(-1)
            sums[""] = sums[""].to(product.device) + product
            if self._per_layer:
                layer = name.rpartition(".")[0] or name
                sums[layer] = sums[layer].to(product.device) + product
        return dict(sums)


def per_run(function: Callable[..., Any], buffers: Tensors) -> Callable[..., Any]:
    """Return the function itself: the mapping over a single run."""
    del buffers
    return function


def series(measured: Sequence[Tensors], runs: int) -> dict[str, NDArray[np.float64]]:
    """Return the probes of consecutive steps as (steps, runs), NaN where not measured."""
    joined: dict[str, NDArray[np.float64]] = {}
    for step, values in enumerate(measured):
        for name, value in values.items():
            if name not in joined:
                joined[name] = np.full((len(measured), runs), np.nan)
            joined[name][step] = value.flatten().cpu().numpy()
    return joined


def _named(probe: str, layer: str) -> str:
    return f"{probe}/{layer}" if layer else probe


class _Relus(TorchFunctionMode):
    """Records the inputs of every ReLU of a forward pass, after adding `added` to them."""

    def __init__(self, added: Sequence[Tensor] | None = None) -> None:
        self.added = added
        self.inputs: list[Tensor] = []

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") not in ("relu", "relu_"):
            return func(*args, **(kwargs or {}))
        inputs = args[0]
        if self.added is not None:
            inputs = inputs + self.added[len(self.inputs)]
        self.inputs.append(inputs)
        return torch.relu(inputs)


def _relu_probes(loss: Loss) -> Callable[..., dict[str, list[Tensor]]]:
    """Return a function of one run: counts of units and of their inputs, and the squared gradient
    at the inputs, each per ReLU.
    """

    def measure(params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> dict[str, list[Tensor]]:
        with _Relus() as relus:
            loss(params, buffers, x, y)

        def of_added(added: Sequence[Tensor]) -> Tensor:
            with _Relus(added):
                return loss(params, buffers, x, y)

        arriving = grad(of_added)([torch.zeros_like(inputs) for inputs in relus.inputs])
        return {
            "dead": [(inputs <= 0).all(0).sum().double() for inputs in relus.inputs],
            "units": [_number(inputs[0].numel(), y) for inputs in relus.inputs],
            "active": [(inputs > 0).sum().double() for inputs in relus.inputs],
            "entries": [_number(inputs.numel(), y) for inputs in relus.inputs],
            "squares": [gradient.double().square().sum() for gradient in arriving],
        }

    return measure


def _number(value: float, like: Tensor) -> Tensor:
    return like.new_full((), value, dtype=torch.double)


def _noise_scale(loss: Loss) -> Callable[..., Tensor]:
    """Return a function of one run: B_simple of McCandlish et al. 2018 (arXiv 1812.06162), A.1.

    With |g_b|^2 the mean square of the gradients of pieces of b samples, and |g_B|^2 that of their
    mean: |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b), S = (|g_b|^2 - |g_B|^2) / (1/b - 1/B), and the
    scale is S / |G|^2, NaN if the estimate of |G|^2 is negative.
    """

    def measure(params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Tensor:
        pieces = min(_PIECES, len(x))
        small = len(x) // pieces
        large = small * pieces
        if pieces < 2:
            return x.new_full((), torch.nan, dtype=torch.double)
        gradients = [
            _flat(grad(loss)(params, buffers, x[start : start + small], y[start : start + small]))
            for start in range(0, large, small)
        ]
        stacked = torch.stack(gradients)
        of_small, of_large = stacked.square().sum(1).mean(), stacked.mean(0).square().sum()
        signal = (large * of_large - small * of_small) / (large - small)
        noise = (of_small - of_large) / (1 / small - 1 / large)
        return torch.where(signal > 0, noise / signal, torch.nan)

    return measure


def _hessian_eigenvalue(loss: Loss, start: Tensors) -> Callable[..., Tensor]:
    """Return a function of one run: eigenvalue of the Hessian of largest magnitude."""

    def measure(params: Tensors, buffers: Tensors, x: Tensor, y: Tensor) -> Tensor:
        transposed: Any = vjp(lambda p: grad(loss)(p, buffers, x, y), dict(params))[1]
        eigenvalue = x.new_zeros(())
        direction: Tensors = {n: start[n] + torch.zeros_like(value) for n, value in params.items()}
        for _ in range(_POWER_ITERATIONS):
            length = _flat(direction).square().sum().sqrt()
            direction = {
                name: (value / length).to(params[name]) for name, value in direction.items()
            }
            (image,) = transposed(direction)
            eigenvalue = (_flat(direction) * _flat(image)).sum()
            direction = image
        return eigenvalue

    return measure


def _flat(values: Tensors) -> Tensor:
    return torch.cat([value.double().flatten() for value in values.values()])
