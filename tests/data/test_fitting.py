"""A dataset that does not fit into memory is one error with the figure, before it is read."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from optrial.data import load_dataset
from optrial.data.sources import generated
from optrial.data.sources.image_files import read_idx
from optrial.errors import DataError
from optrial.memory import MemoryLimit, memory_limit

LIMIT = MemoryLimit("this container, memory.max", 2**20, 2**19)
FREE = r"0\.5 MB|1 MB of 1 MB \(this container, memory\.max\) are free"


@pytest.fixture(autouse=True)
def _small_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.data.fitting.memory_limit", lambda: LIMIT)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("moons", {"n_samples": 10**6}),
        ("circles", {"n_samples": [10**6 - 5, 5]}),
        ("blobs", {"n_samples": 10**3, "n_features": 10**4}),
        ("blobs", {"n_samples": 10**5, "centers": [[0.0] * 100, [1.0] * 100]}),
        ("palindrome", {"n_samples": 10**5, "length": 30}),
    ],
)
def test_drawn_dataset(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"dataset '{name}' needs about .*({FREE})"):
        load_dataset(name, arguments)


def test_archive(tmp_path: Path) -> None:
    path = tmp_path / "big.npz"
    np.savez_compressed(path, x=np.zeros((10**5, 4), np.float32), y=np.zeros(10**5, np.uint8))
    with pytest.raises(DataError, match=f"big.npz needs about 3 MB of memory, .*({FREE})"):
        load_dataset(str(path), {})


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("a,b\n" + "1,2\n" * 10**5, encoding="utf-8")
    with pytest.raises(DataError, match=r"big\.csv needs about 3 MB of memory"):
        load_dataset(str(path), {"target": "b"})


def test_rows_take_memory_beside_their_text(tmp_path: Path) -> None:
    path = tmp_path / "narrow.csv"
    path.write_text("a,b\n" + "1,2\n" * 10**4, encoding="utf-8")
    with pytest.raises(DataError, match=r"narrow\.csv needs about 1 MB of memory"):
        load_dataset(str(path), {"target": "b"})


def test_images(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (100, 100)).save(tmp_path / "images" / label / f"{index}.png")
    with pytest.raises(DataError, match="images needs about 1 MB of memory"):
        load_dataset(str(tmp_path / "images"), {})


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_meanwhile(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(_: object) -> None:
        raise error

    monkeypatch.setattr(generated, "RandomState", draw)
    with pytest.raises(DataError, match=f"dataset 'moons' does not fit into memory: ({FREE})"):
        load_dataset("moons", {})


@pytest.mark.parametrize(
    "size", [3, pytest.param(8, marks=pytest.mark.slow)], ids=lambda size: f"{size} MB"
)
@pytest.mark.parametrize(
    ("name", "compress"),
    [("a.csv.gz", gzip.compress), ("a.csv.bz2", bz2.compress), ("a.tsv.xz", lzma.compress)],
)
def test_text_that_is_small_while_compressed(
    name: str, compress: Callable[[bytes], bytes], size: int, tmp_path: Path
) -> None:
    """No more is unpacked than memory holds, and the message says how much that is."""
    path = tmp_path / name
    path.write_bytes(compress(b"a,b\n" + b"1,2\n" * (size * 250_000)))
    with peak() as bytes_used, pytest.raises(DataError) as error:
        load_dataset(str(path), {"target": "b"})
    assert f"{name} unpacks to more than 0 MB, which does not fit into memory: " in str(error.value)
    assert re.search(FREE, str(error.value))
    assert "keep fewer samples" in str(error.value)
    assert bytes_used[0] < 16e6  # half of it is the dictionary of an .xz file


def test_text_in_several_parts_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optrial.data.fitting.memory_limit", memory_limit)
    rows = [b"a,b\n", *(b"%d,%d\n" % (row * row % 7, row % 2) for row in range(40))]
    for suffix, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        path = tmp_path / f"parts.csv.{suffix}"
        path.write_bytes(b"".join(map(compress, rows)))
        assert sum(load_dataset(str(path), {"target": "b"}).sizes.values()) == 40


def test_one_image_that_is_small_while_compressed(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.new("1", (1000, 1000)).save(tmp_path / "images" / "a" / "big.png")
    Image.new("1", (10, 10)).save(tmp_path / "images" / "a" / "small.png")
    for arguments in ({}, {"size": [8, 8]}, {"color": "grayscale"}):
        with pytest.raises(DataError, match=rf"big\.png needs about 8 MB of memory, and ({FREE})"):
            load_dataset(str(tmp_path / "images"), arguments)


def test_an_image_beyond_any_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.data.fitting.memory_limit", memory_limit)
    (tmp_path / "images" / "a").mkdir(parents=True)
    file = tmp_path / "images" / "a" / "big.png"
    Image.new("1", (10, 10)).save(file)
    for side in (10_000, 100_000):  # as its header says
        content = bytearray(file.read_bytes())
        content[16:24] = 2 * side.to_bytes(4, "big")
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        file.write_bytes(content)
        message = (
            rf"big\.png is too large \(.*{side * side} pixels.*\); make it smaller or remove it"
        )
        with pytest.raises(DataError, match=message):
            load_dataset(str(tmp_path / "images"), {})


@pytest.mark.parametrize(
    "columns",
    [
        {"a": np.zeros(10**6), "y": np.arange(10**6) % 2},
        {"a": ["x" * 10**5] * 1000, "y": np.arange(1000) % 2},
    ],
    ids=["numbers", "texts"],
)
def test_parquet_that_is_small_while_compressed(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "big.parquet"
    pd.DataFrame(columns).to_parquet(path, compression="zstd")
    assert path.stat().st_size < LIMIT.free / 3
    with pytest.raises(DataError, match=rf"big\.parquet needs about \d.* of memory, and ({FREE})"):
        load_dataset(str(path), {"target": "y"})


@pytest.mark.parametrize(
    "cell", [["x" * 10**5], {"b": "x" * 10**5}, [0.0] * 1000], ids=["texts", "mappings", "numbers"]
)
def test_lists_in_parquet_files_are_not_unpacked(cell: Any, tmp_path: Path) -> None:
    path = tmp_path / "big.parquet"
    columns = {"a": [cell] * 1000, "y": np.arange(1000) % 2}
    pd.DataFrame(columns).to_parquet(path, compression="zstd")
    with pytest.raises(DataError, match=r"needs about|column 'a' holds a"):
        load_dataset(str(path), {"target": "y"})


def test_published_images_that_are_small_while_compressed(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + bytes(10**7)))
    with pytest.raises(DataError, match="unpacks to more than 0 MB"):
        read_idx(path, 3)


@contextmanager
def peak() -> Iterator[list[int]]:
    """Yield a list that gets the most memory that Python held, in bytes."""
    most: list[int] = []
    tracemalloc.start()
    try:
        yield most
    finally:
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
