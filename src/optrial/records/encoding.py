"""Curves, checkpoints, facts and JSON as bytes and plain values; numbers are restored exactly."""

from __future__ import annotations

import bisect
import io
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache, lru_cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from optrial.array_headers import check_header
from optrial.records.forms import forms_of
from optrial.records.record import Curve
from optrial.spec import RunFacts

__all__ = [
    "PART_OF_A_CURVE",
    "decode_checkpoint",
    "decode_curve",
    "decode_facts",
    "decode_fields",
    "encode_checkpoint",
    "encode_curve",
    "encode_facts",
    "encode_values",
    "from_json",
    "strict",
    "value_in_json",
]

PART_BYTES = 16 * 2**20
"""Size of one stored part of a checkpoint; both databases refuse single values of about 1 GB."""

PART_OF_A_CURVE = "count", "dtype", "steps_blob", "values_blob"
"""The columns of the numbers of a part of a curve, see `encode_curve`."""

_CHUNK_BYTES = 2**20

_MOST_BYTES = 8 * 10**9
"""Size of the numbers of the longest run."""

_DTYPES = {name: np.dtype(name) for name in ("<f4", "<f8")}
"""Types of stored values."""


def strict(value: Any) -> Any:
    """Return a copy of `value` that strict JSON can represent.

    NumPy scalars and arrays become numbers and lists; numbers that are not finite become None.
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


def from_json(text: str) -> Any:
    """Return the value of a JSON text without space around it, faster than `json.loads`.

    Raises:
        ValueError: the text is no JSON.
    """
    value, end = _decode_json(text)
    if end != len(text):
        raise ValueError("more follows the JSON value")
    return value


def value_in_json(text: str, name: str) -> Any:
    """Return a value of a JSON object that `json.dumps` wrote, None if it has none of this name.

    Others are not read.

    Raises:
        ValueError: the value is no JSON.
    """
    if "\\" in text:  # a name with an escaped quote may end like another
        return from_json(text).get(name)
    before = _before_value(name)
    place = text.find(before)
    return None if place < 0 else _decode_json(text, place + len(before))[0]


_decode_json = json.JSONDecoder().raw_decode


@lru_cache(1000)
def _before_value(name: str) -> str:
    return f"{json.dumps(name)}: "


def encode_facts(facts: RunFacts) -> dict[str, Any]:
    """Return facts as JSON-able values, without those that are None."""
    return encode_values((field.name, getattr(facts, field.name)) for field in fields(facts))


def encode_values(values: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """Return values by name as JSON-able values, without those that are None."""
    return {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in values
        if value is not None
    }


def decode_facts(values: Mapping[str, Any]) -> RunFacts:
    """Return the facts of `encode_facts`.

    Facts that another version wrote may be unknown, missing or of another form: the first are
    ignored, the others are None.
    """
    return RunFacts(**decode_fields(RunFacts, values))


def decode_fields(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values by name as the fields of a dataclass.

    Unknown names are left out; a value of another type than that of the field is None.
    """
    forms, classes = forms_of(kind), _classes(kind)
    return {
        name: _decode(classes[name], value) if forms[name](value) else None
        for name, value in values.items()
        if name in forms
    }


def _decode(kind: type | None, value: Any) -> Any:
    """Return a JSON value as a dataclass, unless it is None; lists become tuples."""
    if kind is None or value is None:
        return tuple(value) if isinstance(value, list) else value
    try:
        return kind(**decode_fields(kind, value))
    except TypeError:
        return None


@cache
def _classes(kind: type) -> dict[str, type | None]:
    """Return the dataclass of each field of a dataclass; None for fields of other types."""
    hints = get_type_hints(kind)
    plain = {n: get_args(t)[0] if get_origin(t) is UnionType else t for n, t in hints.items()}
    return {n: t if isinstance(t, type) and is_dataclass(t) else None for n, t in plain.items()}


def encode_curve(curve: Curve) -> dict[str, Any]:
    """Return a part of a curve with at least one step as columns of the table of curves.

    Values are stored as float32 if that is lossless. Steps are stored as differences, which are
    nearly constant and compress to almost nothing.
    """
    with np.errstate(all="ignore"):
        narrow = curve.values.astype("<f4")
        lossless = narrow.astype(np.float64).tobytes() == curve.values.tobytes()
    values = narrow if lossless else curve.values.astype("<f8")
    return {
        "first_step": int(curve.steps[0]),
        "count": len(curve),
        "dtype": values.dtype.str,
        "steps_blob": zlib.compress(np.diff(curve.steps, prepend=0).astype("<i8").tobytes()),
        "values_blob": zlib.compress(values.tobytes()),
    }


