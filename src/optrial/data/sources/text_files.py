"""Tables in text files as data frames: encoding, separator and header.

Whatever the file determines is recognised and reported in a note; an ambiguity is an error that
names the argument to give. `pandas.read_csv` does the rest.
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
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pandas as pd

from optrial.data.arguments import TextTableArguments
from optrial.data.fitting import Readable, require_memory, unpacked
from optrial.data.sources.notation import (
    PLAIN_NUMBER,
    POINT_GROUPS,
    SPACED_GROUPS,
    Cells,
    Notation,
    is_number,
    is_numeric,
    notation_notes,
    recognised,
)
from optrial.errors import DataError, counted

_COMPRESSED: Mapping[bytes, Callable[[Path], AbstractContextManager[Readable]]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""Classes that unpack a file, by its first bytes."""
_LONGEST_MARK = max(map(len, _COMPRESSED))
_NAMED_SEPARATOR = re.compile(r'"?sep=(.)"?\n', re.IGNORECASE)
_SPACES = r"\s+"
_SEPARATORS = (",", ";", "\t", "|")
_COPIES = 8  # at least: bytes, text, text to be parsed in four bytes each, fields, table
_ROW_BYTES = 50  # at least, beside the copies of its text
_SAMPLE_ROWS = 200
_COMMENT_MARKS = ("#", "%")
_WITH_ZEROS = re.compile(r"[-+]?0\d+")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class _Text:
    """The text of a table and its division into fields.

    Attributes:
        path: file that holds it, for errors.
        content: decoded text, without comments.
        separator: one character between fields, or ``\\s+`` for spaces.
        names: names of the columns.
        header: whether the first row holds names.
    """

    path: Path
    content: str
    separator: str
    names: Sequence[str]
    header: bool


