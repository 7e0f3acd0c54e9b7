"""Curves, checkpoints, specs and JSON as bytes and text; numbers are restored bit for bit."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import sqlalchemy as sql
from numpy.typing import NDArray

from optrial.records.record import Curve
from optrial.spec import RunFacts, RunSpec, StackId

__all__ = [
    "Facts",
    "Spec",
    "Stack",
    "StrictJSON",
    "decode_checkpoint",
    "decode_curve",
    "decode_facts",
    "encode_checkpoint",
    "encode_curve",
    "encode_facts",
    "strict",
]

PART_BYTES = 64 * 2**20
"""Size of one stored part of a checkpoint; both databases refuse single values of about 1 GB."""


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


class StrictJSON(sql.types.TypeDecorator[Any]):
    """A column of strict JSON, stored as plain text in both databases."""

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sql.Dialect) -> str:  # noqa: ARG002
        """Encode a value."""
        return json.dumps(strict(value), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> Any:  # noqa: ARG002
        """Decode a value; None where an outer join has no row."""
        return None if value is None else json.loads(value)


class Spec(StrictJSON):
    """A column of run specs, stored as JSON."""

    cache_ok = True

    def process_bind_param(self, value: RunSpec | None, dialect: sql.Dialect) -> str:
        """Encode a spec."""
        return super().process_bind_param(value and value.as_dict(), dialect)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> RunSpec:
        """Decode a spec."""
        return RunSpec.from_dict(super().process_result_value(value, dialect))


class Facts(StrictJSON):
    """A column of run facts, stored as JSON without those that are None."""

    cache_ok = True

    def process_bind_param(self, value: RunFacts | None, dialect: sql.Dialect) -> str:
        """Encode facts."""
        return super().process_bind_param(value and encode_facts(value), dialect)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> RunFacts | None:
        """Decode facts; None where an outer join has no row."""
        decoded = super().process_result_value(value, dialect)
        return None if decoded is None else decode_facts(decoded)


class Stack(sql.types.TypeDecorator[StackId]):
    """A column of stack ids, stored as text."""

    impl = sql.Text
    cache_ok = True

    def process_bind_param(self, value: StackId | None, dialect: sql.Dialect) -> str:  # noqa: ARG002
        """Encode a stack id."""
        return str(value)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> StackId | None:  # noqa: ARG002
        """Decode a stack id."""
        return None if value is None else StackId.parse(value)


def encode_facts(facts: RunFacts) -> dict[str, Any]:
    """Return facts as JSON-able values, without those that are None."""
    return {name: value for name, value in asdict(facts).items() if value is not None}


def decode_facts(values: Mapping[str, Any]) -> RunFacts:
    """Return the facts of `encode_facts`.

    Facts that another version wrote may be unknown, missing or of another form: the first are
    ignored, the others are None.
    """
    return _decode(RunFacts, values) or RunFacts()


def _decode(kind: Any, value: Any) -> Any:
    """Return a JSON value as a type: dataclasses from objects, tuples from lists."""
    if value is None:
        return None
    kind = get_args(kind)[0] if get_origin(kind) is UnionType else kind  # X of X | None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return tuple(value) if isinstance(value, list) else value
    kinds = _types(kind)
    try:
        return kind(**{name: _decode(kinds[name], v) for name, v in value.items() if name in kinds})
    except (TypeError, AttributeError):
        return None


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def encode_curve(curve: Curve) -> dict[str, Any]:
    """Return a part of a curve with at least one step as columns of the table of curves.

    Values are stored as float32 if that is lossless. Steps are stored as differences, which are
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
    """Concatenate the stored rows of one curve, ordered by step."""
    steps, values = [], []
    for chunk in chunks:
        steps.append(np.cumsum(np.frombuffer(zlib.decompress(chunk.steps_blob), "<i8")))
        values.append(np.frombuffer(zlib.decompress(chunk.values_blob), chunk.dtype).astype("f8"))
    return Curve(np.concatenate(steps), np.concatenate(values))


def encode_checkpoint(arrays: Mapping[str, NDArray[Any]]) -> list[bytes]:
    """Return arrays as the bytes of an uncompressed .npz file, split into parts.

    Raises:
        ValueError: an array holds Python objects, which only pickle could store.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    data = buffer.getbuffer()
    return [bytes(data[start : start + PART_BYTES]) for start in range(0, len(data), PART_BYTES)]


def decode_checkpoint(parts: Iterable[bytes]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `encode_checkpoint`, without unpickling anything."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    member, allow_pickle=False
                )
    return arrays
