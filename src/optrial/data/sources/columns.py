"""Columns of a table: kinds of their values, and the choice of features."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api import types
from pandas.util import hash_pandas_object

from optrial.data.arguments import GroupedSplit, TableArguments
from optrial.data.dataset import Array
from optrial.data.sources.notation import (
    MISSING_WORDS,
    PLAIN_NUMBER,
    SPACED_GROUPS,
    Cells,
    may_be_number,
)
from optrial.data.summary import Column, ColumnKind
from optrial.errors import DataError, counted, suggest

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionDtype

_FIRST_ROWS = 1000
_FEW = 20  # this many different values may be categories, however few the rows
_MOST = 0.9  # a column with a larger share of numbers is a column of numbers
_DATE = re.compile(
    r"""\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T\s].*)?          # 1949-01, 2020-01-31 12:00
    | \d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})(\s.*)?          # 31.01.2020, 1/31/20
    | \d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(\s?[ap]m)?             # 12:30
    | (\d{1,2}[\s.-]+)?([a-z]{3,5},?\s+)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*
      [\s.,-]+\d{1,4}.*                                     # Jan 1949, 3 March 2020""",
    re.VERBOSE | re.IGNORECASE,
)
_DECORATED = re.compile(
    r"\(?[-+]?\s*([$€£¥]|[A-Z]{3}\s)?\s*[-+]?\d[\d.,'\s]*(%|[$€£¥]|\s?[A-Za-z]{1,4}[²³]?)?\)?"
)
_SIGNS = re.compile(r"[%$€£¥]")
_TYPESET = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
"""Minus sign and spaces of typeset numbers -> those of plain text."""
_MOST_DIGITS = 4300  # of a whole number that Python converts from text
_IDENTIFIER = re.compile(r"(.*[_\s])?(?i:id|index|idx|uid)|.*[a-z](Id|ID)")


@dataclass(frozen=True)
class Roles:
    """The features of a table, and the reasons for leaving out other columns.

    Attributes:
        numbers, booleans, texts: names of the features of each kind, in the order of the table.
        dropped: all other columns except the targets.
        notes: sentences on columns that were dropped by default, never vary, repeat another or give
            the target away, and on texts that may be mistakes.
    """

    numbers: tuple[str, ...] = ()
    booleans: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    dropped: Mapping[str, Column] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def features(self) -> list[str]:
        """Names of all features: numbers, then booleans, then texts."""
        return [*self.numbers, *self.booleans, *self.texts]

    def without(self, names: Sequence[str], reason: str) -> Roles:
        """Return the same roles without some features."""
        kinds: dict[str, ColumnKind] = {
            **dict.fromkeys(self.numbers, "number"),
            **dict.fromkeys(self.booleans, "boolean"),
            **dict.fromkeys(self.texts, "text"),
        }
        dropped = {name: Column(name, kinds[name], "dropped", reason) for name in names}
        notes = [f"column '{name}' is dropped: {reason}" for name in names]
        return replace(
            self,
            numbers=tuple(name for name in self.numbers if name not in names),
            booleans=tuple(name for name in self.booleans if name not in names),
            texts=tuple(name for name in self.texts if name not in names),
            dropped={**self.dropped, **dropped},
            notes=(*self.notes, *notes),
        )


def kind_of(column: Cells) -> ColumnKind:
    """Return the kind of the values of a column."""
    filled = column.dropna()
    if filled.empty:
        return "empty"
    if hasattr(filled, "cat"):
        filled = filled.astype(filled.cat.categories.dtype)
    return _kind_of_type(filled.dtype) or _kind_of_cells(filled)


def numbers_of(column: Cells) -> Array:
    """Return numbers without missing values: whole ones as int64 or uint64, others as float64."""
    if not types.is_integer_dtype(column.dtype):
        return column.to_numpy(np.float64)
    unsigned = types.is_unsigned_integer_dtype(column.dtype)
    return column.to_numpy(np.uint64 if unsigned else np.int64)


def _kind_of_type(dtype: ExtensionDtype | np.dtype[np.generic]) -> ColumnKind | None:
    """Return the kind that the type of a column implies; None for text and objects."""
    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_numeric_dtype(dtype):
        return "object" if types.is_complex_dtype(dtype) else "number"
    dated = types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype)
    return "date" if dated or "period" in str(dtype) else None


