"""Gradient clipping per run: by the norm of the whole gradient, or coordinate by coordinate."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optrial.rules.arrays import Array, Scalar, as_array, broadcast, namespace

__all__ = ["clip_all", "norm_over_all"]


def clip_all(
    grads: Mapping[str, Array],
    max_norm: Scalar | None = None,
    max_value: Scalar | None = None,
    *,
    lead: int = 0,
) -> Mapping[str, Array]:
    """Clip the gradients of a whole model, first by norm, then by value; nothing changes in place.

    Args:
        grads: name of a parameter -> gradient, (*runs, *shape).
        max_norm: largest Euclidean norm of one run's gradients, over all parameters; a number, an
            array over the runs with infinity for runs that are not clipped, or None to clip none.
        max_value: largest magnitude of a coordinate, in the same forms.
        lead: number of run axes.

    Returns:
        The clipped gradients. Those of unclipped runs are the same bit for bit, whatever happens
        to their neighbours.
    """
    if max_norm is not None:
        factor = _factor(grads, max_norm, lead)
        grads = {name: grad * broadcast(factor, grad) for name, grad in grads.items()}
    if max_value is not None:
        grads = {name: _within(grad, max_value) for name, grad in grads.items()}
    return grads


def _factor(grads: Mapping[str, Array], max_norm: Scalar, lead: int) -> Array:
    """Return min(1, max_norm / (norm + 1e-6)) per run, as torch.nn.utils.clip_grad_norm_."""
    norm = norm_over_all(grads, lead)
    where = namespace(norm).where
    limit = as_array(max_norm, norm)
    factor = limit / (norm + 1e-6)
    # Not `minimum`: if both the norm and the limit are infinite, the factor is NaN.
    return where((limit == math.inf) | (factor >= 1), 1.0, factor)


def norm_over_all(grads: Mapping[str, Array], lead: int) -> Array:
    """Return the Euclidean norm of each run's gradients, over all parameters."""
    first, *others = (
        namespace(grad).sum(grad * grad, axis=tuple(range(lead - grad.ndim, 0)))
        for grad in grads.values()
    )
    return namespace(first).sqrt(sum(others, start=first))


def _within(grad: Array, max_value: Scalar) -> Array:
    """Return every coordinate clipped to ±max_value; NaN stays NaN."""
    xp = namespace(grad)
    limit = broadcast(as_array(max_value, grad), grad)
    return xp.minimum(xp.maximum(grad, -limit), limit)
