"""Notation of numbers and missing values in text: decimal marks, thousands, words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from optrial.data.arguments import TextTableArguments
from optrial.errors import DataError, counted

Cells: TypeAlias = "pd.Series[Any]"
"""A column of a table, with values of any type."""

_COLUMNS_SHOWN = 20
PLAIN_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
MISSING_WORDS = {
    *("?", "-", "--", "---", ".", "..", "*", "#"),
    *("\\n", "na", "n/a", "n.a.", "nan", "null", "none", "nil", "missing", "unknown"),
}
_SURELY_MISSING = {"?", "\\N"}  # as UCI and SQL write them, also among texts
_COMMA_DECIMAL = re.compile(r"[-+]?(\d+,\d*|,\d+)([eE][-+]?\d+)?")
_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_SURE_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3}(,\d{3})+(\.\d*)?|,\d{3}\.\d*)")
SPACED_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}( \d{3})+([.,]\d*)?")
POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?")
_SURE_POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}((\.\d{3})+,\d*|(\.\d{3}){2,})")


@dataclass(frozen=True)
class Notation:
    """Notation of numbers and missing values.

    Attributes:
        decimal: decimal mark; None if unknown.
        thousands: separator of thousands; None if unknown or not used.
        missing: words for missing values in each column, besides those of pandas.
    """

    decimal: str | None = None
    thousands: str | None = None
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)


def is_number(cell: str) -> bool:
    """Return whether a text is a number with a decimal point or comma, but no thousands mark."""
    return bool(PLAIN_NUMBER.fullmatch(cell) or _COMMA_DECIMAL.fullmatch(cell))


def may_be_number(cell: str) -> bool:
    """Return whether a text is a number with any decimal mark and thousands separator."""
    return any(
        pattern.fullmatch(cell)
        for pattern in (PLAIN_NUMBER, _COMMA_DECIMAL, _COMMA_GROUPS, POINT_GROUPS)
    )


def is_numeric(column: Sequence[str]) -> bool:
    """Return whether the cells of a column are numbers, except for missing values."""
    filled = [cell for cell in column if cell and cell.casefold() not in MISSING_WORDS]
    return bool(filled) and all(map(is_number, filled))


def recognised(path: Path, table: pd.DataFrame, notation: Notation) -> Notation:
    """Return the notation in which columns of text are numbers, or the same notation.

    Raises:
        DataError: a comma may be a decimal comma or separate thousands.
    """
    missing, written = dict(notation.missing), dict[str, list[str]]()
    for name in table.select_dtypes(["object", "string"]):
        cells = [str(cell) for cell in table[name].dropna().unique()]
        words = frozenset(cell for cell in cells if cell.casefold() in MISSING_WORDS)
        rest = [cell for cell in cells if cell not in words]
        if rest and all(map(may_be_number, rest)):
            written[str(name)] = rest
            missing |= {str(name): words} if words else {}
        elif sure := words & _SURELY_MISSING:
            missing[str(name)] = sure
    marks = _marks(path, written, notation)
    return replace(notation, **marks, missing=missing) if marks or missing else notation


def _marks(path: Path, written: Mapping[str, Sequence[str]], notation: Notation) -> dict[str, str]:
    """Return the decimal mark and thousands separator of the numbers, if they are not known."""
    cells = [cell for column in written.values() for cell in column]
    marks: dict[str, str] = {}
    if notation.decimal == ",":
        pointed = [cell for cell in cells if "." in cell]
        if notation.thousands is None and pointed and all(map(POINT_GROUPS.fullmatch, pointed)):
            marks["thousands"] = "."
        return marks
    commas = {name: next((c for c in column if "," in c), "") for name, column in written.items()}
    name, example = next(((n, c) for n, c in commas.items() if c), ("", ""))
    points = any(map(_SURE_POINT_GROUPS.fullmatch, cells))
    if not (example or points) or notation.thousands is not None:
        return marks
    decimal = points or any(
        _COMMA_DECIMAL.fullmatch(cell) and not _COMMA_GROUPS.fullmatch(cell) for cell in cells
    )
    groups = any(map(_SURE_COMMA_GROUPS.fullmatch, cells))
    if decimal != groups and notation.decimal is None:
        return {"decimal": ","} if decimal else {"thousands": ","}
    if notation.decimal == "." and not decimal:
        return {"thousands": ","}
    raise DataError(
        f"{path}: column '{name}' holds {example!r}, in which the comma may be a decimal comma or "
        "separate thousands; give decimal: ',' or thousands: ','"
    )


def notation_notes(arguments: TextTableArguments, notation: Notation) -> Iterator[str]:
    """Yield a note on everything that was recognised, besides what the arguments say."""
    if notation.decimal != arguments.decimal:
        yield f"numbers have the decimal mark {notation.decimal!r}"
    if notation.thousands != arguments.thousands:
        yield f"thousands are separated by {notation.thousands!r}"
    columns: dict[str, list[str]] = {}
    for name, words in notation.missing.items():
        for word in words:
            columns.setdefault(word, []).append(name)
    for word, names in columns.items():
        shown, more = ", ".join(names[:_COLUMNS_SHOWN]), len(names) - _COLUMNS_SHOWN
        shown += f" and {counted(more, 'more column')}" if more > 0 else ""
        yield f"{word!r} in {shown} is a missing value"
