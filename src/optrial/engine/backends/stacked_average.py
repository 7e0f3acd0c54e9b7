"""Averages of the weights of every run of a stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from optrial.engine.averages import average_shares
from optrial.engine.backends.stacked_model import Tensors
from optrial.spec import RunSpec

__all__ = ["StackedAverage"]


class StackedAverage:
    """Averages of the weights over steps, of runs in which the study asks for them.

    Args:
        settings: the runs of one seed; either all have an average, or none has.
        weights: what is averaged, by name, each (seeds, settings, ...); changed in place by
            training.

    Attributes:
        values: the averages, by name; empty without.
    """

    def __init__(self, settings: Sequence[RunSpec], weights: Tensors) -> None:
        self._settings, self._weights = settings, weights
        device = next(iter(weights.values())).device
        self._shares = torch.ones((1, len(settings)), dtype=torch.float64, device=device)
        self.values: Tensors = {}
        if settings[0].average is not None:
            self.values = {name: value.clone() for name, value in weights.items()}

    def of_steps(self, first: int, steps: int) -> Tensor:
        """Return the shares of the weights in their averages, (steps, 1, settings)."""
        if not self.values:
            return self._shares.expand(steps, -1, -1)
        total = self._settings[0].steps
        shares = [average_shares(spec.average, total, first, steps) for spec in self._settings]
        return torch.from_numpy(np.stack(shares, axis=1)[:, None]).to(self._shares)

    def use(self, shares: Tensor) -> None:
        """Use the shares of a step from now on."""
        if self.values:
            self._shares.copy_(shares)

    @torch.no_grad()
    def update(self, alive: Tensor) -> None:
        """Move the averages towards the weights; those of runs that have ended stay.

        `alive` is (seeds, settings).
        """
        shares = torch.where(alive, self._shares, 0.0)
        for name, average in self.values.items():
            value = self._weights[name]
            share = shares.view(*shares.shape, *[1] * (value.ndim - 2)).to(value.dtype)
            moved = average + share * (value - average)
            average.copy_(torch.where(share == 1, value, moved))
