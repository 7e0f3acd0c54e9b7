"""Sharpness-aware minimization: the point uphill at which the gradient of a step is taken."""

from __future__ import annotations

from collections.abc import Mapping

from optrial.rules.arrays import Array, Scalar, broadcast, namespace
from optrial.rules.clipping import norm_over_all

__all__ = ["uphill"]

_LEAST = 1e-12  # keeps the direction of a zero gradient finite


def uphill(
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    rho: Scalar,
    *,
    adaptive: bool = False,
    lead: int = 0,
) -> dict[str, Array]:
    """Return the parameters at which SAM takes its gradient: Foret et al. 2021, equation 2.

        w + rho·g / ‖g‖

    Adaptive SAM (Kwon et al. 2021) measures the distance relative to each weight:

        w + rho·w²·g / ‖|w|·g‖

    Args:
        params: name -> parameter, (*runs, *shape).
        grads: name -> gradient at `params`; parameters without one stay.
        rho: length of the step uphill; a number, or an array over the runs.
        adaptive: whether the distance is relative to each weight.
        lead: number of run axes.
    """
    directions = dict(grads)
    if adaptive:
        weights = {name: namespace(params[name]).abs(params[name]) for name in grads}
        directions = {name: weights[name] * grad for name, grad in grads.items()}
    factor = rho / (norm_over_all(directions, lead) + _LEAST)
    if adaptive:
        directions = {name: weights[name] * value for name, value in directions.items()}
    return {
        name: param + broadcast(factor, param) * directions[name] if name in directions else param
        for name, param in params.items()
    }
