"""Gradient clipping, run by run: by the norm of the whole gradient, or coordinate by coordinate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

from optrial.rules.arrays import Array, as_array, broadcast, namespace

__all__ = ["clip_all"]


def clip_all(
    grads: Mapping[str, Array], max_norm: Any = None, max_value: Any = None, *, lead: int = 0
) -> Mapping[str, Array]:
    """Clip the gradients of a whole model, by norm and then by value; nothing changes in place.

    Args:
        grads: by name of the parameter, each (*runs, *shape).
        max_norm: largest Euclidean norm of one run's gradients, all parameters together; a number,
            an array over the runs, infinite where a run is not to be clipped, or None for no run.
        max_value: likewise the largest magnitude of a coordinate.
        lead: number of run axes.

    Returns:
        The clipped gradients. Those of a run that is not to be clipped are the same bit by bit,
        whatever happens to its neighbours.
    """
    if max_norm is not None:
        factor = _factor(grads, max_norm, lead)
        grads = {name: grad * broadcast(factor, grad) for name, grad in grads.items()}
    if max_value is not None:
        grads = {name: _within(grad, max_value) for name, grad in grads.items()}
    return grads


def _factor(grads: Mapping[str, Array], max_norm: Any, lead: int) -> Array:
    """Return min(1, max_norm / (norm + 1e-6)), over the runs, as torch.nn.utils.clip_grad_norm_."""
    norm = _norm(grads, lead)
    where = namespace(norm).where
    limit = as_array(max_norm, norm)
    factor = limit / (norm + 1e-6)
    # Not `minimum`: where the norm is infinite and the limit too, the factor is not a number.
    return where((limit == math.inf) | (factor >= 1), 1.0, factor)


def _norm(grads: Mapping[str, Array], lead: int) -> Array:
    """Return the norm of each run's gradients, all parameters together."""

    def squares(grad: Array) -> Array:
        axes = tuple(range(lead - grad.ndim, 0))
        return namespace(grad).sum(grad * grad, axis=axes)

    total = reduce(lambda one, other: one + other, map(squares, grads.values()))
    return namespace(total).sqrt(total)


def _within(grad: Array, max_value: Any) -> Array:
    """Return every coordinate brought between -max_value and max_value; NaN stays NaN."""
    xp = namespace(grad)
    limit = broadcast(as_array(max_value, grad), grad)
    return xp.minimum(xp.maximum(grad, -limit), limit)
