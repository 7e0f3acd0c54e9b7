"""Curves, checkpoints and JSON as bytes and text; every number comes back bit for bit."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.records.record import Curve

__all__ = [
    "StrictJSON",
    "decode_checkpoint",
    "decode_curve",
    "encode_checkpoint",
    "encode_curve",
    "strict",
]

PART_BYTES = 64 * 2**20
"""Size of one stored part of a checkpoint: both databases refuse a single value near 1 GB."""


def strict(value: Any) -> Any:
    """Return `value` as strict JSON can hold it.

    NumPy scalars and arrays become numbers and lists; a number that is not finite becomes None.
    """
    match value:
        case Mapping():
            return {str(key): strict(item) for key, item in value.items()}
        case list() | tuple():
            return [strict(item) for item in value]
        case np.ndarray() | np.generic():
            return strict(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


class StrictJSON(sql.types.TypeDecorator[Any]):
    """A column of strict JSON in plain text, which both databases store without reading it."""

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sql.Dialect) -> str:  # noqa: ARG002
        """Write a value as text."""
        return json.dumps(strict(value), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> Any:  # noqa: ARG002
        """Read a value; None where an outer join found no row."""
        return None if value is None else json.loads(value)


def encode_curve(curve: Curve) -> dict[str, Any]:
    """Return a part of a curve, at least one step long, as columns of the table of curves.

    Values are kept as float32 where that loses nothing. Steps are kept as differences, which are
    nearly constant and compress to almost nothing.
    """
    with np.errstate(all="ignore"):
        narrow = curve.values.astype(np.float32)
        lossless = narrow.astype(np.float64).tobytes() == curve.values.tobytes()
    values = narrow if lossless else curve.values
    return {
        "first_step": int(curve.steps[0]),
        "count": len(curve),
        "dtype": values.dtype.str,
        "steps_blob": zlib.compress(np.diff(curve.steps, prepend=0).astype("<i8").tobytes()),
        "values_blob": zlib.compress(values.tobytes()),
    }


def decode_curve(chunks: Iterable[Any]) -> Curve:
    """Join the stored rows of one curve, in the order of their steps."""
    steps, values = [], []
    for chunk in chunks:
        steps.append(np.cumsum(np.frombuffer(zlib.decompress(chunk.steps_blob), "<i8")))
        values.append(np.frombuffer(zlib.decompress(chunk.values_blob), chunk.dtype).astype("f8"))
    return Curve(np.concatenate(steps), np.concatenate(values))


def encode_checkpoint(arrays: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Return arrays as the bytes of an uncompressed .npz file, cut into parts.

    Raises:
        ValueError: if an array holds Python objects, which only pickle could store.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    data = buffer.getbuffer()
    return [bytes(data[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES)]


def decode_checkpoint(parts: Iterable[bytes]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `encode_checkpoint`; nothing is ever unpickled."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    member, allow_pickle=False
                )
    return arrays