def read_text_table(
    path: Path, arguments: TextTableArguments, classes: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Read a text file, plain or compressed.

    Args:
        path: the file.
        arguments: how it is written.
        classes: name of the column that holds classes; None for no such column.

    Returns:
        the table, and notes on everything that was recognised.

    Raises:
        DataError: the file cannot be read, or is ambiguous.
    """
    notes: list[str] = []
    text = _decoded(path, _decompressed(path), arguments.encoding)
    require_memory(str(path), (_COPIES - 2) * len(text) + _ROW_BYTES * text.count("\n"))
    if arguments.comment is not None:
        text = re.sub(rf"^[ \t]*{re.escape(arguments.comment)}.*\n?", "", text, flags=re.MULTILINE)
    if not text.strip():
        raise DataError(f"{path} is empty; it must hold a table")
    if named := _NAMED_SEPARATOR.match(text):  # as Excel writes it
        text = text[named.end() :]
    separator = arguments.separator or (named and named[1]) or _sniffed(path, text, notes)
    rows = _Text(path, text, separator, *_header(path, text, separator, arguments))
    _check_rows(rows)
    notation = Notation(arguments.decimal, arguments.thousands)
    table = _parsed(rows, arguments, notation)
    for _ in range(2):  # thousands are recognised once the decimal comma is known
        better = recognised(path, table, notation)
        if better == notation:
            break
        notation, table = better, _parsed(rows, arguments, better)
    if notation.decimal is notation.thousands is None:
        _check_points(rows)
    if notation.thousands is not None:
        _check_groups(rows, table, notation)
    if classes in rows.names:
        notes += _joined_classes(rows, str(classes), table[classes], notation)
    return table, [*notes, *notation_notes(arguments, notation)]


def _decompressed(path: Path) -> bytes:
    """Return the content of a file, decompressed if its first bytes say so."""
    try:
        require_memory(str(path), _COPIES * path.stat().st_size)
        with path.open("rb") as file:
            start = file.read(_LONGEST_MARK)
        marked = (opener for mark, opener in _COMPRESSED.items() if start.startswith(mark))
        if opener := next(marked, None):
            with opener(path) as compressed:
                return unpacked(str(path), compressed, _COPIES)
        return path.read_bytes()
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
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
    """Return the fields of every row that is not blank."""
    if separator == _SPACES:
        lines = (line.strip() for line in io.StringIO(text))
        reader = csv.reader((re.sub(r"\s+", " ", line) for line in lines), delimiter=" ")
    else:
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    return (row for row in reader if any(row) and (len(row) > 1 or row[0].strip()))


def _sampled(text: str, separator: str) -> list[list[str]]:
    """Return the first rows, with spaces around fields removed."""
    rows = itertools.islice(_rows(text, separator), _SAMPLE_ROWS + 1)
    return [[cell.strip() for cell in row] for row in rows]


def _widths(text: str, separator: str) -> set[int]:
    """Return the numbers of fields of the first rows; empty if they cannot be parsed."""
    try:
        return set(map(len, _sampled(text, separator)))
    except csv.Error:
        return set()


def _sniffed(path: Path, text: str, notes: list[str]) -> str:
    """Return the separator that divides the first rows into the same number of fields."""
    widths = {separator: _widths(text, separator) for separator in (*_SEPARATORS, _SPACES)}
    even = [s for s, counts in widths.items() if len(counts) == 1 and max(counts) > 1]
    chosen = [separator for separator in even if separator != _SPACES] or even
    if _SPACES in even and chosen != even:
        chosen = _without_numbers_inside(text, chosen)
    if len(chosen) > 1:
        raise DataError(
            f"{path} can be divided by {' and by '.join(map(repr, chosen))}; name its separator, "
            f"such as separator: {chosen[0]!r}"
        )
    if not chosen:  # uneven rows, to be reported, or a single column
        tried = _SEPARATORS if len(widths[_SPACES]) != 2 else (*_SEPARATORS, _SPACES)
        first = {s: len(next(_rows(text, s), ())) for s in tried if widths[s]}
        chosen = [max(first, key=lambda s: first[s], default=",")]
    if chosen[0] != ",":
        notes.append(f"fields are separated by {_shown(chosen[0])}")
    return chosen[0]


def _without_numbers_inside(text: str, separators: Sequence[str]) -> list[str]:
    """Return the separators after which no field holds several numbers, or else spaces.

    Fields such as 1 234 may be one number with a space between thousands, so both remain.
    """
    chosen: list[str] = []
    for separator in separators:
        sample = _sampled(text, separator)
        rows = sample[1:] or sample  # the first may be names
        columns = [[cell.split() for cell in column] for column in zip(*rows, strict=True)]
        several = [
            [" ".join(parts) for parts in column]
            for column in columns
            if all(len(parts) > 1 and is_numeric(parts) for parts in column)
        ]
        grouped = all(SPACED_GROUPS.fullmatch(cell) for column in several for cell in column)
        chosen += [separator] if grouped else []
        chosen += [_SPACES] if several else []
    return list(dict.fromkeys(chosen))


def _shown(separator: str) -> str:
    return {"\t": "tabs", _SPACES: "spaces"}.get(separator, repr(separator))


def _header(
    path: Path, text: str, separator: str, arguments: TextTableArguments
) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first row holds names.

    Raises:
        DataError: the first row looks like data, names are missing, or two are equal.
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
    longer = header and sample and all(len(row) == len(first) + 1 for row in sample)
    if longer and (named is not None or not any(row[-1] for row in sample)):
        first = [*first, ""]  # rows end with a separator, or `names` names the further column
    if named is not None and len(named) != len(first):
        raise DataError(f"{path} has {len(first)} columns; names has {len(named)}: name them all")
    if named is not None:
        names = list(named)
    elif header:
        names = [cell or f"Unnamed: {place}" for place, cell in enumerate(first)]
    else:
        names = [str(number) for number in range(1, len(first) + 1)]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DataError(
            f"{path} has several columns named {', '.join(map(repr, repeated))}; rename them, or "
            "give names: [...] with header: true; a file without a header needs header: false"
        )
    return names, header


def _check_first_row(
    path: Path, first: Sequence[str], sample: Sequence[Sequence[str]], asked: bool
) -> None:
    """Refuse a first row that occurs again, or that looks like data if `asked`."""
    shown = repr(", ".join(first)[:60])
    if first in sample and not any(map(is_number, first)):
        raise DataError(
            f"{path} repeats its header {shown} in row {sample.index(first) + 2}; remove the row, "
            "or give header: false if the first row is not a header"
        )
    if asked and _looks_like_data(first, sample):
        raise DataError(
            f"{path} seems to have no header: its first row is {shown}; give header: false, which "
            f"names the columns 1 to {len(first)}, or names: [...], or header: true if these are "
            "names"
        )


def _looks_like_data(first: Sequence[str], sample: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row has numbers in columns of numbers, known texts in others.

    A row of whole numbers over columns of numbers may be data, or years that name columns; it
    counts as data, so that the user decides.
    """
    columns = [list(column) for column in zip(*sample, strict=False)]
    if not columns or len(columns) != len(first):
        return False
    numeric = [is_numeric(column) for column in columns]
    pairs = list(zip(first, columns, numeric, strict=True))
    if not all(is_number(cell) for cell, _, numbers in pairs if numbers):
        return False
    texts = [cell in column for cell, column, numbers in pairs if not numbers]
    fraction = any("." in cell for cell, _, numbers in pairs if numbers)
    return (bool(texts) and all(texts)) or (any(numeric) and (fraction or not texts))


def _check_rows(rows: _Text) -> None:
    """Refuse rows that are longer or shorter than the first, which pandas would fill or cut."""
    width = len(rows.names)
    try:
        widths = list(map(len, _rows(rows.content, rows.separator)))
    except csv.Error as error:
        raise DataError(f"{rows.path} cannot be read as a table ({error}); correct it") from error
    uneven = [
        row
        for row, fields in enumerate(widths, 1)
        if fields != width and (row > 1 or not rows.header)
    ]
    if not uneven:
        return
    way_out = f"correct the file, or name another separator than {_shown(rows.separator)}"
    if len(uneven) == len(widths) - 1 and set(widths[1:]) == {width + 1}:
        way_out = (
            "if they begin with row names, as R writes them, name all columns: "
            "names: [row, ...] with header: true"
        )
    elif rows.content[0] in _COMMENT_MARKS:
        way_out += f"; lines of comments are skipped by comment: {rows.content[0]!r}"
    raise DataError(
        f"{rows.path} cannot be read: {counted(len(uneven), 'row')} without the {width} fields of "
        f"the first, such as row {uneven[0]} with {widths[uneven[0] - 1]}; {way_out}"
    )


def _parsed(rows: _Text, arguments: TextTableArguments, notation: Notation) -> pd.DataFrame:
    missing = {
        name: [*(arguments.na_values or ()), *notation.missing.get(name, ())]
        for name in rows.names
        if arguments.na_values or notation.missing.get(name)
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(rows.content),
                sep=rows.separator,
                names=list(rows.names),
                header=0 if rows.header else None,
                index_col=False,
                decimal=notation.decimal or ".",
                thousands=notation.thousands,
                na_values=missing or None,
                keep_default_na=arguments.keep_default_na,
                skipinitialspace=True,
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{rows.path} cannot be read as a table ({error}); correct it") from error
    for name in table.select_dtypes(["object", "string"]):
        table[name] = _stripped(table[name])
    return table


def _stripped(column: Cells) -> Cells:
    """Remove spaces around texts; a text of spaces only becomes missing."""
    texts = [cell for cell in column.unique() if isinstance(cell, str) and cell != cell.strip()]
    return column.replace({cell: cell.strip() or None for cell in texts}) if texts else column


def _check_groups(rows: _Text, table: pd.DataFrame, notation: Notation) -> None:
    """Refuse numbers in which the separator of thousands does not end groups of digits.

    pandas leaves it out wherever it is, so 0,41 would become 41. The last group has three digits,
    the others may have two, as in India.
    """
    mark, decimal = re.escape(notation.thousands or ""), re.escape(notation.decimal or ".")
    groups = re.compile(rf"[-+]?[1-9]\d{{0,2}}({mark}\d\d\d?)*{mark}\d{{3}}({decimal}\d*)?")
    numeric = [
        place
        for place, kind in enumerate(table.dtypes)
        if pd.api.types.is_any_real_numeric_dtype(kind)
    ]
    missing_cells = table.isna()
    written = itertools.islice(_rows(rows.content, rows.separator), int(rows.header), None)
    for number, row in enumerate(written):
        for place in numeric:
            cell = row[place].strip()
            wrong = (notation.thousands or "") in cell and not groups.fullmatch(cell)
            if wrong and not missing_cells.iat[number, place]:
                raise DataError(
                    f"{rows.path}: column '{table.columns[place]}' holds {cell!r} (data row "
                    f"{number + 1}), in which {notation.thousands!r} does not separate thousands; "
                    "correct it, or the argument thousands"
                )


def _joined_classes(rows: _Text, name: str, column: Cells, notation: Notation) -> Iterator[str]:
    """Yield a note if a class is written in several ways, such as 1 and 1.0.

    Raises:
        DataError: they may be different ones, because one has zeros in front, as codes have.
    """
    place, first = rows.names.index(name), int(rows.header)
    fields = itertools.islice(_rows(rows.content, rows.separator), first, None)
    written: dict[str | Decimal, str] = {}
    joined = ""
    for cell in dict.fromkeys(row[place] for row in fields):
        value = _class_of(cell, column, notation)
        known = written.setdefault(value, cell)
        if known == cell:
            continue
        if any(_WITH_ZEROS.fullmatch(text.strip()) for text in (known, cell)):
            raise DataError(
                f"{rows.path} cannot be used: target '{name}' holds {known!r} and {cell!r}, which "
                "are one number, but may be two codes; write them alike if they are the same "
                "class, or as text, such as 'c01', if they are not"
            )
        joined = joined or f"{known!r} and {cell!r}"
    if joined:
        yield (
            f"target '{name}' holds {joined}, which count as the same class; write them as other "
            "texts, such as 'a' and 'b', if they are not"
        )


def _class_of(cell: str, column: Cells, notation: Notation) -> str | Decimal:
    """Return a cell as the parsed column holds it: a number, a word of any case, or text."""
    text = cell.strip()
    if pd.api.types.is_bool_dtype(column.dtype):
        return text.casefold()
    if not pd.api.types.is_numeric_dtype(column.dtype):
        return text
    plain = text.replace(notation.thousands or "", "").replace(notation.decimal or ".", ".")
    try:
        return Decimal(plain) if PLAIN_NUMBER.fullmatch(plain) else text
    except InvalidOperation:  # an exponent of many digits; it is no class
        return text


def _check_points(rows: _Text) -> None:
    """Refuse points that may separate thousands, in files that may have decimal commas.

    Such files have semicolons or tabs between fields. With tabs, numbers of three decimals are
    common, so only columns that also hold whole numbers without a point are refused.
    """
    separator = rows.separator
    if separator not in (";", "\t"):
        return
    pointed: dict[int, str] = {}
    plain: set[int] = set()
    for row in _rows(rows.content, separator):
        for place, cell in enumerate(map(str.strip, row)):
            if "." in cell and PLAIN_NUMBER.fullmatch(cell):
                if not POINT_GROUPS.fullmatch(cell):
                    return
                pointed.setdefault(place, cell)
            elif cell.isdecimal():
                plain.add(place)
    ambiguous = [place for place in pointed if separator == ";" or place in plain]
    if ambiguous:
        raise DataError(
            f"{rows.path}: column {ambiguous[0] + 1} holds {pointed[ambiguous[0]]!r}, in which the "
            "point may be a decimal point or separate thousands; give decimal: '.' or "
            "thousands: '.'"
        )
