"""Reading interface of a store of one study, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from optrial.records.record import Curve, Record

__all__ = ["StoreReader"]


class StoreReader(Protocol):
    """The reading methods of `Store`, which documents them."""

    @property
    def sources(self) -> dict[str, str]:
        """Location of each problem's study, if several studies are joined."""

    @property
    def shown(self) -> str:
        """Location to show in messages, without password."""

    def study(self) -> dict[str, Any]:
        """Return the study after defaults."""

    def plans(self) -> list[tuple[dict[str, Any], int]]:
        """Return the study of every plan, and how many runs had ended before it."""

    def runs(self, *, everything: bool = False) -> list[Record]:
        """Return the planned runs; with `everything`, also those of earlier plans."""

    def has_former_runs(self) -> bool:
        """Return whether earlier plans contain runs that the current one lacks."""

    def metrics(self) -> list[str]:
        """Return the names of all metrics that have a curve."""

    def curves(
        self, metric: str | None = None, run_ids: Sequence[str] | None = None
    ) -> dict[tuple[str, str], Curve]:
        """Return curves by run id and metric."""

    def close(self) -> None:
        """Close every connection."""
