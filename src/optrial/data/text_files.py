"""Text files of tables -> data frames: encoding, separator, header, and how numbers are written.

What a file does not leave open is recognised and reported in a note; what it leaves open is an
error that names the argument to give. The rest is `pandas.read_csv`.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import itertools
import lzma
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optrial.data.arguments import TextTableArguments
from optrial.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPRESSED", "PLAIN_NUMBER", "read_text_table"]

COMPRESSED: Mapping[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
PLAIN_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)
_SPACES = r"\s+"
_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_ROWS = 200
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MISSING_WORDS = {
    *("?", "-", "--", "---", ".", "..", "*", "#"),
    *("na", "n/a", "n.a.", "nan", "null", "none", "nil", "missing", "unknown"),
}
_COMMA_DECIMAL = re.compile(r"[-+]?(\d+,\d*|,\d+)([eE][-+]?\d+)?")
_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_SURE_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3}(,\d{3})+(\.\d*)?|,\d{3}\.\d*)")
_POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?")
_SURE_POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}((\.\d{3})+,\d*|(\.\d{3}){2,})")


@dataclass(frozen=True)
class _Form:
    """Notation of numbers and missing values, as arguments of `pandas.read_csv`."""

    decimal: str | None = None
    thousands: str | None = None
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_text_table(path: Path, arguments: TextTableArguments) -> tuple[pd.DataFrame, list[str]]:
    """Read a text file, plain or compressed.

    Returns:
        the table, and a note on everything that was recognised.

    Raises:
        DataError: the file cannot be read, or can be read in several ways.
    """
    notes: list[str] = []
    text = _decoded(path, _decompressed(path), arguments.encoding)
    if not text.strip():
        raise DataError(f"{path} is empty; it must hold a table")
    if named := _NAMED_SEPARATOR.match(text):  # Excel writes it
        text = text[named.end() :]
    separator = arguments.separator or (named and named[1]) or _sniffed(path, text, notes)
    names, header = _header(path, text, separator, arguments)
    _check_rows(path, text, separator, len(names))

    def parse(form: _Form) -> pd.DataFrame:
        return _parsed(path, text, separator, names, header, arguments, form)

    form = _Form(arguments.decimal, arguments.thousands)
    table = parse(form)
    for _ in range(2):  # thousands are recognised once the decimal comma is known
        better = _better_form(path, table, form)
        if better == form:
            break
        form, table = better, parse(better)
    return table, [*notes, *_form_notes(arguments, form)]


def _decompressed(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return COMPRESSED.get(path.suffix.lower(), bytes)(content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); write it again, or name another file"
        ) from error


def _decoded(path: Path, content: bytes, encoding: str | None) -> str:
    marked = next((e for mark, e in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    if marked == "utf-8-sig" and chosen.lower().replace("_", "-") in ("utf-8", "utf8"):
        chosen = marked
    try:
        text = content.decode(chosen)
    except UnicodeError as error:
        raise DataError(
            f"{path} is not text in {chosen} ({error}); name its encoding, such as "
            "encoding: latin-1, cp1252 or utf-16"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path} holds the character NUL, so it is not a text table; if it is text, name its "
            "encoding, such as encoding: utf-16"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    """Yield the fields of every row that is not blank."""
    if separator == _SPACES:
        lines = (line.strip() for line in io.StringIO(text))
        reader = csv.reader((re.sub(r"\s+", " ", line) for line in lines), delimiter=" ")
    else:
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    return (row for row in reader if any(row) and (len(row) > 1 or row[0].strip()))


def _sampled(text: str, separator: str) -> list[list[str]]:
    """Return the first rows, without spaces around fields."""
    rows = itertools.islice(_rows(text, separator), _SAMPLE_ROWS + 1)
    return [[cell.strip() for cell in row] for row in rows]


def _widths(text: str, separator: str) -> set[int]:
    """Return the numbers of fields of the first rows; none where they cannot be parsed."""
    try:
        return set(map(len, _sampled(text, separator)))
    except csv.Error:
        return set()


def _sniffed(path: Path, text: str, notes: list[str]) -> str:
    """Return the separator that divides the first rows into equally many fields, two or more."""
    widths = {separator: _widths(text, separator) for separator in (*_SEPARATORS, _SPACES)}
    even = [s for s, counts in widths.items() if len(counts) == 1 and max(counts) > 1]
    chosen = [separator for separator in even if separator != _SPACES] or even
    if len(chosen) > 1:
        raise DataError(
            f"{path} can be divided by {' and by '.join(map(repr, chosen))}; name its separator, "
            f"such as separator: {chosen[0]!r}"
        )
    if not chosen:  # uneven rows, to be reported, or a single column
        first = {s: len(next(_rows(text, s), ())) for s in _SEPARATORS if widths[s]}
        chosen = [max(first, key=lambda s: first[s], default=",")]
    if chosen[0] != ",":
        notes.append(f"fields are separated by {_shown(chosen[0])}")
    return chosen[0]


def _shown(separator: str) -> str:
    return {"\t": "tabs", _SPACES: "spaces"}.get(separator, repr(separator))


def _header(
    path: Path, text: str, separator: str, arguments: TextTableArguments
) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row holds names.

    Raises:
        DataError: the first row looks like data, names are missing, or two are the same.
    """
    try:
        first, *sample = _sampled(text, separator)
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table ({error}); correct it") from error
    named, header = arguments.names, arguments.header
    if named is None and header is not False:
        _check_first_row(path, first, sample, asked=header is None)
    if header is None:
        header = named is None
    if named is not None and len(named) != len(first):
        raise DataError(f"{path} has {len(first)} columns; names has {len(named)}: name them all")
    if named is not None:
        names = list(named)
    elif header:
        names = [cell or f"Unnamed: {place}" for place, cell in enumerate(first)]
    else:
        names = [str(number) for number in range(1, len(first) + 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path} has several columns named {', '.join(map(repr, twice))}; rename them, or "
            "give names: [...] with header: true; a file without a header needs header: false"
        )
    return names, header


