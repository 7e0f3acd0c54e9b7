"""Batch norm that can be stacked.

`torch.nn.BatchNorm2d` and its siblings write their running statistics in place, which a function
mapped over many runs must not do. The layers here assign new tensors instead, which
`torch.func.functional_call` leaves in the mapping of its caller.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "StackableBatchNorm1d",
    "StackableBatchNorm2d",
    "StackableBatchNorm3d",
]


class _StackableBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm (Ioffe and Szegedy 2015) as a pure function of its buffers.

    Equal to the layer of `torch.nn`. Statistics are computed in float32 or float64, whatever the
    precision of the activations.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Normalise (batch, channels, ...) by batch statistics or by running statistics."""
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        precision = torch.promote_types(input.dtype, torch.float32)
        mean = _copy(self.running_mean, precision)
        var = _copy(self.running_var, precision)
        outputs = functional.batch_norm(
            input.to(precision),
            mean,
            var,
            None if self.weight is None else self.weight.to(precision),
            None if self.bias is None else self.bias.to(precision),
            training=self.training or mean is None,
            momentum=1.0 if self.momentum is None else self.momentum,
            eps=self.eps,
        )
        if self.training and mean is not None and var is not None:
            self._replace_buffers(mean, var)
        return outputs.to(input.dtype)

    def _replace_buffers(self, mean: Tensor, var: Tensor) -> None:
        """Assign new running statistics; without momentum, the arguments are those of the batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked = self.num_batches_tracked + 1
        if self.momentum is None:
            share = 1 / self.num_batches_tracked.to(mean.dtype)
            mean = torch.lerp(self.running_mean.to(mean.dtype), mean, share)
            var = torch.lerp(self.running_var.to(var.dtype), var, share)
        self.running_mean = mean.to(self.running_mean.dtype)
        self.running_var = var.to(self.running_var.dtype)


def _copy(statistic: Tensor | None, precision: torch.dtype) -> Tensor | None:
    """Copy a running statistic, because `functional.batch_norm` writes in place."""
    return None if statistic is None else statistic.to(precision, copy=True)


class StackableBatchNorm1d(_StackableBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` that can be stacked."""


class StackableBatchNorm2d(_StackableBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` that can be stacked."""


class StackableBatchNorm3d(_StackableBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` that can be stacked."""
