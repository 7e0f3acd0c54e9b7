"""Every input that failed once: the name of its target, and the input."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.small import small_keys

__all__ = ["PAST"]


def _keys(**changes: Any) -> tuple[str, bytes]:
    return "study keys", json.dumps(small_keys(**changes)).encode()


def _rate(value: Any, **entry: Any) -> tuple[str, bytes]:
    return _keys(optimizers=[{**(entry or {"rule": "sgd"}), "lr": value}])


def _sampled(rate: object) -> tuple[str, bytes]:
    tune = {"sampler": "random", "trials": 9, "seeds": 1}
    _, content = _keys(optimizers=[{"rule": "sgd", "lr": rate}], tune=tune)
    return "plan", content


def _dataset(name: str) -> tuple[str, bytes]:
    return _file(f"recipe: quickstart\nproblem: {{dataset: {name}}}")


def _set(*settings: str) -> tuple[str, bytes]:
    return "set", json.dumps([1, settings]).encode()


def _file(text: str) -> tuple[str, bytes]:
    return "study file", text.encode()


def _parquet_of_bad_text() -> tuple[str, bytes]:
    text = pa.array([b"p", b"\xf1q"] * 12, pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(text), text.buffers())
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": texts, "y": [0, 1] * 12}), stream)
    return "parquet", stream.getvalue()


_TABLE = b"\0a,y\n" + b"".join(b"%d,%d\n" % (n * n % 7, n % 2) for n in range(20))

PAST: dict[str, tuple[str, bytes]] = {
    "text of a Parquet file that is not UTF-8": _parquet_of_bad_text(),
    "average beside a group of an unknown rule": _keys(
        optimizers=[
            {"rule": "adam", "average": {"ema": 0.9}, "groups": [{"match": "bias", "rule": "x"}]}
        ]
    ),
    "key of a schedule that is no text": _file(
        "recipe: quickstart\noptimizers: [{rule: adam, schedule: {kind: cosine, 3: 1, ~: 2}}]"
    ),
    "range whose ratio is infinite": _sampled({"log": [5e-324, 1]}),
    "range wider than the largest number": _sampled({"lin": [1e-300, 1e308]}),
    "range of three values": _sampled({"log": [1, 1.00000000002]}),
    "date without such a month": _file("name: 2024-13-45"),
    "text tagged as a number": _file("name: !!int x"),
    "text tagged as a switch": _file("name: !!bool x"),
    "number of 5,000 digits": _file("seeds: " + "9" * 5000),
    "nesting of 400": _file("name: " + "[" * 400 + "]" * 400),
    "list of recipes": _file("recipe: [a]"),
    "recipe of a number": _file("recipe: 7"),
    "lone surrogate in YAML": _file('name: "\\ud800"'),
    "anchor defined twice": _file("a: &a 1\nb: &a 2\nc: *a"),
    "name of a file that is too long": _file(
        "recipe: quickstart\nproblem: {dataset: " + "a" * 5000 + "}"
    ),
    "home of a user that does not exist": _file(
        "recipe: quickstart\nproblem: {dataset: ~nobody-here/a.csv}"
    ),
    "seeds beyond an index": _keys(seeds=2**63),
    "seeds beyond memory": _keys(seeds=2**32),
    "lone surrogate in a value": _keys(optimizers=["\ud800"]),
    "lone surrogate in a key": _keys(**{"\ud800": 1}),
    "infinite rate of a class": _keys(
        optimizers=[{"torch": "torch.optim:SGD", "lr": float("inf")}]
    ),
    "points beyond memory": _keys(
        optimizers=[{"rule": "sgd", "lr": {"log": [0.1, 1], "points": 2**31}}]
    ),
    "points beyond an array": _keys(
        optimizers=[{"rule": "sgd", "lr": {"log": [0.1, 1], "points": 2**63}}]
    ),
    "range of the largest numbers": _rate({"lin": [-1e308, 1e308], "points": 3}),
    "change of an optimizer that is a name": _keys(
        problem={"a": {"dataset": "moons", "optimizers": {"adam": {"lr": 0.1}}}},
        optimizers=["adam"],
    ),
    "superscript as an index": _set("optimizers[²].lr=1"),
    "index of 5,000 digits": _set("optimizers[" + "9" * 5000 + "].lr=1"),
    "value of 5,000 digits": _set("seeds=" + "9" * 5000),
    "bytes that are no text": _set("name=\udcff"),
    "key that is no text": _set("\udcff=1"),
    "idx file of one value": ("idx", b"\0" + gzip.compress(bytes([0, 0, 8, 0, 5]), mtime=0)),
    "idx file of four dimensions": (
        "idx",
        b"\0" + gzip.compress(bytes([0, 0, 8, 4]) + bytes([0, 0, 0, 1]) * 4 + b"\1", mtime=0),
    ),
    "table with a number beyond floats": (
        "csv",
        b"\0a,y\n"
        + b"".join(b"%d,%d\n" % (n * n % 7, n % 2) for n in range(20))
        + b"1" * 400
        + b",1\n",
    ),
    "table with a number of 5,000 digits": (
        "csv",
        b"\0a,y\n"
        + b"".join(b"%d,%d\n" % (n * n % 7, n % 2) for n in range(20))
        + b"1" * 5000
        + b",1\n",
    ),
}
