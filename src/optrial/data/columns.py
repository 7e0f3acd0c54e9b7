"""Columns of a table: what each holds, and which of them are features."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from optrial.data.arguments import GroupedSplit, TableArguments
from optrial.data.summary import Column
from optrial.data.text_files import MISSING_WORDS, PLAIN_NUMBER, may_be_number
from optrial.errors import DataError, suggest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Roles", "assign_roles", "kind_of", "problem_with_text"]

_FEW = 20  # so many different values may be categories, however few rows there are
_MOST = 0.9  # a column with a larger share of numbers is one of numbers
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
_IDENTIFIER = re.compile(r"(.*[_\s])?(?i:id|index|idx|uid)|.*[a-z](Id|ID)")


@dataclass(frozen=True)
class Roles:
    """The features of a table, and the reasons for leaving out other columns.

    Attributes:
        numbers, booleans, texts: names of the features of each kind, in the order of the table.
        dropped: every other column but the targets.
        notes: on columns that were dropped unasked, or hold nothing of use.
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
        kept: dict[str, tuple[str, ...]] = {}
        dropped = dict(self.dropped)
        for kind in ("number", "boolean", "text"):
            features: tuple[str, ...] = getattr(self, f"{kind}s")
            kept[f"{kind}s"] = tuple(name for name in features if name not in names)
            gone = set(features) & set(names)
            dropped |= {name: Column(name, kind, "dropped", reason) for name in gone}
        notes = [f"column '{name}' is dropped: {reason}" for name in names]
        return replace(self, **kept, dropped=dropped, notes=(*self.notes, *notes))


def kind_of(column: pd.Series[Any]) -> str:
    """Return "number", "boolean", "text", "date", "empty" or "object"."""
    filled = column.dropna()
    if filled.empty:
        return "empty"
    if hasattr(filled, "cat"):
        filled = filled.astype(filled.cat.categories.dtype)
    return _kind_of_type(filled.dtype) or _kind_of_cells(filled)


def _kind_of_type(dtype: Any) -> str:
    """Return the kind that the type of a column tells; nothing for text and objects."""
    from pandas.api import types  # noqa: PLC0415  (half a second to import)

    if types.is_bool_dtype(dtype):
        return "boolean"
    if types.is_numeric_dtype(dtype):
        return "object" if types.is_complex_dtype(dtype) else "number"
    dated = types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype)
    return "date" if dated or "period" in str(dtype) else ""


