"""A dataset that does not fit into memory is one error with the figure, before it is read."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optrial.data import load_dataset
from optrial.data.sources import scikit_learn
from optrial.errors import DataError
from optrial.memory import MemoryLimit

LIMIT = MemoryLimit("this container, memory.max", 2**20, 2**19)
FREE = r"0\.5 MB|1 MB of 1 MB \(this container, memory\.max\) are free"


@pytest.fixture(autouse=True)
def _small_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optrial.data.fitting.memory_limit", lambda: LIMIT)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("moons", {"n_samples": 10**7}),
        ("circles", {"n_samples": [10**7 - 5, 5]}),
        ("blobs", {"n_samples": 10**4, "n_features": 10**5}),
        ("blobs", {"n_samples": 10**6, "centers": [[0.0] * 100, [1.0] * 100]}),
        ("palindrome", {"n_samples": 10**6, "length": 30}),
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
    with pytest.raises(DataError, match=r"big\.csv needs about 1 MB of memory"):
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
    def draw(**_: object) -> None:
        raise error

    monkeypatch.setattr(scikit_learn.datasets, "make_moons", draw)
    with pytest.raises(DataError, match=f"dataset 'moons' does not fit into memory: ({FREE})"):
        load_dataset("moons", {})


def test_memory_that_runs_out_while_a_file_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))

    def unpack(_: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr("optrial.data.sources.text_files._DECOMPRESS", {b"\x1f\x8b": unpack})
    with pytest.raises(DataError, match="does not fit into memory"):
        load_dataset(str(path), {"target": "b"})
