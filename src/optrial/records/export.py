"""Writes rows as CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TextIO

from optrial.records.encoding import strict

__all__ = ["write_csv", "write_json"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters at the start of a text that spreadsheets take for that of a formula (OWASP)."""


def write_json(value: object, stream: TextIO) -> None:
    """Write plain values, such as a list of rows, as strict JSON.

    Numbers that are not finite are written as null. Characters that the stream's encoding lacks
    are escaped.
    """
    text = json.dumps(strict(value), indent=2, allow_nan=False, ensure_ascii=False)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(strict(value), indent=2, allow_nan=False)
    stream.write(text + "\n")


def write_csv(
    rows: Iterable[Mapping[str, object]], stream: TextIO, *, spreadsheet: bool = False
) -> None:
    """Write rows with the same columns as CSV with a header; floats read back exactly.

    None is an empty field, and a list is JSON. Line breaks within texts are line feeds, because
    carriage returns would end a row. Without rows nothing is written.

    Args:
        rows: one mapping from column to value per row.
        stream: text file to write to.
        spreadsheet: put an apostrophe before texts that a spreadsheet would run as a formula.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is None:
        return
    as_cell = _as_text if spreadsheet else _as_value
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(as_cell, first))
    writer.writerows(map(as_cell, row.values()) for row in chain([first], remaining))


def _as_value(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return json.dumps(value) if isinstance(value, list) else value


def _as_text(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula; numbers are returned unchanged."""
    cell = _as_value(value)
    return f"'{cell}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else cell
