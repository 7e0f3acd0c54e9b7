"""What the rules need of any array library: its namespace, one broadcast, one precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from array_api_compat import array_namespace

__all__ = [
    "Array",
    "as_array",
    "average",
    "broadcast",
    "compute_once",
    "in_float64",
    "in_precision_of",
    "namespace",
    "norm",
    "zeros_like",
]

Array = Any
"""A NumPy array or a torch tensor."""

# A plain dictionary: under torch.compile a functools cache is traced through, with a warning.
_namespaces: dict[type, Any] = {}

compute_once: dict[type, Callable[[Array], Array]] = {}
"""Array type -> an identity that its compiler cannot look through; set by engines that compile."""


def namespace(array: Array) -> Any:
    """Return the array-API namespace of `array`: where its `sqrt` and `maximum` are."""
    kind = type(array)
    if kind not in _namespaces:
        _namespaces[kind] = array_namespace(array)
    return _namespaces[kind]


def zeros_like(array: Array) -> Array:
    """Return zeros of the shape, precision and device of `array`."""
    return namespace(array).zeros_like(array)


def as_array(value: Any, like: Array) -> Array:
    """Return a number or an array as an array, in the precision and on the device of `like`."""
    return namespace(like).asarray(value, dtype=like.dtype, device=like.device)


def norm(array: Array, axes: Sequence[int]) -> Array:
    """Return the Euclidean norm over the axes of one run, which stay, with length 1."""
    xp = namespace(array)
    return xp.sqrt(xp.sum(array * array, axis=axes, keepdims=True))


def average(decay: Any, before: Array, value: Array) -> Array:
    """Return decay before + (1 - decay) value: the next exponential moving average.

    Where the library can interpolate, that is one pass over the arrays and not three.
    """
    interpolate = getattr(namespace(before), "lerp", None)
    if interpolate is None:
        return decay * before + (1 - decay) * value
    return interpolate(before, value, 1 - decay)


def broadcast(value: Any, param: Array) -> Any:
    """Make a hyperparameter or step broadcast over a parameter, or a stack of them.

    Args:
        value: a Python number, returned as it is; or an array: one number, or (runs,).
        param: (*shape) or (runs, *shape).

    Returns:
        The number; or the array on the device and in the precision of `param`, (runs, 1, ..., 1).
    """
    if not hasattr(value, "dtype"):
        return value
    array = as_array(value, param)
    return namespace(param).reshape(array, array.shape + (1,) * (param.ndim - array.ndim))


def in_float64(value: Any) -> Any:
    """Return a Python number as it is and an array in float64.

    For coefficients that cancel: in float32 `1 - beta2**t` loses four digits where t is small.
    They have one element a run, so this costs nothing.
    """
    return namespace(value).astype(value, namespace(value).float64) if _is_array(value) else value


def in_precision_of(grad: Array, value: Any) -> Any:
    """Return a Python number as it is and an array in the precision of `grad`.

    Such a coefficient has one element a run: a compiler is kept from computing it for each element
    of the parameter, by what `compute_once` holds for its type.
    """
    if not _is_array(value):
        return value
    return compute_once.get(type(value), _same)(namespace(value).astype(value, grad.dtype))


def _same(value: Array) -> Array:
    return value


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype")
