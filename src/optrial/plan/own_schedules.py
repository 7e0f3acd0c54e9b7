"""Checks of user-defined schedules, by calling them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from optrial.code import load_code
from optrial.errors import USER_CODE_ERRORS, one_line

__all__ = ["own_schedule_problem"]

_MOST_CALLS = 200


def own_schedule_problem(kind: str, args: Mapping[str, Any], steps: int) -> str:
    """Return why a function is no schedule for a number of steps, or "".

    It is called for up to 200 steps from the first to the last, and in reverse. Engines differ in
    the order of their calls, so it must return the same factors both times.

    Args:
        kind: ``module:function``.
        args: further arguments of the function.
        steps: number of steps.
    """
    function = load_code(kind)
    tried = np.unique(np.linspace(0, steps - 1, _MOST_CALLS).round().astype(int)).tolist()
    factors: dict[int, float] = {}
    for step in (*tried, *reversed(tried)):
        try:
            factor = function(step, steps, **args)
        except USER_CODE_ERRORS as error:
            return f"'{kind}' raised {one_line(error).rstrip('.')} at step {step} of {steps}."
        if not _is_factor(factor):
            return (
                f"'{kind}' returned {factor!r} at step {step} of {steps}; a schedule returns a "
                "number of Python or NumPy, finite and not below 0, by which lr is multiplied."
            )
        if (before := factors.setdefault(step, float(factor))) != float(factor):
            return (
                f"'{kind}' returned {before:.6g} at step {step} of {steps}, and then "
                f"{float(factor):.6g}; it must depend on the step alone, without state or draws."
            )
    return ""


def _is_factor(value: object) -> bool:
    """Return whether a value is a finite real number of at least 0, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
