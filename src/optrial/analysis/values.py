"""Records -> the numbers that are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable

from optrial.records import Record, Status

__all__ = ["final_values"]


def final_values(records: Iterable[Record], metric: str) -> dict[int, float]:
    """Return the final values of runs by seed, NaN for one that diverged; others are left out."""
    values: dict[int, float] = {}
    for record in records:
        value = record.final(metric)
        if record.status is Status.DIVERGED:
            values[record.seed] = math.nan
        elif value is not None:
            values[record.seed] = value
    return values