def _kind_of_cells(filled: Cells) -> ColumnKind:
    try:
        different = list(filled.unique())
    except TypeError:  # lists, for example
        return "object"
    if all(isinstance(cell, str) for cell in different):
        words = [cell for cell in different if cell.casefold() not in MISSING_WORDS]
        dates = sum(bool(_DATE.fullmatch(cell)) for cell in words)
        return "date" if dates > _MOST * len(words) else "text"
    if all(isinstance(cell, bool) for cell in different):
        return "boolean"
    if all(isinstance(cell, numbers.Real | Decimal) for cell in different):
        return "number"  # too large for int64, or of decimal type
    return "date" if hasattr(different[0], "isoformat") else "object"


def assign_roles(
    place: str, table: pd.DataFrame, targets: Sequence[str], arguments: TableArguments
) -> Roles:
    """Choose the features of a table.

    Args:
        place: origin of the table, to begin the error.
        table: all columns, with missing values.
        targets: names of the columns to predict.
        arguments: `features`, `drop`, `index` and `split` are read.

    Raises:
        DataError: a named column does not exist, a column holds dates or numbers written as text,
            or no features remain.
    """
    _check_names(place, table, targets, arguments)
    kinds = {name: kind_of(table[name]) for name in map(str, table) if name not in targets}
    dropped: dict[str, Column] = {}
    notes: list[str] = []
    problems: list[str] = []
    for name, kind in kinds.items():
        asked = _asked_to_drop(name, arguments)
        reason = asked or _useless(table, name, kind, forced=arguments.features is not None)
        if reason:
            dropped[name] = Column(name, kind, "dropped", reason)
            way_out = "" if kind == "empty" else "; name it in features to use it"
            notes += [] if asked else [f"column '{name}' is dropped: {reason}{way_out}"]
        elif problem := _problem(name, table[name], kind, arguments):
            problems.append(problem)
    if problems:
        raise DataError(f"{place} cannot be used: " + "\n  ".join(problems))
    used = [name for name in kinds if name not in dropped]
    if not used:
        reasons = "".join(f"\n  '{name}': {column.detail}" for name, column in dropped.items())
        raise DataError(
            f"{place} has 0 features and {counted(len(table), 'row')} besides the target; name the "
            f"columns to use, as in features: [...]; dropped columns:{reasons or ' none'}"
        )
    numeric = tuple(name for name in used if kinds[name] == "number")
    texts = tuple(name for name in used if kinds[name] == "text")
    words = [*texts, *(name for name in targets if kind_of(table[name]) == "text")]
    return Roles(
        numbers=numeric,
        booleans=tuple(name for name in used if kinds[name] == "boolean"),
        texts=texts,
        dropped=dropped,
        notes=(
            *notes,
            *_redundant(table[used], numeric),
            *_leaks(table[used], table[list(targets)]),
            *(note for name in texts for note in _units(table[name])),
            *(note for name in words for note in _spellings(table[name])),
        ),
    )


_EXCLUSIVE = (
    *(("target", other) for other in ("features", "drop", "index")),
    *(("features", other) for other in ("drop", "index")),
)
"""Arguments that must not name the same column."""


def _check_names(
    place: str, table: pd.DataFrame, targets: Sequence[str], arguments: TableArguments
) -> None:
    """Refuse arguments that name unknown columns, or one column for two purposes."""
    columns = list(map(str, table.columns))
    named = {
        "target": targets,
        "features": arguments.features or (),
        "drop": arguments.drop or (),
        "index": (arguments.index,) if arguments.index is not None else (),
        "split": (arguments.split.grouped,) if isinstance(arguments.split, GroupedSplit) else (),
    }
    alone = " It has one column; name the separator." if len(columns) == 1 else ""
    problems = [
        f"{place} has no column '{name}' for {key}. {suggest(name, columns[:_FEW])}{alone}"
        for key, names in named.items()
        for name in names
        if name not in columns
    ]
    problems += [
        f"{place}: column '{name}' cannot be both {first} and {second}; name it once"
        for first, second in _EXCLUSIVE
        for name in sorted({*named[first]} & {*named[second]})
    ]
    if len(set(targets)) < len(targets):
        problems.append(f"{place}: target names a column twice; name each once")
    if problems:
        raise DataError("\n  ".join(problems))


