"""Curves side by side, one column per run, and tables as Parquet files."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from optrial.errors import StoreError
from optrial.files import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["wide_curves", "write_parquet"]


def wide_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves of one metric with one row per step and one column per run.

    Columns: ``step``, ``epoch``, then ``adam lr=0.1 seed=0`` and so on, in the order of the plan.
    If runs differ in their steps per epoch, rows are epochs and there is no ``step``. Missing
    values are NaN.

    Args:
        curves: the frame of `curves_frame` for a single metric.
    """
    shared = curves.groupby("step")["epoch"].nunique().le(1).all()
    row = "step" if shared else "epoch"
    runs = curves.drop_duplicates("run_id").set_index("run_id")
    names = runs["optimizer"] + " " + runs["setting"] + " seed=" + runs["seed"].astype(str)
    names = names.str.replace("  ", " ", regex=False)
    # Two runs with the same name differ in something else, such as their phase.
    names = names.where(~names.duplicated(keep=False), names + " " + names.index.astype("str"))
    table = curves.pivot(index=row, columns="run_id", values="value")[list(runs.index)]
    table = table.rename(columns=names.to_dict()).rename_axis(columns=None).reset_index()
    if shared:
        table.insert(1, "epoch", table["step"].map(curves.groupby("step")["epoch"].first()))
    return table


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table as a Parquet file, replacing an existing one.

    Lists and columns of mixed types are written as JSON, which Parquet cannot hold otherwise.

    Raises:
        StoreError: pyarrow is not installed, or the file cannot be written.
    """
    if find_spec("pyarrow") is None:
        raise StoreError(
            "Parquet needs pyarrow, which is not installed. Install it: pip install "
            "'optrial[parquet]', or use --format csv"
        )
    try:
        with replacing(path) as partial:
            table.apply(_one_type).to_parquet(partial, index=False)
    except OSError as error:
        raise StoreError(f"'{path}' cannot be written: {error}. Choose another file.") from error


def _one_type(column: pd.Series) -> pd.Series:
    """Return a column as JSON if its values are lists or of several types."""
    types = {type(value) for value in column if value is not None}
    if column.dtype != object or (len(types) <= 1 and list not in types):
        return column
    return column.map(lambda value: None if value is None else json.dumps(value))
