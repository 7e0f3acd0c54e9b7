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


def read_parquet(request: Request[TableArguments]) -> Source:
    """Read a table; see `read_table`.

    Columns of lists or mappings, which no model takes, are not read: their cells are empty.

    Raises:
        DataError: the file, its columns or its targets cannot be used.
    """
    path = request.path
    try:
        with pq.ParquetFile(path) as file:
            fields = list(file.schema_arrow)
            nested = {field.name: field.type for field in fields if pa.types.is_nested(field.type)}
            flat = [field for field in fields if field.name not in nested]
            _check_texts(path, file.metadata, flat)
        table = pd.read_parquet(path, columns=[field.name for field in flat] if nested else None)
    except DataError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise DataError(
            f"{path} cannot be read ({error}); write it again, or name another file"
        ) from error
    for name, kind in nested.items():
        cells: list[object] = [{} if pa.types.is_struct(kind) else []] * len(table)
        table[name] = pd.Series(cells, table.index, dtype=object)
    table.columns = [str(name).strip() for name in table.columns]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has several columns named '{twice[0]}'; rename them")
    return table_source(request, table.reset_index(drop=True))


def _check_texts(path: Path, metadata: pq.FileMetaData, fields: list[pa.Field]) -> None:
    """Refuse a table that does not fit into memory; equal cells take next to no room in the file.

    pandas reads texts that are not UTF-8, and fails when they are used. The metadata of a single
    column is not read, because pyarrow ends the process if it is damaged.

    Raises:
        DataError: it does not fit.
        pyarrow.ArrowInvalid: a text is damaged.
    """
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    needed = max(_CELL_BYTES * metadata.num_rows * len(fields), sum(sizes))
    require_memory(str(path), _COPIES * needed)
    texts = sorted(field.name for field in fields if _is_text(field.type))
    for size in _text_sizes(path, texts) if texts else ():
        needed += size
        require_memory(str(path), _COPIES * needed)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_dictionary(kind) or not (
        pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    )


def _text_sizes(path: Path, columns: list[str]) -> Iterator[int]:
    """Check the texts of a file part by part, each equal text once, and yield their bytes."""
    with pq.ParquetFile(path, read_dictionary=columns) as file:
        for batch in file.iter_batches(columns=columns):
            batch.validate(full=True)
            yield from map(_text_size, batch.columns)


def _text_size(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.take(lengths, column.indices)).as_py() or 0)
