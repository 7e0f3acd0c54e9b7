"""Learning rates of a stack: what schedules multiply them by, and the momenta that they cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from optrial.engine.backends.stacked_update import Group
from optrial.engine.options import momenta_of, rate_factors
from optrial.engine.validation import schedule_key

__all__ = ["StackedRates"]


class StackedRates:
    """Factors of the learning rates of every setting of every group of the update.

    Args:
        groups: the groups of the update.
        seeds: number of seeds of the stack.
        steps: number of steps of its runs.
        like: a tensor with the type and device of the factors.

    Attributes:
        factors: those of the current step, (1 or 2, 1 or seeds, all groups), at an address that
            never changes; see `Group.values`.
    """

    def __init__(self, groups: Sequence[Group], seeds: int, steps: int, like: Tensor) -> None:
        self._groups, self._total = groups, steps
        self._schedules = [schedule for group in groups for schedule in group.schedules]
        self._scheduled = any(group.scheduled for group in groups)
        plateaus = any(schedule and schedule["kind"] == "plateau" for schedule in self._schedules)
        self._scales = np.ones((seeds if plateaus else 1, len(self._schedules)))
        cycles = any(group.momentum for group in groups)
        self.factors = like.new_ones((2 if cycles else 1, *self._scales.shape))

    def of_steps(self, first: int, steps: int) -> Tensor:
        """Return the factors of steps, (steps, 1 or 2, 1 or seeds, all groups)."""
        rates = [rate_factors(s, self._total, first, steps) for s in self._schedules]
        factors = [np.stack(rates, axis=1)[:, None, :] * self._scales]
        if len(self.factors) > 1:
            momenta = [momenta_of(s, self._total, first, steps) for s in self._schedules]
            factors.append(np.broadcast_to(np.stack(momenta, axis=1)[:, None, :], factors[0].shape))
        return torch.from_numpy(np.stack(factors, axis=1)).to(self.factors)

    def use(self, factors: Tensor) -> None:
        """Use the factors of a step from now on."""
        if self._scheduled:
            self.factors.copy_(factors)

    def scale(self, seed: int, setting: int, scales: Mapping[str, float]) -> None:
        """Multiply learning rates of a run from the next step on; see `Learner.scale_rates`."""
        for group in self._groups:
            place = setting - group.columns.start
            if 0 <= place < len(group.schedules) and (schedule := group.schedules[place]):
                scale = scales.get(schedule_key(schedule), 1.0)
                self._scales[seed, group.rates.start + place] = scale
