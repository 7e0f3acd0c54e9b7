"""Palindromes: what they are, that splits share none, and that shortage is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optrial.data import Dataset, load_dataset
from tests.tolerance import SAMPLING_SIGMAS


def load(length: int, n_samples: int, test_samples: int, **others: Any) -> Dataset:
    sizes = {"length": length, "n_samples": n_samples, "test_samples": test_samples}
    return load_dataset("palindrome", {**sizes, **others})


def texts(loaded: Dataset, split: str) -> list[str]:
    """Every sequence of a split with its target at the end, as text."""
    part = loaded.splits[split]
    digits = np.concatenate([part.inputs[..., 0], part.targets[:, None]], axis=1)
    return ["".join(map(str, row)) for row in digits.astype(int).tolist()]


PLENTY = [
    *((3, 30, 20), (4, 60, 40), (5, 500, 100), (8, 9_000, 1_000), (11, 3_000, 500)),
    *((14, 500, 100), (15, 2_000, 300), (16, 100, 10), (40, 300, 40), (101, 50, 10)),
]


@pytest.mark.parametrize(("length", "n_samples", "test_samples"), PLENTY)
def test_samples_are_distinct_palindromes_and_every_class_is_in_both_splits(
    length: int, n_samples: int, test_samples: int
) -> None:
    loaded = load(length, n_samples, test_samples)
    assert loaded.sizes == {"train": n_samples, "test": test_samples}
    assert (loaded.input_shape, loaded.classes) == ((length - 1, 1), 10)
    assert loaded.notes == ()
    everything = texts(loaded, "train") + texts(loaded, "test")
    assert all(text == text[::-1] and len(text) == length for text in everything)
    assert len(set(everything)) == n_samples + test_samples
    for split in loaded.splits.values():
        counts = np.bincount(split.targets, minlength=10)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("length", "n_samples", "test_samples", "of_train", "of_test"),
    [(3, 1000, 1000, 50, 50), (4, 1000, 10, 90, 10), (5, 10_000, 100, 900, 100),
     (5, 10, 5000, 500, 500), (6, 901, 100, 900, 100)],
)  # fmt: skip
def test_shortage_is_told_and_the_splits_still_share_nothing(
    length: int, n_samples: int, test_samples: int, of_train: int, of_test: int
) -> None:
    loaded = load(length, n_samples, test_samples)
    train, test = set(texts(loaded, "train")), set(texts(loaded, "test"))
    assert not train & test
    assert loaded.sizes == {"train": n_samples, "test": test_samples}
    assert (len(train), len(test)) == (min(n_samples, of_train), min(test_samples, of_test))
    assert {text[0] for text in train} == {text[0] for text in test} == set("0123456789")
    (note,) = loaded.notes
    assert note.startswith(f"there are only {of_train + of_test:,} palindromes of length {length}")
    assert f"from {of_train:,} of them and {test_samples:,} test samples from {of_test:,}" in note
    assert ("validation" in note) == (n_samples > of_train)


def test_ten_palindromes_cannot_be_divided() -> None:
    loaded = load(2, 100, 50)
    assert set(texts(loaded, "train")) == set(texts(loaded, "test"))
    assert loaded.notes == (
        "there are only 10 palindromes of length 2: the training and the test split hold the same "
        "ones",
    )


def test_digits_are_raw_unless_scaled() -> None:
    inputs = load(7, 500, 100).splits["train"].inputs
    assert set(inputs.ravel().tolist()) == set(range(10))
    scaled = load(7, 500, 100, scale="unit").splits["train"].inputs
    assert np.array_equal(scaled, inputs / np.float32(9))
    assert load_dataset("palindrome", {}).input_shape == (10, 1)


def test_one_hot_says_the_same() -> None:
    plain, one_hot = load(7, 500, 100), load(7, 500, 100, one_hot=True)
    assert one_hot.input_shape == (6, 10)
    for split, part in one_hot.splits.items():
        assert np.array_equal(part.inputs.sum(-1), np.ones(part.inputs.shape[:2]))
        assert np.array_equal(part.inputs.argmax(-1), plain.splits[split].inputs[..., 0])
        assert np.array_equal(part.targets, plain.splits[split].targets)


@pytest.mark.parametrize("length", [5, 11, 24])
def test_seed_decides(length: int) -> None:
    first = load(length, 300, 50, random_state=1)
    assert first.sha256 == load(length, 300, 50, random_state=1).sha256
    assert first.sha256 != load(length, 300, 50, random_state=2).sha256


@pytest.mark.parametrize(("length", "n_samples"), [(11, 20_000), (24, 20_000)])
def test_digits_are_uniform_and_independent(length: int, n_samples: int) -> None:
    inputs = load(length, n_samples, 10).splits["train"].inputs[..., 0].astype(int)
    half = inputs[:, 1 : (length + 1) // 2]
    for column in half.T:
        for others in (np.zeros(n_samples, int), inputs[:, 0], half[:, 0]):
            if others is not column and not np.array_equal(others, column):
                cells = np.bincount(column + 10 * others)
                share = 1 / len(cells)
                errors = (cells - n_samples * share) / np.sqrt(n_samples * share * (1 - share))
                assert np.abs(errors).max() < SAMPLING_SIGMAS


def test_validation_is_carved_as_from_any_dataset() -> None:
    sizes = {"length": 9, "n_samples": 1000, "test_samples": 100}
    loaded = load_dataset("palindrome", sizes, validation=True)
    assert loaded.sizes == {"train": 900, "validation": 100, "test": 100}
    assert not set(texts(loaded, "train")) & set(texts(loaded, "validation"))