def _asked_to_drop(name: str, arguments: TableArguments) -> str:
    if name == arguments.index:
        return "index"
    if name in (arguments.drop or ()):
        return "as asked"
    if arguments.features is not None and name not in arguments.features:
        return "not in features"
    grouped = isinstance(arguments.split, GroupedSplit) and arguments.split.grouped == name
    return "groups the split" if grouped and arguments.features is None else ""


def _useless(table: pd.DataFrame, name: str, kind: ColumnKind, forced: bool) -> str:
    """Return why a column carries no information, or only about single rows; "" if it does."""
    column = table[name]
    if kind == "empty":
        return "all values are missing"
    if forced:
        return ""
    if name.startswith("Unnamed: "):
        return "without a name, as a saved index"
    if kind == "number" and (reason := _numbers_rows(name, column)):
        return reason
    if kind == "text" and not problem_with_text(name, column):
        different = column.nunique()
        if different > max(_FEW, column.count() / 2):
            return f"{different:,} different texts in {column.count():,} rows"
    return ""


def _numbers_rows(name: str, column: Cells) -> str:
    """Return why a column of numbers seems to count or identify the rows; "" if it does not."""
    if column.isna().any() or len(column) < 3:
        return ""
    values = numbers_of(column)
    ordered = np.sort(values)
    if not np.isfinite(values).all() or (values % 1 != 0).any() or (np.diff(ordered) == 0).any():
        return ""
    if np.array_equal(ordered, np.arange(len(ordered)) + ordered[0]) and ordered[0] in (0, 1):
        return "it numbers the rows"
    if np.array_equal(values, ordered) or np.array_equal(values, ordered[::-1]):
        return "whole numbers in order, as an index"
    if _IDENTIFIER.fullmatch(name):
        return "identifiers, all different"
    return ""


def _problem(name: str, column: Cells, kind: ColumnKind, arguments: TableArguments) -> str:
    """Return why a column cannot be a feature; "" if it can."""
    if kind == "date":
        cells = column.dropna().astype(str)
        example = next(filter(_DATE.fullmatch, cells), cells.iloc[0])
        return (
            f"column '{name}' holds dates such as {example!r}; derive numbers from them, or leave "
            f"it out by drop: [{name}]; split: chronological keeps the order of the rows"
        )
    if kind == "object":
        cell = column.dropna().iloc[0]
        return (
            f"column '{name}' holds a {type(cell).__name__}, neither number nor text; convert it, "
            f"or leave it out by drop: [{name}]"
        )
    if kind == "number":
        values = column.astype("float64").to_numpy(na_value=0)
        if (infinite := ~np.isfinite(values)).any():
            return (
                f"column '{name}' holds {values[infinite][0]} in data row "
                f"{int(infinite.argmax()) + 1}; correct it, or leave it out by drop: [{name}]"
            )
        with np.errstate(over="ignore"):
            inexact = (values % 1 == 0) & (values.astype(np.float32) != values)
        if arguments.scale == "none" and inexact.any():
            return (
                f"column '{name}' holds whole numbers such as {values[inexact][0]:.0f}, which "
                "float32 cannot represent; use scale: standardize, or leave it out by "
                f"drop: [{name}]"
            )
    problem = problem_with_text(name, column) if kind == "text" else ""
    return f"{problem}, or leave the column out by drop: [{name}]" if problem else ""


def _is_too_long(cell: str) -> bool:
    """Return whether a text is a number of more digits than Python converts."""
    return len(cell) > _MOST_DIGITS and bool(PLAIN_NUMBER.fullmatch(cell))


