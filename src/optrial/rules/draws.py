"""Random draws of a rule, as a function of seed, step and parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from optrial.keyed import draw32, named_key, step_key
from optrial.rules.arrays import Array, Scalar, is_array, namespace

__all__ = ["Draws", "draws_of"]


@dataclass(frozen=True)
class Draws:
    """Random draws for one parameter in one step, which a rule that `needs` "draws" receives.

    A run draws the same numbers in every engine, alone and in a stack, and after a resumption. Runs
    with the same seed draw the same numbers.

    Attributes:
        of_step: 32-bit key of each run in this step.
        of_parameter: the same for this parameter.
        param: the parameter, (runs, *shape).
        lead: number of run axes.
    """

    of_step: Scalar
    of_parameter: Scalar
    param: Array
    lead: int

    def normal(self, stream: int = 0) -> Array:
        """Return independent standard normal numbers, one per element of the parameter.

        Args:
            stream: 0, 1, ...; each is independent of the others in the same step.
        """
        xp, shape = namespace(self.param), self.param.shape
        own = (1,) * self.lead + shape[self.lead :]
        places = xp.arange(math.prod(own), dtype=xp.int64, device=self.param.device)
        # NumPy would warn of products that wrap in an array without axes.
        places = xp.reshape(places, own or (1,))
        first, second = (
            self._unit(draw32(self.of_parameter, 2 * stream + half, places)) for half in (0, 1)
        )
        # Box and Muller 1958
        drawn = xp.sqrt(-2 * xp.log(first)) * xp.cos(2 * math.pi * second)
        return xp.broadcast_to(xp.reshape(drawn, drawn.shape[: len(shape)]), shape)

    def uniform(self, stream: int = 0) -> Array:
        """Return one number in (0, 1) per run, (runs, 1, ..., 1); the same for all parameters.

        Args:
            stream: 0, 1, ...; each is independent of the others in the same step.
        """
        xp, ndim = namespace(self.param), self.param.ndim
        place = xp.zeros((1,) * max(ndim, 1), dtype=xp.int64, device=self.param.device)
        drawn = self._unit(draw32(self.of_step, stream, place))
        return xp.reshape(drawn, drawn.shape[:ndim])

    def _unit(self, draws: Array) -> Array:
        """Return 32-bit draws as numbers in (0, 1), in the precision of the parameter."""
        xp = namespace(self.param)
        return xp.astype((xp.astype(draws, xp.float64) + 0.5) / 2**32, self.param.dtype)


def draws_of(seed: Scalar, step: Scalar, name: str, param: Array, lead: int) -> Draws:
    """Return the draws of a rule for a parameter in a step.

    Args:
        seed: a whole number, or an array of them over the runs.
        step: 1, 2, ...; a number, or an array, () or over the runs.
        name: name of the parameter.
        param: the parameter, (runs, *shape).
        lead: number of run axes.
    """
    of_rules = named_key(step_key(_whole(seed, param), _whole(step, param)), "rule")
    return Draws(of_rules, named_key(of_rules, name), param, lead)


def _whole(value: Scalar, param: Array) -> Scalar:
    """Return a whole number, or an int64 array, (runs, 1, ..., 1)."""
    if not is_array(value):
        return int(value)
    xp = namespace(param)
    array = xp.asarray(value, dtype=xp.int64, device=param.device)
    return xp.reshape(array, array.shape + (1,) * (max(param.ndim, 1) - array.ndim))
