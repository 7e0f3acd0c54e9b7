"""Every kind of targets reaches the losses that take it, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optrial.data import Dataset
from optrial.errors import DataError
from optrial.target_kinds import targets_of
from tests.data.objects import load_objects

N = 12
X = np.ones((N, 3), np.float32)
LABELS = np.arange(N) % 3
TOKENS = np.arange(N * 4).reshape(N, 4) % 7
MASKS = (np.arange(N * 4).reshape(N, 1, 2, 2) % 2).astype(np.uint8)
SEVERAL = np.eye(N, 3, dtype=int) + np.eye(N, 3, 1, dtype=int)


def load(targets: Any, loss: str) -> Dataset:
    return load_objects({"train": (X, targets)}, targets=targets_of(loss))


@pytest.mark.parametrize(
    ("targets", "loss", "kind", "dtype", "shape", "classes"),
    [
        (LABELS, "cross_entropy", "labels", "int64", (N,), 3),
        (LABELS.astype(float), "cross_entropy", "labels", "int64", (N,), 3),
        (TOKENS, "cross_entropy", "positions", "int64", (N, 4), 7),
        (MASKS[:, 0], "cross_entropy", "positions", "int64", (N, 2, 2), 2),
        (LABELS % 2, "bce", "labels", "int64", (N,), 1),
        (LABELS % 2.0, "bce", "labels", "int64", (N,), 1),
        (LABELS > 1, "bce", "labels", "int64", (N,), 1),
        (SEVERAL, "bce", "multilabel", "float32", (N, 3), 3),
        (SEVERAL.astype(bool), "bce", "multilabel", "float32", (N, 3), 3),
        (SEVERAL[:, :1], "bce", "multilabel", "float32", (N, 1), 1),
        (MASKS, "bce", "multilabel", "float32", (N, 1, 2, 2), 4),
        (SEVERAL / 2, "bce", "values", "float32", (N, 3), 3),
        (LABELS / 2, "bce", "values", "float32", (N, 1), 1),
        (LABELS, "mse", "values", "float32", (N, 1), 1),
        (LABELS[:, None], "cross_entropy", "labels", "int64", (N,), 3),
        (LABELS / 2, "mse", "values", "float32", (N, 1), 1),
        (TOKENS, "mse", "values", "float32", (N, 4), 4),
        (MASKS / 7, "mse", "values", "float32", (N, 1, 2, 2), 4),
        (LABELS, "my:loss", "labels", "int64", (N,), 3),
        (TOKENS, "my:loss", "positions", "int64", (N, 4), 7),
        (np.where(TOKENS == 0, -100, TOKENS), "my:loss", "positions", "int64", (N, 4), 7),
        (TOKENS / 7, "my:loss", "values", "float32", (N, 4), 4),
        (LABELS, "mean_output", "labels", "int64", (N,), 3),
    ],
)
def test_targets_of_every_kind(
    targets: Any, loss: str, kind: str, dtype: str, shape: tuple[int, ...], classes: int
) -> None:
    loaded = load(targets, loss)
    read = loaded.splits["train"].targets
    assert (loaded.kind, str(read.dtype), read.shape) == (kind, dtype, shape)
    assert loaded.classes == classes
    assert loaded.regression is (kind == "values")
    np.testing.assert_array_equal(read.ravel(), np.asarray(targets).astype(dtype).ravel())


@pytest.mark.parametrize(
    ("targets", "loss", "says"),
    [
        (np.eye(N, dtype=int), "cross_entropy", "12 different labels in 12 samples"),
        (TOKENS / 7, "cross_entropy", "floating-point numbers are not labels: give integers"),
        (TOKENS - 1, "cross_entropy", r"the first -1 at sample 0, position \(0,\)"),
        (LABELS, "bce", "the first 2 at sample 2; bce takes 0 and 1"),
        (TOKENS, "bce", "use cross_entropy for more than two classes"),
        (np.where(SEVERAL == 1, np.nan, 0.5), "bce", "the first nan"),
        (-SEVERAL, "bce", "the first -1 at sample 0"),
        (SEVERAL.astype(str), "bce", "are of type <U21; they must be class labels"),
        (np.full(N, 1e300), "cross_entropy", "the first 1e.300 at sample 0"),
        (np.full(N, 2**63, np.uint64), "my:loss", "must be class labels"),
    ],
)
def test_targets_that_a_loss_does_not_take_are_refused(targets: Any, loss: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(targets, loss)


def test_labels_of_other_splits_are_those_of_train() -> None:
    raw = {"train": (X, TOKENS % 5), "test": (X, TOKENS)}
    with pytest.raises(DataError, match=r"the first 5 at sample 1, position \(1,\).*0 to 4"):
        load_objects(raw, targets="classes")


def test_masks_keep_their_labels_whatever_is_standardized() -> None:
    arguments = {"standardize_targets": True}
    with pytest.raises(DataError, match="standardize_targets"):
        load_objects({"train": (X, SEVERAL)}, arguments=arguments, targets="binary")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_whole_inputs_that_float32_would_round_are_refused(dtype: Any) -> None:
    exact = np.array([[2**24, 2**24 + 2, 2**30]] * N, dtype)
    loaded = load_objects({"train": (exact, LABELS)})
    assert np.array_equal(loaded.splits["train"].inputs, exact)
    exact[3, 1] += 1
    with pytest.raises(DataError, match=r"1 bad of 36 values, the first 16777219 at sample 3"):
        load_objects({"train": (exact, LABELS)})
    assert load_objects({"train": (exact.astype(float), LABELS)}).classes == 3