def problem_with_text(name: str, column: Cells) -> str:
    """Return why a column of text seems to hold numbers; "" if it does not."""
    counts = column.astype(str)[column.notna()].value_counts()
    cells = list(counts.index)
    if long := next((cell for cell in cells if _is_too_long(cell)), None):
        return f"column '{name}' holds a number of {len(long):,} characters; correct it"
    plain = counts[[bool(PLAIN_NUMBER.fullmatch(cell)) for cell in cells]]
    odd = [cell for cell in cells if not PLAIN_NUMBER.fullmatch(cell)]
    share = plain.sum() / counts.sum()
    if odd and (share > _MOST or (len(plain) > _FEW and share > 1 / 2)):
        shown = ", ".join(map(repr, odd[:3]))
        row = int((column == odd[0]).to_numpy().argmax()) + 1
        texts = int(counts.sum() - plain.sum())
        return (
            f"column '{name}' holds numbers, and text in {counted(texts, 'row')} such as {shown} "
            f"(data row {row}); correct them, name missing values, as in na_values: [{odd[0]!r}]"
        )
    marked = next((cell for cell in cells if "." in cell or "," in cell), None)
    if marked is not None and all(map(may_be_number, cells)):
        return (
            f"column '{name}' holds numbers such as {marked!r}, whose decimal mark or thousands "
            "separator differs from that of other numbers of the table; write all numbers alike"
        )
    usual = [cell.translate(_TYPESET) for cell in cells]
    grouped = next((cells[i] for i, cell in enumerate(usual) if SPACED_GROUPS.fullmatch(cell)), "")
    surely = all(map(_SIGNS.search, cells)) or grouped or usual != cells or len(cells) > _FEW
    if surely and all(map(_DECORATED.fullmatch, usual)):
        problem = (
            f"column '{name}' holds numbers written as text, such as {grouped or cells[0]!r}; "
            "write them as plain numbers, without signs, units or spaces"
        )
        if " " in grouped:  # pandas takes a separator of one byte
            problem += ", or give thousands: ' '" + ", decimal: ','" * ("," in grouped)
        return problem
    return ""


def _redundant(features: pd.DataFrame, numeric: Sequence[str]) -> Iterator[str]:
    """Yield a note on features that never vary, and one per feature that repeats another."""
    first: dict[bytes, str] = {}
    constant, copies = [], []
    for name in features:
        column = features[name]
        values = column.astype("float64") if name in numeric else column  # as a model sees it
        if values.nunique(dropna=False) == 1:
            constant.append(f"'{name}'")
            continue
        content = hash_pandas_object(column, index=False).to_numpy().tobytes()
        original = first.setdefault(content, str(name))
        if original != name and column.equals(features[original].astype(column.dtype)):
            copies.append(f"'{name}' repeats '{original}'")
    if constant:
        verb = "has" if len(constant) == 1 else "have"
        yield f"{', '.join(constant)} {verb} the same value in every row"
    yield from copies


def _leaks(features: pd.DataFrame, targets: pd.DataFrame) -> Iterator[str]:
    """Yield a note on each feature that has one value for each value of a target, and no other."""
    for target in targets:
        wanted = pd.factorize(targets[target])[0]
        if not 1 < wanted.max() + 1 <= len(wanted) / 2:  # values that repeat show more than chance
            continue
        for name in features:
            column, first = features[name], slice(_FIRST_ROWS)  # which tell most features apart
            if np.array_equal(pd.factorize(column[first])[0], wanted[first]) and np.array_equal(
                pd.factorize(column)[0], wanted
            ):
                yield (
                    f"'{name}' gives the target '{target}' away: each value of one goes with a "
                    f"single value of the other; drop: [{name}] leaves it out"
                )


def _units(column: Cells) -> Iterator[str]:
    """Yield a note if texts that become categories are numbers with a unit."""
    cells = list(column.dropna().astype(str).unique())
    if len(cells) > 1 and all(_DECORATED.fullmatch(c) and re.search("[A-Za-z]", c) for c in cells):
        yield (
            f"'{column.name}' holds numbers with a unit, such as {cells[0]!r}, which become "
            "categories; write plain numbers to keep their order"
        )


def _spellings(column: Cells) -> Iterator[str]:
    """Yield a note if texts differ only in case or spaces."""
    first: dict[str, str] = {}
    for cell in column.dropna().unique():
        original = first.setdefault(" ".join(cell.casefold().split()), cell)
        if original != cell:
            yield (
                f"'{column.name}' holds {original!r} and {cell!r}, which count as different; write "
                "them alike if they are the same"
            )
            return
