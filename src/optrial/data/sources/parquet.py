"""Tables in Parquet files, read by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from optrial.data.arguments import TableArguments
from optrial.data.fitting import require_memory
from optrial.data.source import Request, Source
from optrial.data.sources.tables import table_source
from optrial.errors import DataError
from optrial.memory import out_of_memory

_COPIES = 2  # at least: Arrow's columns, and those of pandas
_CELL_BYTES = 8  # at least: a number, or the address of a text
_TEXTS = ("BYTE_ARRAY",)


def read_parquet(request: Request[TableArguments]) -> Source:
    """Read a table; see `read_table`.

    Raises:
        DataError: the file, its columns or its targets cannot be used.
    """
    path = request.path
    try:
        _check_texts(path)
        table = pd.read_parquet(path)
    except DataError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise DataError(
            f"{path} cannot be read ({error}); write it again, or name another file"
        ) from error
    table.columns = [str(name).strip() for name in table.columns]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has several columns named '{twice[0]}'; rename them")
    return table_source(request, table.reset_index(drop=True))


def _check_texts(path: Path) -> None:
    """Refuse a table that does not fit into memory; equal cells take next to no room in the file.

    pandas reads texts that are not UTF-8, and fails when they are used.

    Raises:
        DataError: it does not fit.
        pyarrow.ArrowInvalid: a text is damaged.
    """
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        chunks = [
            metadata.row_group(group).column(column)
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        ]
    cells = sum(chunk.num_values for chunk in chunks)
    needed = max(_CELL_BYTES * cells, sum(chunk.total_uncompressed_size for chunk in chunks))
    require_memory(str(path), _COPIES * needed)
    texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type in _TEXTS})
    for size in _text_sizes(path, texts) if texts else ():
        needed += size
        require_memory(str(path), _COPIES * needed)


def _text_sizes(path: Path, columns: list[str]) -> Iterator[int]:
    """Check the texts of a file part by part, each equal text once, and yield their bytes."""
    with pq.ParquetFile(path, read_dictionary=columns) as file:
        for batch in file.iter_batches(columns=columns):
            batch.validate(full=True)
            for column in batch.columns:
                yield _text_size(column)


def _text_size(column: pa.Array) -> int:
    kind = column.type
    if pa.types.is_struct(kind):
        return sum(map(_text_size, column.flatten()))
    if pa.types.is_nested(kind):
        return _text_size(column.flatten())
    if not pa.types.is_dictionary(kind):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)
