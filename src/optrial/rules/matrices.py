"""Products of parameters with square matrices along their axes, one matrix per axis and run."""

from __future__ import annotations

from collections.abc import Sequence

from optrial.rules.arrays import Array, Scalar, is_array, namespace

__all__ = ["along", "gram", "identities", "of_matrices", "unfolded"]


def unfolded(array: Array, lead: int, axis: int) -> Array:
    """Return an array as (runs, length of the axis, the rest)."""
    moved = namespace(array).moveaxis(array, axis, lead)
    return namespace(array).reshape(moved, (*moved.shape[: lead + 1], -1))


def along(matrix: Array, array: Array, lead: int, axis: int) -> Array:
    """Return the product of a matrix with every vector along an axis.

    Args:
        matrix: (runs, length, length).
        array: (runs, *shape).
        lead: number of run axes.
        axis: the axis, from the end.
    """
    xp = namespace(array)
    if axis == -1:
        product = xp.reshape(array, (*array.shape[:lead], -1, array.shape[-1])) @ matrix.mT
        return xp.reshape(product, array.shape)
    moved = xp.moveaxis(array, axis, lead)
    product = xp.reshape(matrix @ unfolded(array, lead, axis), moved.shape)
    return xp.moveaxis(product, lead, axis)


def gram(array: Array, lead: int, axis: int) -> Array:
    """Return the products of all pairs of slices along an axis, (runs, length, length)."""
    slices = unfolded(array, lead, axis)
    return slices @ slices.mT


def identities(param: Array, axes: Sequence[int], longest: int) -> list[Array | None]:
    """Return an identity for each of the first five axes and each run, (runs, length, length).

    It is None for an axis without elements, or with more than `longest`.
    """
    xp, lead = namespace(param), param.shape[: param.ndim - len(axes)]
    return [
        xp.zeros((*lead, n, n), dtype=param.dtype, device=param.device)
        + xp.eye(n, dtype=param.dtype, device=param.device)
        if 0 < n <= longest
        else None
        for n in (param.shape[axis] for axis in axes[:5])
    ]


def of_matrices(value: Scalar, lead: int) -> Scalar:
    """Return a number of each run that broadcasts over matrices, (runs, n, n)."""
    if not is_array(value):
        return value
    array: Array = value
    return namespace(array).reshape(array, (*array.shape[:lead], 1, 1))
