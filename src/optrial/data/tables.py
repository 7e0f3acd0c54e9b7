"""Tables, from text files and Parquet, with one or more columns to predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import GroupedSplit, TableArguments, TextTableArguments
from optrial.data.columns import assign_roles, kind_of, problem_with_text
from optrial.data.encoding import TableEncoder
from optrial.data.source import Source
from optrial.data.summary import Column
from optrial.data.text_files import read_text_table
from optrial.errors import DataError
from optrial.target_kinds import Targets

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_parquet", "read_table"]

_ROWS_SHOWN = 5


def read_table(path: Path, arguments: TextTableArguments, targets: Targets) -> Source:
    """Read a table from a text file; see `read_text_table`.

    Args:
        path: of the file.
        arguments: all but the seeds and fractions of splits are read.
        targets: what the loss takes.

    Raises:
        DataError: the file, its columns or its targets cannot be used.
    """
    table, notes = read_text_table(path, arguments)
    return _source(path, table, arguments, targets, notes)


def read_parquet(path: Path, arguments: TableArguments, targets: Targets) -> Source:
    """Read a table from a Parquet file, which pyarrow reads; see `read_table`."""
    import pandas as pd  # noqa: PLC0415  (half a second to import)

    try:
        table = pd.read_parquet(path)
    except ImportError as error:
        raise DataError(
            f"{path} needs pyarrow to be read; install it by pip install 'optrial[parquet]'"
        ) from error
    except Exception as error:
        raise DataError(
            f"{path} cannot be read ({error}); write it again, or name another file"
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has several columns named '{twice[0]}'; rename them")
    return _source(path, table.reset_index(drop=True), arguments, targets, [])


def _source(
    path: Path, table: pd.DataFrame, arguments: TableArguments, wanted: Targets, notes: list[str]
) -> Source:
    several = not isinstance(arguments.target, str)
    names = [arguments.target] if isinstance(arguments.target, str) else [*arguments.target]
    roles = assign_roles(str(path), table, names, arguments)
    if table.empty:
        raise DataError(f"{path} has 0 rows below its header; it must have some")
    _check_targets(path, table[names], isinstance(arguments, TextTableArguments))
    if several:
        targets: NDArray[Any] = np.stack([_values(path, table[name]) for name in names], axis=1)
    else:
        targets = _target(path, table[names[0]], wanted)
    as_values = several or (targets.dtype.kind == "f" and wanted != "classes")
    used = "values to predict" if as_values else "classes"
    described = {name: Column(name, kind_of(table[name]), "target", used) for name in names}
    order = tuple(map(str, table.columns))
    grouped = arguments.split.grouped if isinstance(arguments.split, GroupedSplit) else None
    return Source(
        splits={"all": (table[roles.features], targets)},
        groups=None if grouped is None else _groups(path, table[grouped]),
        encoder=TableEncoder(roles, order, described, arguments),
        value_names=names if as_values else (),
        notes=notes,
    )


def _check_targets(path: Path, targets: pd.DataFrame, written: bool) -> None:
    """Refuse targets that are missing, and dates."""
    problems = []
    for name, column in targets.items():
        rows = np.flatnonzero(column.isna()) + 1
        if len(rows):
            shown = ", ".join(f"{row:,}" for row in rows[:_ROWS_SHOWN])
            more = ", ..." if len(rows) > _ROWS_SHOWN else ""
            word = "; keep_default_na: false makes classes of words such as None and NA"
            classes = word if written and kind_of(column) == "text" else ""
            problems.append(
                f"target '{name}' has {len(rows):,} missing values, in data rows {shown}{more}; "
                f"fill them in, or remove these rows{classes}"
            )
        elif (kind := kind_of(column)) in ("date", "object"):
            problems.append(f"target '{name}' holds {kind}s; it must hold numbers or classes")
    if problems:
        raise DataError(f"{path} cannot be used: " + "\n  ".join(problems))


def _values(path: Path, column: pd.Series[Any]) -> NDArray[Any]:
    if kind_of(column) == "text":
        name, cell = column.name, column.iloc[0]
        problem = problem_with_text(str(name), column) or (
            f"target '{name}' holds text such as {cell!r}, no numbers to predict; use loss: "
            "cross_entropy, or targets: labels"
        )
        raise DataError(f"{path} cannot be used: {problem}")
    return column.to_numpy(np.float64)


def _target(path: Path, column: pd.Series[Any], wanted: Targets) -> NDArray[Any]:
    """Return values to predict as float64; classes as whole numbers or text."""
    kind, name = kind_of(column), column.name
    if wanted == "values":
        return _values(path, column)
    if kind == "text":
        if problem := problem_with_text(str(name), column):
            raise DataError(f"{path} cannot be used: {problem}")
        return column.astype(str).to_numpy(object)
    numbers = column.to_numpy(np.float64)
    if kind == "boolean":
        return numbers.astype(np.int64)
    with np.errstate(invalid="ignore"):  # the remainder of an infinite number
        whole = numbers % 1 == 0
    if not whole.all():
        if wanted == "classes":
            raise DataError(
                f"{path}: target '{name}' holds {numbers[~whole][0]:g} in data row "
                f"{int((~whole).argmax()) + 1}, which is not a class; numbers to predict need a "
                "loss for them, such as mse"
            )
        return numbers
    if wanted == "any":
        raise DataError(
            f"{path}: target '{name}' holds whole numbers, which may be classes or numbers to "
            "predict; give targets: labels or targets: values"
        )
    return numbers.astype(np.int64)


def _groups(path: Path, column: pd.Series[Any]) -> NDArray[Any]:
    if column.isna().any():
        raise DataError(
            f"{path}: column '{column.name}' for split has {column.isna().sum()} missing values; "
            "fill them in"
        )
    return np.unique(column.to_numpy(), return_inverse=True)[1]