def decode_curve(
    parts: Iterable[tuple[Any, ...]],
    known: dict[bytes, NDArray[np.int64]] | None = None,
) -> Curve:
    """Concatenate the stored parts of one curve, ordered by step.

    Args:
        parts: the columns `PART_OF_A_CURVE` of each.
        known: steps by their stored form, which many curves share; those read are added.

    Raises:
        ValueError: a part holds other numbers than floats, not as many as it says, or its steps do
            not increase.
        zlib.error: the data of a part cannot be decompressed.
    """
    known = {} if known is None else known
    decoded = [_decode_part(part, known) for part in parts]
    if len(decoded) == 1:
        return decoded[0]
    steps, values = [part.steps for part in decoded], [part.values for part in decoded]
    return Curve(np.concatenate(steps), np.concatenate(values))


def _decode_part(part: tuple[Any, ...], known: dict[bytes, NDArray[np.int64]]) -> Curve:
    count, dtype, steps_blob, values_blob = part
    stored = _DTYPES.get(dtype)
    if stored is None:
        raise ValueError(f"dtype is {' or '.join(_DTYPES)}, got {dtype!r}")
    data = _inflated(values_blob, stored.itemsize * count)
    values = np.frombuffer(data, stored).astype(np.float64)
    steps = known.get(steps_blob)
    if steps is None or len(steps) != len(values):
        steps = np.cumsum(np.frombuffer(_inflated(steps_blob, 8 * count), "<i8"))
        steps = known[steps_blob] = Curve(steps, values).steps  # refuses steps that do not increase
    return Curve.unchecked(steps, values)


def _inflated(data: bytes, size: int) -> bytes:
    """Decompress data of a known size, and never more than that.

    Raises:
        ValueError: its size is another one.
    """
    if not 0 <= size <= _MOST_BYTES:
        raise ValueError(f"a size of {size} bytes")
    stream = zlib.decompressobj()
    content = stream.decompress(data, size + 1)
    if len(content) != size or not stream.eof:
        raise ValueError(f"the data is not {size} bytes long")
    return content


def encode_checkpoint(arrays: Mapping[str, NDArray[Any]]) -> Iterator[bytes]:
    """Yield arrays as the bytes of an uncompressed .npz file, split into parts.

    Only a few parts are in memory at a time.

    Raises:
        ValueError: an array holds Python objects, which only pickle could store.
    """
    written = _Parts()
    with zipfile.ZipFile(written, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for chunk in _npy(np.asanyarray(array)):
                    member.write(chunk)
                    yield from written.take(PART_BYTES)
    yield from written.take(1)


def _npy(array: NDArray[Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an .npy file; those of a contiguous array without a copy."""
    if array.dtype.hasobject:
        raise ValueError("Object arrays cannot be stored in a checkpoint")
    header = io.BytesIO()
    description = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(header, description)
    yield header.getvalue()
    ordered = array.T if description["fortran_order"] else array
    if ordered.nbytes <= _CHUNK_BYTES or not ordered.flags.c_contiguous:
        yield ordered.tobytes()
        return
    data = ordered.reshape(-1).view(np.uint8).data
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


class _Parts(io.RawIOBase):
    """A file that is cut into parts as it is written, so that no second copy of it is made."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def write(self, data: Any) -> int:
        """Append bytes."""
        self._unread += data
        return len(data)

    def take(self, least: int) -> Iterator[bytes]:
        """Yield and forget parts while there are `least` bytes."""
        while len(self._unread) >= least:
            yield bytes(memoryview(self._unread)[:PART_BYTES])
            del self._unread[:PART_BYTES]


class _Joined(io.RawIOBase):
    """Parts read as one file, without joining them in memory."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(map(len, self._parts)))
        self._place = 0

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place of the file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, self._length)
        if start + offset < 0:
            raise OSError("negative seek position")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place in the file."""
        return self._place

    @property
    def _length(self) -> int:
        return self._ends[-1] if self._ends else 0

    def readinto(self, buffer: Any) -> int:
        """Read the rest of a part into a buffer, or as much as it takes."""
        index = bisect.bisect_right(self._ends, self._place)
        if index == len(self._parts):
            return 0
        part = self._parts[index]
        start = self._place - (self._ends[index] - len(part))
        data = memoryview(part)[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def decode_checkpoint(parts: Iterable[bytes]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `encode_checkpoint`, without unpickling anything.

    Raises:
        ValueError: an array is compressed, or is larger than what is stored.
        zipfile.BadZipFile: the parts are not those of an archive.
    """
    arrays = {}
    with zipfile.ZipFile(io.BufferedReader(_Joined(parts), _CHUNK_BYTES)) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{info.filename} is compressed")
            check_header(archive, info.filename)
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(
                    member, allow_pickle=False
                )
    return arrays
