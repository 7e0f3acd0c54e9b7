"""What a study left: runs, curves and summaries as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from optrial.analysis import SettingSummary, curves_frame, runs_frame, summarize
from optrial.records import Record, Store

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Results", "load"]


class Results:
    """The stored results of a study, read afresh at each call, also while it is still training.

    Args:
        store: the study's records.
        folder: where its weights are, if any were saved.
    """

    def __init__(self, store: Store, folder: Path = Path()) -> None:
        self.store = store
        self.folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    @property
    def study(self) -> dict[str, Any]:
        """The study after defaults, as plain values."""
        return self.store.study()

    @property
    def records(self) -> list[Record]:
        """Every run of the current plan, in its order."""
        return self.store.runs()

    def runs(self) -> pd.DataFrame:
        """Return one row a run; see `optrial.analysis.runs_frame`."""
        return runs_frame(self.records)

    def curves(self, metrics: str | Iterable[str] | None = None) -> pd.DataFrame:
        """Return one row a point of the metrics named, by default of all.

        Raises:
            StoreError: a metric of which nothing is recorded.
        """
        names = [metrics] if isinstance(metrics, str) else metrics
        return curves_frame(self.store, list(names or self.store.metrics()))

    def settings(self) -> list[SettingSummary]:
        """Return what each optimizer did with each setting, over seeds."""
        return summarize(self.records)

    def summary(self) -> pd.DataFrame:
        """Return one row a setting: number of runs, then mean and deviation of final metrics."""
        rows = []
        for summary in self.settings():
            row: dict[str, Any] = {
                "optimizer": summary.optimizer,
                "setting": summary.setting,
                "best": summary.best,
                "runs": summary.runs,
            }
            row |= {str(status): count for status, count in summary.statuses.items()}
            for metric, spread in summary.metrics.items():
                row |= {f"{metric}_mean": spread.mean, f"{metric}_std": spread.deviation}
            rows.append(row)
        return pd.DataFrame(rows)

    def model(self, run_id: str) -> nn.Module:
        """Return the module of a run with its saved weights, on the CPU, in evaluation mode.

        Raises:
            StoreError: there is no such run, or no weights of it are saved.
        """
        # Results load without torch; who asks for a model has it.
        saved = import_module("optrial.saved")
        model: nn.Module = saved.saved_model(self.store, self.folder, run_id)
        return model


def load(location: str | Path) -> Results:
    """Open the results of a study: its folder or a ``postgresql://`` URL.

    Raises:
        StoreError: no study is stored there.
    """
    return Results(Store.open(location), Path(location))
