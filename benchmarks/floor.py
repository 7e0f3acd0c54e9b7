"""A lower bound on the time of a step: its matrix products and its update alone.

Large products reach the limit of the machine; those of a step have other shapes, and every
implementation of Adam's update moves seven arrays of the size of the parameters through memory.
Both are timed with PyTorch's kernels on existing arrays.
"""

from __future__ import annotations

import torch
from contenders import Step, timed
from torch import Tensor, nn
from workloads import Workload

__all__ = ["floor"]


def floor(workload: Workload, runs: int, device: str) -> Step | None:
    """Bare steps of `runs` MLPs at once; None for models with other layers."""
    network = workload.module()
    if not isinstance(network, nn.Sequential):
        return None
    if not all(isinstance(layer, nn.Linear | nn.ReLU) for layer in network):
        return None
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    products = [
        product
        for number, layer in enumerate(layers)
        for product in _products(layer, runs, workload.batch_size, device, first=number == 0)
    ]
    parameters = sum(value.numel() for value in network.parameters())
    flat = torch.zeros(runs * parameters, device=device, requires_grad=True)
    flat.grad = torch.zeros_like(flat)
    optimizer = torch.optim.Adam([flat], fused=True)

    @torch.no_grad()
    def take(steps: int) -> None:
        for _ in range(steps):
            for left, right, out in products:
                torch.matmul(left, right, out=out)
            optimizer.step()

    return timed(take, device)


def _products(
    layer: nn.Linear, runs: int, batch: int, device: str, *, first: bool
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the forward and backward products of a layer: left, right, output.

    All runs share the input of the first layer: on a GPU their products are one large product,
    which is faster. The gradient of the input is not needed.
    """

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, device=device)

    inputs, outputs = layer.in_features, layer.out_features
    if first:
        count = 1 if device == "cuda" else runs
        rows = runs * outputs // count
        weights, columns = zeros(count, rows, inputs), zeros(inputs, batch).expand(count, -1, -1)
        errors = zeros(count, rows, batch)
        return [
            (weights, columns, zeros(count, rows, batch)),
            (errors, columns.mT, zeros(count, rows, inputs)),
        ]
    weights, hidden = zeros(runs, outputs, inputs), zeros(runs, batch, inputs)
    errors = zeros(runs, batch, outputs)
    return [
        (hidden, weights.mT, zeros(runs, batch, outputs)),
        (errors.mT, hidden, zeros(runs, outputs, inputs)),
        (errors, weights, zeros(runs, batch, inputs)),
    ]
