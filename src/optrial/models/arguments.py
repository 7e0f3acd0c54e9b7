"""Types that the arguments of several models share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from optrial.models.initialization import Initialization

__all__ = ["Count", "InitializationByName", "Rate"]

Count = Annotated[int, Field(strict=True, ge=1)]
"""How many units, channels, ...: 1 or more."""

Rate = Annotated[float, Field(strict=True, ge=0, lt=1)]
"""The probability with which dropout drops."""


def _by_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


InitializationByName = Annotated[Initialization, BeforeValidator(_by_name)]
"""``xavier_normal``, or ``{name: normal, std: 0.01}``."""
