"""Tables with one or more columns to predict, and text files that hold one."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from optrial.data.arguments import GroupedSplit, TableArguments, TextTableArguments
from optrial.data.dataset import Array
from optrial.data.source import Request, Source
from optrial.data.sources.columns import assign_roles, kind_of, numbers_of, problem_with_text
from optrial.data.sources.encoding import TableEncoder
from optrial.data.sources.notation import Cells
from optrial.data.sources.text_files import read_text_table
from optrial.data.summary import Column
from optrial.errors import DataError, counted
from optrial.target_kinds import Targets

_ROWS_SHOWN = 5
_BEYOND_CLASSES = 2.0**53  # from here on, float64 does not hold every whole number


def read_table(request: Request[TextTableArguments]) -> Source:
    """Read a table from a text file; see `read_text_table`.

    Raises:
        DataError: the file, its columns or its targets cannot be used.
    """
    target, wanted = request.arguments.target, request.targets
    classes = target if isinstance(target, str) and wanted in ("classes", "binary") else None
    table, notes = read_text_table(request.path, request.arguments, classes)
    return table_source(request, table, notes)


def table_source(
    request: Request[TableArguments], table: pd.DataFrame, notes: Sequence[str] = ()
) -> Source:
    """Return the columns of a table as inputs and targets.

    Raises:
        DataError: its columns or its targets cannot be used.
    """
    path, arguments, wanted = request.path, request.arguments, request.targets
    table = table.apply(_as_floats)
    one = isinstance(arguments.target, str)
    names = [arguments.target] if isinstance(arguments.target, str) else [*arguments.target]
    roles = assign_roles(str(path), table, names, arguments)
    if table.empty:
        raise DataError(f"{path} has 0 rows below its header; add some")
    _check_targets(path, table[names], isinstance(arguments, TextTableArguments))
    if one:
        targets = _target(path, table[names[0]], wanted)
    else:
        targets = np.stack([_values(path, table[name]) for name in names], axis=1)
    as_values = not one or (targets.dtype.kind == "f" and wanted != "classes")
    use = "values to predict" if as_values else "classes"
    described = {name: Column(name, kind_of(table[name]), "target", use) for name in names}
    grouped = arguments.split.grouped if isinstance(arguments.split, GroupedSplit) else None
    return Source(
        splits={"all": (table[roles.features], targets)},
        groups=None if grouped is None else _groups(path, table[grouped]),
        encoder=TableEncoder(roles, tuple(map(str, table.columns)), described, arguments),
        value_names=names if as_values else (),
        notes=notes,
    )


def _as_floats(column: Cells) -> Cells:
    """Return a column whose whole numbers beyond the largest float are infinite, as in floats."""
    if column.dtype != object or not any(_is_huge(cell) for cell in column):
        return column
    return column.map(lambda cell: math.inf * (1 if cell > 0 else -1) if _is_huge(cell) else cell)


def _is_huge(cell: object) -> bool:
    return isinstance(cell, int) and abs(cell) > sys.float_info.max


def _check_targets(path: Path, targets: pd.DataFrame, is_text_file: bool) -> None:
    """Refuse missing targets and dates."""
    problems = []
    for name, column in targets.items():
        rows = np.flatnonzero(column.isna()) + 1
        if len(rows):
            shown = ", ".join(f"{row:,}" for row in rows[:_ROWS_SHOWN])
            more = ", ..." if len(rows) > _ROWS_SHOWN else ""
            way_out = "fill them in, or remove these rows"
            if is_text_file and kind_of(column) == "text":
                way_out += "; keep_default_na: false makes classes of words such as None and NA"
            problems.append(
                f"target '{name}' has {counted(len(rows), 'missing value')}, in data rows "
                f"{shown}{more}; {way_out}"
            )
        elif (kind := kind_of(column)) in ("date", "object"):
            problems.append(f"target '{name}' holds {kind}s; it must hold numbers or classes")
    if problems:
        raise DataError(f"{path} cannot be used: " + "\n  ".join(problems))


def _values(path: Path, column: Cells) -> Array:
    if kind_of(column) == "text":
        name, cell = column.name, column.iloc[0]
        problem = problem_with_text(str(name), column) or (
            f"target '{name}' holds text such as {cell!r}, not numbers to predict; use loss: "
            "cross_entropy, or targets: labels"
        )
        raise DataError(f"{path} cannot be used: {problem}")
    return column.to_numpy(np.float64)


def _target(path: Path, column: Cells, wanted: Targets) -> Array:
    """Return values to predict as float64, classes as text or as whole numbers, all digits kept."""
    kind, name = kind_of(column), column.name
    if wanted == "values":
        return _values(path, column)
    if kind == "text":
        if problem := problem_with_text(str(name), column):
            raise DataError(f"{path} cannot be used: {problem}")
        return column.astype(str).to_numpy(object)
    numbers = numbers_of(column)
    if kind == "boolean":
        return numbers.astype(np.int64)
    with np.errstate(invalid="ignore"):  # the remainder of an infinite number
        whole = (numbers % 1 == 0) & (np.abs(numbers) < _BEYOND_CLASSES)
    if numbers.dtype.kind == "f" and not whole.all():
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
    return numbers.astype(np.int64) if numbers.dtype.kind == "f" else numbers


def _groups(path: Path, column: Cells) -> Array:
    if missing := int(column.isna().sum()):
        raise DataError(
            f"{path}: column '{column.name}' for split has {counted(missing, 'missing value')}; "
            "fill them in"
        )
    return np.unique(column.to_numpy(), return_inverse=True)[1]
