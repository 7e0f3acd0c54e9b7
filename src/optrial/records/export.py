"""Writes rows as CSV and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TextIO

from optrial.records.encoding import strict

__all__ = ["write_csv", "write_json"]


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


def write_csv(rows: Iterable[Mapping[str, object]], stream: TextIO) -> None:
    """Write rows with the same columns as CSV with a header; floats read back exactly.

    None is an empty field, and a list is JSON. Without rows nothing is written.
    """
    remaining = iter(rows)
    first = next(remaining, None)
    if first is not None:
        writer = csv.DictWriter(stream, list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(_as_text, chain([first], remaining)))


def _as_text(row: Mapping[str, object]) -> dict[str, object]:
    return {name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()}