def _check_first_row(
    path: Path, first: Sequence[str], sample: Sequence[Sequence[str]], asked: bool
) -> None:
    """Refuse a first row that occurs again, or that looks like data where nothing was said."""
    shown = repr(", ".join(first)[:60])
    if first in sample and not any(map(_is_number, first)):
        raise DataError(
            f"{path} repeats its header {shown} in row {sample.index(first) + 2}; remove the row, "
            "or give header: false if the first row is not a header"
        )
    if asked and _looks_like_data(first, sample):
        raise DataError(
            f"{path} has no header, it seems: its first row is {shown}; give header: false, which "
            f"names the columns 1 to {len(first)}, or names: [...], or header: true if these are "
            "names"
        )


def _looks_like_data(first: Sequence[str], sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has numbers where the next rows have them, and their texts elsewhere.

    A row of whole numbers over columns of numbers may be years that name columns, or data; it
    counts as data, so that the user is asked.
    """
    columns = [list(column) for column in zip(*sample, strict=False)]
    if not columns or len(columns) != len(first):
        return False
    numeric = [_is_numeric(column) for column in columns]
    pairs = list(zip(first, columns, numeric, strict=True))
    if not all(_is_number(cell) for cell, _, is_number in pairs if is_number):
        return False
    texts = [cell in column for cell, column, is_number in pairs if not is_number]
    fraction = any("." in cell for cell, _, is_number in pairs if is_number)
    return (bool(texts) and all(texts)) or (any(numeric) and (fraction or not texts))


def _is_numeric(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell and cell.casefold() not in _MISSING_WORDS]
    return bool(filled) and all(map(_is_number, filled))


def _is_number(cell: str) -> bool:
    return bool(PLAIN_NUMBER.fullmatch(cell) or _COMMA_DECIMAL.fullmatch(cell))


def _check_rows(path: Path, text: str, separator: str, width: int) -> None:
    """Refuse rows that are longer or shorter than the first, which pandas would fill or cut."""
    try:
        uneven = [
            (number, len(row))
            for number, row in enumerate(_rows(text, separator), 1)
            if len(row) != width
        ]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table ({error}); correct it") from error
    if uneven:
        number, fields = uneven[0]
        raise DataError(
            f"{path} cannot be read: {len(uneven)} rows do not have the {width} fields of the "
            f"first, such as row {number} with {fields}; correct them, or name another separator "
            f"than {_shown(separator)}"
        )


def _parsed(
    path: Path,
    text: str,
    separator: str,
    names: Sequence[str],
    header: bool,
    arguments: TextTableArguments,
    form: _Form,
) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415  (half a second to import)

    missing = {
        name: [*(arguments.na_values or ()), *form.missing.get(name, ())]
        for name in names
        if arguments.na_values or form.missing.get(name)
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                names=list(names),
                header=0 if header else None,
                index_col=False,
                decimal=form.decimal or ".",
                thousands=form.thousands,
                na_values=missing or None,
                keep_default_na=arguments.keep_default_na,
                skipinitialspace=True,
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); correct it") from error
    for name in table.select_dtypes(["object", "string"]):
        table[name] = _stripped(table[name])
    return table


def _stripped(column: pd.Series[Any]) -> pd.Series[Any]:
    """Remove spaces around texts; a text of spaces alone is missing."""
    texts = [cell for cell in column.unique() if isinstance(cell, str) and cell != cell.strip()]
    return column.replace({cell: cell.strip() or None for cell in texts}) if texts else column


def _better_form(path: Path, table: pd.DataFrame, form: _Form) -> _Form:
    """Return the form that makes numbers of columns of text, or the same.

    Raises:
        DataError: a comma may be a decimal comma or separate thousands.
    """
    missing, written = dict(form.missing), dict[str, list[str]]()
    for name in table.select_dtypes(["object", "string"]):
        cells = [str(cell) for cell in table[name].dropna().unique()]
        words = frozenset(cell for cell in cells if cell.casefold() in _MISSING_WORDS)
        rest = [cell for cell in cells if cell not in words]
        if rest and all(map(_maybe_number, rest)):
            written[str(name)] = rest
            missing |= {str(name): words} if words else {}
        elif "?" in words:
            missing[str(name)] = frozenset("?")
    marks = _marks(path, written, form)
    return replace(form, **marks, missing=missing) if marks or missing else form


def _maybe_number(cell: str) -> bool:
    return any(
        pattern.fullmatch(cell)
        for pattern in (PLAIN_NUMBER, _COMMA_DECIMAL, _COMMA_GROUPS, _POINT_GROUPS)
    )


def _marks(path: Path, written: Mapping[str, Sequence[str]], form: _Form) -> dict[str, str]:
    """Return the decimal and thousands marks that the numbers show, where they are not known."""
    cells = [cell for column in written.values() for cell in column]
    marks: dict[str, str] = {}
    if form.decimal == ",":
        if form.thousands is None and any(map(_POINT_GROUPS.fullmatch, cells)):
            marks["thousands"] = "."
        return marks
    commas = {name: next((c for c in column if "," in c), "") for name, column in written.items()}
    name, example = next(((n, c) for n, c in commas.items() if c), ("", ""))
    points = any(map(_SURE_POINT_GROUPS.fullmatch, cells))
    if not (example or points) or form.thousands is not None:
        return marks
    decimal = points or any(
        _COMMA_DECIMAL.fullmatch(cell) and not _COMMA_GROUPS.fullmatch(cell) for cell in cells
    )
    groups = any(map(_SURE_COMMA_GROUPS.fullmatch, cells))
    if decimal != groups and form.decimal is None:
        return {"decimal": ","} if decimal else {"thousands": ","}
    if form.decimal == "." and not decimal:
        return {"thousands": ","}
    raise DataError(
        f"{path}: column '{name}' holds {example!r}, in which the comma may be a decimal comma or "
        "separate thousands; give decimal: ',' or thousands: ','"
    )


def _form_notes(arguments: TextTableArguments, form: _Form) -> Iterator[str]:
    if form.decimal != arguments.decimal:
        yield f"numbers have the decimal mark {form.decimal!r}"
    if form.thousands != arguments.thousands:
        yield f"thousands are separated by {form.thousands!r}"
    columns: dict[str, list[str]] = {}
    for name, words in form.missing.items():
        for word in words:
            columns.setdefault(word, []).append(name)
    for word, names in columns.items():
        yield f"{word!r} in {', '.join(names)} is a missing value"
