"""The checks every dataset passes, its fingerprint, and the readers of image files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.data.arguments import Arguments
from optrial.data.dataset import Dataset, Split, checked, fingerprint
from optrial.data.source import Request
from optrial.data.sources.image_files import read_cifar10, read_idx
from optrial.errors import DataError

X = np.arange(12, dtype=np.float64).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


def changed(array: np.ndarray, index: Any, value: Any, dtype: Any = None) -> np.ndarray:
    copy = array.astype(dtype or array.dtype)
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"train": (changed(X, (4, 1), np.nan), Y)}, "train inputs hold 1 bad of 12 values, the "
         r"first nan at sample 4, position \(1,\); each must be finite"),
        ({"train": (X, Y), "test": (changed(X, slice(2, 4), -np.inf), Y)},
         r"test inputs hold 4 bad of 12 values, the first -inf at sample 2"),
        ({"train": (changed(X, (0, 0), 1e39), Y)}, r"the first 1e\+39 at sample 0.* float32"),
        ({"train": (X.astype(str), Y)}, "inputs are of type <U32; they must be real numbers"),
        ({"train": (X.astype(complex), Y)}, "inputs are of type complex128"),
        ({"train": (X.astype(object), Y)}, "inputs are of type object"),
        ({"train": (X[:, 0], Y)}, r"inputs have shape \(6,\); they must be \(n, features"),
        ({"train": (X[:0], Y[:0])}, r"inputs have shape \(0, 2\)"),
        ({"train": (X, Y), "test": (X[:0], Y[:0])}, r"test inputs have shape \(0, 2\)"),
        ({"train": (X, Y[:-1])}, "train has 6 inputs and 5 targets"),
        ({"train": (X, np.eye(6))}, r"targets have shape \(6, 6\).*argmax of one-hot"),
        ({"train": (X, Y.astype(str))}, "targets are of type <U21; they must be class labels"),
        ({"train": (X, changed(Y, [3, 5], -1))}, "targets hold 2 bad of 6 values, the first -1 at "
         "sample 3"),
        ({"train": (X, changed(Y, 2, 1.5, float))}, r"the first 1\.5 at sample 2"),
        ({"train": (X, changed(Y, 1, np.nan, float))}, "the first nan at sample 1"),
        ({"train": (X, changed(Y, 1, np.inf, float))}, "the first inf at sample 1"),
        ({"train": (X, Y), "test": (X, changed(Y, 4, 3))}, "test targets hold 1 bad of 6 values, "
         "the first 3 at sample 4; train targets, which define the classes, go from 0 to 2"),
        ({"train": (X, Y), "test": (np.ones((6, 3)), Y)}, r"test inputs have shape \(3,\) per "
         r"sample, train inputs \(2,\)"),
        ({"train": (X, Y + 100)}, "train targets go up to 102 with 6 samples"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"dataset 'mine' cannot be used: .*{message}"):
        checked("mine", raw)


def test_everything_wrong_comes_in_one_error() -> None:
    raw = {"train": (changed(X, 0, np.nan), Y - 1), "test": (X, Y[:2])}
    with pytest.raises(DataError) as caught:
        checked("mine", raw)
    assert str(caught.value).count("\n") == 2


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32, np.uint64])
def test_whole_numbers_of_every_type_are_labels(dtype: Any) -> None:
    labels = np.array([0, 1, 1, 0, 1, 0]).astype(dtype)
    assert np.array_equal(checked("mine", {"train": (X, labels)})["train"][1], labels)


def part(**changes: Any) -> Split:
    return Split(**{"inputs": np.float32(X), "targets": np.int64(Y), **changes})


def test_fingerprint_sees_names_types_shapes_and_bytes() -> None:
    variants = [
        {"train": part()},
        {"test": part()},
        {"train": part(), "test": part()},
        {"train": part(inputs=np.float32(X).reshape(6, 2, 1))},
        {"train": part(inputs=np.float64(X))},
        {"train": part(inputs=np.nextafter(np.float32(X), np.float32(99)))},
        {"train": part(targets=np.int64(Y[::-1].copy()))},
    ]
    assert len({fingerprint(splits) for splits in variants}) == len(variants)


def test_fingerprint_does_not_depend_on_the_order_of_the_splits() -> None:
    train, test = part(), part(targets=np.zeros(6, np.int64))
    first = fingerprint({"train": train, "test": test})
    assert fingerprint({"test": test, "train": train}) == first


def test_shape_and_sizes() -> None:
    loaded = Dataset("mine", {"train": part(), "test": part()}, 3, "")
    assert loaded.input_shape == (2,)
    assert loaded.sizes == {"train": 6, "test": 6}


IDX = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


PACKED = packed(IDX)


def test_idx_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(PACKED)
    assert read_idx(path, 2).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "content",
    [
        PACKED[:-9],
        PACKED[:12],
        PACKED[:-8] + bytes(8),
        packed(IDX[:-1]),
        packed(IDX + b"x"),
        packed(IDX[:7]),
        packed(b""),
        packed(b"\0\0\x0d" + IDX[3:]),
        IDX,
        b"",
    ],
)
def test_damaged_idx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mnist" / "a.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.gz cannot be read .*`optrial data fetch mnist`"):
        read_idx(path, 2)


def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"test_batch\.bin cannot be read \(3072 bytes"):
        read_cifar10(Request("cifar-10", Arguments(), folder=tmp_path))
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin cannot be read"):
        read_cifar10(Request("cifar-10", Arguments(), folder=tmp_path))
