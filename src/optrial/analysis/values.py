"""Final values of runs by seed, as comparisons take them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from optrial.records import Record
from optrial.spec import FINAL, Status

__all__ = ["final_values"]


def final_values(records: Iterable[Record], metric: str) -> dict[int, float | None]:
    """Return the final values of runs that finished or diverged, by seed.

    NaN for a run that diverged, None for one that finished without a finite value of the metric.
    """
    return {
        record.seed: math.nan if record.status is Status.DIVERGED else record.final(metric)
        for record in records
        if record.status in FINAL
    }