def _kind_of_cells(filled: pd.Series[Any]) -> str:
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
        place: where the table is from, to begin the error.
        table: without sorted-out missing values.
        targets: columns to predict.
        arguments: `features`, `drop`, `index` and `split` are read.

    Raises:
        DataError: a column that is named is not there, holds dates or numbers written as text, or
            no features remain.
    """
    _check_names(place, table, targets, arguments)
    kinds = {name: kind_of(table[name]) for name in map(str, table) if name not in targets}
    dropped: dict[str, Column] = {}
    unasked: list[str] = []
    problems: list[str] = []
    for name, kind in kinds.items():
        asked = _asked_to_drop(name, arguments)
        reason = asked or _useless(table, name, kind, forced=arguments.features is not None)
        if reason:
            dropped[name] = Column(name, kind, "dropped", reason)
            keep = "" if kind == "empty" else "; name it in features to use it"
            unasked += [] if asked else [f"column '{name}' is dropped: {reason}{keep}"]
        elif problem := _problem(name, table[name], kind, arguments):
            problems.append(problem)
    if problems:
        raise DataError(f"{place} cannot be used: " + "\n  ".join(problems))
    used = [name for name in kinds if name not in dropped]
    if not used:
        why = "".join(f"\n  '{name}': {column.detail}" for name, column in dropped.items())
        raise DataError(
            f"{place} has 0 features and {len(table)} rows besides the target; name the columns to "
            f"use, as in features: [...]; dropped columns:{why or ' none'}"
        )
    of_kind = {
        wanted: tuple(name for name in used if kinds[name] == wanted)
        for wanted in ("number", "boolean", "text")
    }
    notes = (*unasked, *_redundant(table[used]))
    return Roles(of_kind["number"], of_kind["boolean"], of_kind["text"], dropped, notes)


def _check_names(
    place: str, table: pd.DataFrame, targets: Sequence[str], arguments: TableArguments
) -> None:
    """Refuse arguments that name columns which are not there, or one column for two purposes."""
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
    uses = {key: set(names) for key, names in named.items() if key not in ("split",)}
    problems += [
        f"{place}: column '{name}' cannot be both {first} and {second}; name it once"
        for first, second in (("target", "features"), ("target", "drop"), ("target", "index"),
                              ("features", "drop"), ("features", "index"))
        for name in sorted(uses[first] & uses[second])
    ]  # fmt: skip
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


def _useless(table: pd.DataFrame, name: str, kind: str, forced: bool) -> str:
    """Say why a column tells nothing about its row, or nothing that other rows share."""
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


def _numbers_rows(name: str, column: pd.Series[Any]) -> str:
    """Say why a column of numbers seems to count or identify the rows."""
    if column.isna().any() or len(column) < 3:
        return ""
    values = column.to_numpy(np.float64)
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


def _problem(name: str, column: pd.Series[Any], kind: str, arguments: TableArguments) -> str:
    """Say what is in the way of using a column as a feature."""
    if kind == "date":
        cells = column.dropna().astype(str)
        example = next(filter(_DATE.fullmatch, cells), cells.iloc[0])
        return (
            f"column '{name}' holds dates such as {example!r}; derive numbers "
            f"from them, or leave it out by drop: [{name}]; split: chronological keeps the order "
            "of the rows"
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
                "float32 does not hold exactly; use scale: standardize, or leave it out by "
                f"drop: [{name}]"
            )
    return problem_with_text(name, column) if kind == "text" else ""


def problem_with_text(name: str, column: pd.Series[Any]) -> str:
    """Say why a column of text seems to hold numbers, if it does."""
    counts = column.astype(str)[column.notna()].value_counts()
    cells = list(counts.index)
    plain = counts[[bool(PLAIN_NUMBER.fullmatch(cell)) for cell in cells]]
    way_out = f"or leave the column out by drop: [{name}]"
    odd = [cell for cell in cells if not PLAIN_NUMBER.fullmatch(cell)]
    share = plain.sum() / counts.sum()
    if odd and (share > _MOST or (len(plain) > _FEW and share > 1 / 2)):
        shown = ", ".join(map(repr, odd[:3]))
        row = int((column == odd[0]).to_numpy().argmax()) + 1
        return (
            f"column '{name}' holds numbers, and text in {counts.sum() - plain.sum()} rows such as "
            f"{shown} (data row {row}); correct them, name what is missing, as in na_values: "
            f"[{odd[0]!r}], {way_out}"
        )
    marked = next((cell for cell in cells if "." in cell or "," in cell), None)
    if marked is not None and all(map(may_be_number, cells)):
        return (
            f"column '{name}' holds numbers such as {marked!r}, whose marks for decimals or "
            "thousands are not those of all numbers of the table; write all numbers alike, "
            f"{way_out}"
        )
    signed = all(map(_SIGNS.search, cells))
    if (signed or len(cells) > _FEW) and all(map(_DECORATED.fullmatch, cells)):
        return (
            f"column '{name}' holds numbers written as text, such as {cells[0]!r}; write them as "
            f"plain numbers, without signs, units or spaces, {way_out}"
        )
    return ""


def _redundant(features: pd.DataFrame) -> Iterator[str]:
    """Name features that never vary, and those that repeat another."""
    from pandas.util import hash_pandas_object  # noqa: PLC0415  (half a second to import)

    first: dict[bytes, str] = {}
    constant, copies = [], []
    for name in features:
        column = features[name]
        if column.nunique(dropna=False) == 1:
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
