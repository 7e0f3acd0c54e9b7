"""Scheduled values of a stack: factors of the learning rates, and other hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from optrial.engine.backends.stacked_update import Group
from optrial.engine.options import rate_factors
from optrial.engine.validation import schedule_key
from optrial.rules import scheduled_values

__all__ = ["StackedRates"]


class StackedRates:
    """Factors of lr and changed hyperparameters of every setting of every group of the update.

    Args:
        groups: the groups of the update.
        seeds: number of seeds of the stack.
        steps: number of steps of its runs.
        like: a tensor with the type and device of the factors.

    Attributes:
        factors: those of the current step, and the changed hyperparameters, (1 or more, 1 or seeds,
            all groups), at an address that never changes; see `Group.values`.
    """

    def __init__(self, groups: Sequence[Group], seeds: int, steps: int, like: Tensor) -> None:
        self._groups, self._total = groups, steps
        self._schedules = [schedule for group in groups for schedule in group.schedules]
        self._scheduled = any(group.scheduled for group in groups)
        plateaus = any(schedule and schedule["kind"] == "plateau" for schedule in self._schedules)
        self._scales = np.ones((seeds if plateaus else 1, len(self._schedules)))
        self._names = sorted(set().union(*(group.changed for group in groups)))
        self._known = [known for group in groups for known in group.known]
        self.factors = like.new_ones((1 + len(self._names), *self._scales.shape))

    def of_steps(self, first: int, steps: int) -> Tensor:
        """Return the factors of steps, (steps, 1 or more, 1 or seeds, all groups)."""
        rates = [rate_factors(s, self._total, first, steps) for s in self._schedules]
        factors = np.stack(rates, axis=1)[:, None, :] * self._scales
        values = np.full((steps, 1 + len(self._names), *self._scales.shape), np.nan)
        values[:, 0] = factors
        numbers = np.arange(first, first + steps)
        schedules = zip(self._schedules, self._known, strict=True)
        for place, (schedule, known) in enumerate(schedules if self._names else ()):
            changed = scheduled_values(schedule, known, numbers, self._total) if schedule else {}
            for name, of_steps in changed.items():
                values[:, 1 + self._names.index(name), :, place] = of_steps[:, None]
        return torch.from_numpy(values).to(self.factors)

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
