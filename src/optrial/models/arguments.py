"""Types that the arguments of several models share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool

from optrial.models.initialization import Initialization

__all__ = ["Bias", "Count", "InitializationByName", "Rate", "has_bias"]

Bias = StrictBool | None
"""Whether layers have a bias; None: all but those that batch norm follows."""

Count = Annotated[int, Field(strict=True, ge=1)]
"""How many units, channels, ...: 1 or more."""

Rate = Annotated[float, Field(strict=True, ge=0, lt=1)]
"""The probability with which dropout drops."""


def _by_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


InitializationByName = Annotated[Initialization, BeforeValidator(_by_name)]
"""``xavier_normal``, or ``{name: normal, std: 0.01}``."""


def has_bias(bias: bool | None, *, normalised: bool) -> bool:
    """Whether a layer has a bias, given the argument and whether batch norm follows the layer.

    Batch norm takes a bias off again, so that its gradient is nothing but rounding errors. Rules
    that divide by the size of the gradient make steps of those, which running means then lag
    behind: two runs that differ in rounding alone would differ in evaluation.
    """
    return not normalised if bias is None else bias
