"""Array helpers of the rules, for NumPy and torch: namespace, broadcasting, precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

__all__ = [
    "Array",
    "Scalar",
    "any_run",
    "as_array",
    "average",
    "broadcast",
    "choose",
    "compute_once",
    "in_float64",
    "in_precision_of",
    "is_array",
    "namespace",
    "norm",
    "row_major",
    "zeros_like",
]

Array = Any
"""A NumPy array or a torch tensor."""

Scalar = float | Array
"""One number per run: a Python number for all runs, or an array that broadcasts over them."""

# A plain dictionary: torch.compile traces through a functools cache and warns.
_namespaces: dict[type, Any] = {}

compute_once: dict[type, Callable[[Array], Array]] = {}
"""Array type -> an identity that its compiler cannot look through; set by engines that compile."""


def namespace(array: Array) -> Any:
    """Return the array-API namespace of `array`: the home of its `sqrt` and `maximum`."""
    kind = type(array)
    if kind not in _namespaces:
        _namespaces[kind] = array_namespace(array)
    return _namespaces[kind]


def is_array(value: object) -> bool:
    """Return whether `value` is an array or tensor, not a Python number."""
    return hasattr(value, "dtype")


def zeros_like(array: Array) -> Array:
    """Return zeros with the shape, precision and device of `array`."""
    return namespace(array).zeros_like(array)


def row_major(array: Array) -> Array:
    """Return an array, or None, in row-major order, in which a resumed run restores it.

    Sums and products of equal arrays round differently if their memory is laid out differently.
    """
    if isinstance(array, np.ndarray):
        return np.asarray(array, order="C")
    return array.contiguous() if hasattr(array, "contiguous") else array


def as_array(value: Scalar, like: Array) -> Array:
    """Return `value` as an array with the precision and device of `like`.

    A number is written by the device itself, without a copy from the host.
    """
    xp = namespace(like)
    if is_array(value):
        return xp.asarray(value, dtype=like.dtype, device=like.device)
    return xp.full((), value, dtype=like.dtype, device=like.device)


def any_run(condition: Scalar) -> bool:
    """Return whether a condition holds in any run; on a GPU, this waits for the device."""
    if not is_array(condition):
        return bool(condition)
    return bool(namespace(condition).any(condition))


def choose(condition: Scalar, value: Array, otherwise: Array) -> Array:
    """Return `value` in the runs in which a condition holds, `otherwise` in the others."""
    if is_array(condition):
        return namespace(value).where(condition, value, otherwise)
    return value if condition else otherwise


def norm(array: Array, axes: Sequence[int]) -> Array:
    """Return the Euclidean norm over the axes of one run, which are kept with length 1."""
    xp = namespace(array)
    return xp.sqrt(xp.sum(array * array, axis=axes, keepdims=True))


def average(decay: Scalar, before: Array, value: Array) -> Array:
    """Return decay·before + (1 − decay)·value: the next exponential moving average.

    If the library can interpolate, this is one pass over the arrays instead of three.
    """
    interpolate = getattr(namespace(before), "lerp", None)
    if interpolate is None:
        return decay * before + (1 - decay) * value
    return interpolate(before, value, 1 - decay)


def broadcast(value: Scalar, param: Array) -> Scalar:
    """Make a hyperparameter or step broadcast over a parameter or a stack of parameters.

    Args:
        value: a Python number, returned unchanged; or an array, () or (runs,).
        param: (*shape) or (runs, *shape).

    Returns:
        The number; or the array on the device and in the precision of `param`, (runs, 1, ..., 1).
    """
    if not is_array(value):
        return value
    array = as_array(value, param)
    return namespace(param).reshape(array, array.shape + (1,) * (param.ndim - array.ndim))


def in_float64(value: Scalar) -> Scalar:
    """Return an array in float64, and a Python number unchanged.

    Needed for coefficients that suffer from cancellation: in float32 `1 - beta2**t` loses four
    digits at small t. There is one per run, so the cost is negligible.
    """
    return namespace(value).astype(value, namespace(value).float64) if is_array(value) else value


def in_precision_of(grad: Array, value: Scalar) -> Scalar:
    """Return an array in the precision of `grad`, and a Python number unchanged.

    There is one such coefficient per run. `compute_once` keeps a compiler from computing it again
    for every element of the parameter.
    """
    if not is_array(value):
        return value
    array = namespace(value).astype(value, grad.dtype)
    once = compute_once.get(type(value))
    return once(array) if once else array
