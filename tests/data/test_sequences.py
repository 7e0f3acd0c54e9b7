"""Sequences to copy, sums modulo a number, and the random teacher."""

from __future__ import annotations

import numpy as np
import pytest

from optrial.data import load_dataset
from tests.tolerance import DRAWN_NOISE, SAMPLING_SIGMAS, STATISTICS_FLOAT32


def test_symbols_are_to_be_copied_after_the_mark() -> None:
    arguments = {"length": 4, "symbols": 5, "n_samples": 300, "test_samples": 50}
    loaded = load_dataset("copy", arguments)
    assert (loaded.vocabulary, loaded.classes, loaded.ignored) == (6, 5, -100)
    assert loaded.sizes == {"train": 300, "test": 50}
    for split in loaded.splits.values():
        assert split.inputs.shape == split.targets.shape == (split.inputs.shape[0], 8)
        assert (split.inputs[:, 4] == 5).all()
        assert (split.targets[:, :4] == -100).all()
        assert (split.targets[:, 4:] == split.inputs[:, :4]).all()
        assert (split.inputs[:, 5:] == split.inputs[:, :3]).all()
    counts = np.bincount(loaded.splits["train"].inputs[:, :4].ravel(), minlength=5)
    assert abs(counts - 240).max() <= SAMPLING_SIGMAS * (1200 * 0.2 * 0.8) ** 0.5
    again = load_dataset("copy", arguments | {"random_state": 1})
    assert again.sha256 != loaded.sha256


@pytest.mark.parametrize(("modulus", "share"), [(7, 0.5), (11, 0.3), (2, 0.9)])
def test_every_sum_is_in_one_split(modulus: int, share: float) -> None:
    loaded = load_dataset("modular-addition", {"modulus": modulus, "train_fraction": share})
    assert loaded.sizes["train"] == min(modulus**2 - 1, round(share * modulus**2))
    pairs = set()
    for split in loaded.splits.values():
        for (a, plus, b, equals), targets in zip(split.inputs, split.targets, strict=True):
            assert (plus, equals) == (modulus, modulus + 1)
            assert targets.tolist() == [-100, -100, -100, (a + b) % modulus]
            pairs.add((int(a), int(b)))
    assert len(pairs) == modulus**2 == sum(loaded.sizes.values())


def test_the_teacher_has_variance_one_and_no_noise_in_the_test() -> None:
    arguments = {"features": 3, "width": 50, "n_samples": 40, "test_samples": 500}
    plain, noisy = (
        load_dataset("teacher", arguments | {"noise": noise}, targets="values")
        for noise in (0.0, 0.5)
    )
    values = plain.splits["test"].targets
    assert values.mean() == pytest.approx(0, abs=STATISTICS_FLOAT32)
    assert values.std() == pytest.approx(1, abs=STATISTICS_FLOAT32)
    assert (noisy.splits["test"].targets == values).all()
    errors = noisy.splits["train"].targets - plain.splits["train"].targets
    assert errors.std() == pytest.approx(0.5, rel=DRAWN_NOISE)


def test_the_teacher_is_a_network_of_one_hidden_layer() -> None:
    """In one dimension it is piecewise linear, with at most one kink per unit."""
    arguments = {"features": 1, "width": 3, "n_samples": 1, "test_samples": 400}
    split = load_dataset("teacher", arguments, targets="values").splits["test"]
    order = split.inputs[:, 0].argsort()
    x, y = split.inputs[order, 0].astype(float), split.targets[order, 0].astype(float)
    slopes = np.diff(y) / np.diff(x)
    inner = (np.diff(x)[1:] > 1e-3) & (np.diff(x)[:-1] > 1e-3)
    changes = np.abs(np.diff(slopes))[inner] > 1e-2
    assert changes.sum() <= 2 * 3


def test_tables_of_scikit_learn() -> None:
    cancer, wine = (load_dataset(name, {}) for name in ("breast-cancer", "wine"))
    assert (sum(cancer.sizes.values()), cancer.input_shape, cancer.classes) == (569, (30,), 2)
    names = {entry.name: sum(entry.counts.values()) for entry in cancer.summary.classes}
    assert names == {"malignant": 212, "benign": 357}
    assert (sum(wine.sizes.values()), wine.input_shape, wine.classes) == (178, (13,), 3)
    assert np.allclose(wine.splits["train"].inputs.std(axis=0), 1, atol=STATISTICS_FLOAT32)
