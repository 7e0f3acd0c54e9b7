"""Readers of the published image files: idx (MNIST) and the binary CIFAR-10 format."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import Arguments
from optrial.data.fitting import require_memory, unpacked
from optrial.data.source import Request, Source
from optrial.errors import DataError

_IDX_BYTES = 0x08  # the idx code of unsigned bytes
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_COPIES = 1 + 4  # pixels as read, and as float32


def read_mnist(request: Request[Arguments]) -> Source:
    """Read the four idx files of MNIST.

    Returns:
        train and test; inputs uint8, shape (n, 1, height, width), targets uint8.

    Raises:
        DataError: a file is truncated or contradicts its header.
    """
    splits = {
        split: (
            read_idx(request.folder / f"{stem}-images-idx3-ubyte.gz", 3)[:, None],
            read_idx(request.folder / f"{stem}-labels-idx1-ubyte.gz", 1),
        )
        for split, stem in (("train", "train"), ("test", "t10k"))
    }
    return Source(splits)


def read_fashion_mnist(request: Request[Arguments]) -> Source:
    """Read the four idx files of Fashion-MNIST; see `read_mnist`."""
    return replace(read_mnist(request), class_names=_FASHION)


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """Read one gzipped idx file of unsigned bytes: two zeros, type, rank, sizes, values.

    Raises:
        DataError: the file cannot be unpacked, or its header and length do not match.
    """
    try:
        with gzip.open(path) as file:
            content = unpacked(str(path), file, _COPIES)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    start = bytes([0, 0, _IDX_BYTES, rank])
    if content[:4] != start:
        raise _damaged(path, f"it starts with {content[:4].hex()}, not with {start.hex()}")
    header = 4 + 4 * rank
    shape = tuple(
        int.from_bytes(content[start : start + 4], "big") for start in range(4, header, 4)
    )
    if len(content) != header + math.prod(shape):
        raise _damaged(path, f"{len(content)} bytes for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_cifar10(request: Request[Arguments]) -> Source:
    """Read the six files of CIFAR-10, binary version.

    Returns:
        train and test; inputs uint8, shape (n, 3, 32, 32), targets uint8.

    Raises:
        DataError: a file is truncated.
    """
    files = [request.folder / f"data_batch_{part}.bin" for part in range(1, 6)]
    train = np.concatenate([_records(file) for file in files])
    test = _records(request.folder / "test_batch.bin")
    splits = {
        split: (records[:, 1:].reshape(-1, *_CIFAR_SHAPE), records[:, 0])
        for split, records in (("train", train), ("test", test))
    }
    return Source(splits, class_names=_CIFAR_10)


def _records(path: Path) -> NDArray[np.uint8]:
    """Read records of one label byte and 3072 pixel bytes: the red, green and blue planes."""
    length = 1 + math.prod(_CIFAR_SHAPE)
    try:
        require_memory(str(path), _COPIES * path.stat().st_size)
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if content.size % length:
        raise _damaged(path, f"{content.size} bytes are not whole records of {length}")
    return content.reshape(-1, length)


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} cannot be read ({reason}); replace it with `optrial data fetch {path.parent.name}`"
    )
