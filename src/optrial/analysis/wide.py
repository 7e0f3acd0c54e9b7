"""Curves side by side, one column a run, and curves as Parquet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from optrial.errors import StoreError

__all__ = ["wide_curves", "write_parquet"]


def wide_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of one metric with one row a step and one column a run.

    Columns: ``step``, ``epoch``, then ``adam lr=0.1 seed=0`` and so on, in the order of the plan.
    Where runs differ in their steps per epoch, the rows are epochs and there is no ``step``. What a
    run has no value for is missing (NaN).

    Args:
        curves: as `curves_frame` returns them for a single metric.
    """
    shared = curves.groupby("step")["epoch"].nunique().le(1).all()
    row = "step" if shared else "epoch"
    runs = curves.drop_duplicates("run_id").set_index("run_id")
    names = runs["optimizer"] + " " + runs["setting"] + " seed=" + runs["seed"].astype(str)
    names = names.str.replace("  ", " ", regex=False)
    # Two runs of one name differ in something that is not shown, such as their phase.
    names = names.where(~names.duplicated(keep=False), names + " " + names.index.astype("str"))
    table = curves.pivot(index=row, columns="run_id", values="value")[list(runs.index)]
    table = table.rename(columns=names.to_dict()).rename_axis(columns=None).reset_index()
    if shared:
        table.insert(1, "epoch", table["step"].map(curves.groupby("step")["epoch"].first()))
    return table


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as a Parquet file, over one that is there.

    Raises:
        StoreError: pyarrow is not installed, or the file cannot be written.
    """
    if find_spec("pyarrow") is None:
        raise StoreError(
            "Parquet needs pyarrow, which is not installed. Install it: pip install "
            "'optrial[parquet]', or use --format csv"
        )
    try:
        table.to_parquet(path, index=False)
    except OSError as error:
        raise StoreError(f"'{path}' cannot be written: {error}. Choose another file.") from error
