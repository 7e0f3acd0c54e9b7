"""Samples that occur more than once: counted in a note, and left out where that is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import optrial
from optrial.data import Dataset, load_dataset
from optrial.errors import DataError
from tests.data.objects import load_objects

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": RANDOM.integers(0, 6, 200),
        "b": RANDOM.choice(["u", "v", None], 200),
        "y": RANDOM.integers(0, 2, 200),
    }
)
DISTINCT = FRAME.drop_duplicates(["a", "b"])


def table(folder: Path, frame: pd.DataFrame, **arguments: Any) -> Dataset:
    frame.to_csv(folder / "table.csv", index=False)
    path = str(folder / "table.csv")
    return load_dataset(path, {"target": "y", "split": "chronological", **arguments})


def test_first_rows_remain_before_the_split(tmp_path: Path) -> None:
    dataset = table(tmp_path, FRAME, drop_duplicates=True)
    expected = table(tmp_path, DISTINCT)
    assert dataset.sha256 == expected.sha256
    differing = len(FRAME.drop_duplicates()) - len(DISTINCT)
    assert differing > 0
    (note,) = [text for text in dataset.notes if "left out" in text]
    assert note.startswith(f"left out {200 - len(DISTINCT)} samples that repeat the inputs of an")
    again = FRAME.duplicated(["a", "b"]) & ~FRAME.duplicated()
    assert note.endswith(f"{again.sum()} of them with a different target")


def test_groups_follow_their_rows(tmp_path: Path) -> None:
    frame = FRAME.assign(g=np.arange(200) // 10)
    arguments = {"split": {"grouped": "g"}, "drop_duplicates": True}
    dataset = table(tmp_path, frame, **arguments)
    kept = frame.drop_duplicates(["a", "b"])
    assert dataset.sha256 == table(tmp_path, kept, split={"grouped": "g"}).sha256


def test_plan_says_how_many_samples_are_in_two_splits(tmp_path: Path) -> None:
    train, test = FRAME[:160], FRAME[160:]
    columns = ["a", "b"]
    merged = test[columns].fillna("").merge(
        train[columns].fillna("").drop_duplicates(), on=columns
    )  # fmt: skip
    (note,) = [text for text in table(tmp_path, FRAME).notes if "same inputs" in text]
    assert note.startswith(f"{len(merged)} of 40 test samples have the same inputs as train")


def test_categories_that_become_one_are_left_out_too(tmp_path: Path) -> None:
    words = [f"w{i % 3}" for i in range(60)] + [f"rare {i}" for i in range(20)]
    frame = pd.DataFrame({"word": words, "n": np.arange(80) % 7, "y": np.arange(80) % 2})
    frame = frame.sample(frac=1, random_state=0)
    dataset = table(tmp_path, frame, max_categories=3, drop_duplicates=True)
    seen = {row.tobytes() for row in dataset.splits["train"].inputs}
    assert not seen & {row.tobytes() for row in dataset.splits["test"].inputs}
    (counts, *_) = dataset.summary.classes
    assert sum(one.counts["test"] for one in dataset.summary.classes) == dataset.sizes["test"]
    assert counts.counts["test"] < 16
    assert any(
        re.search(r"test samples? with inputs of an earlier split", note) for note in dataset.notes
    )


def test_splits_of_arrays() -> None:
    inputs = RANDOM.normal(size=(60, 2))
    labels = np.arange(60) % 2
    raw = {
        "train": (inputs[:40], labels[:40]),
        "validation": (inputs[30:50], labels[30:50]),
        "test": (inputs[35:], labels[35:]),
    }
    dataset = load_objects(raw, arguments={"drop_duplicates": True})
    assert dataset.sizes == {"train": 40, "validation": 10, "test": 10}
    assert np.array_equal(dataset.splits["test"].inputs, inputs[50:].astype(np.float32))
    assert np.array_equal(dataset.splits["test"].targets, labels[50:])
    raw["test"] = (inputs[:5], labels[:5])
    with pytest.raises(DataError, match="all test samples repeat inputs of an earlier split"):
        load_objects(raw, arguments={"drop_duplicates": True})
    order = load_objects({"test": (inputs[:5], labels[:5]), "train": (inputs, labels)})
    assert order.notes == (
        "5 of 5 test samples have the same inputs as train samples; drop_duplicates: true leaves "
        "them out",
    )
    whole = load_objects((np.concatenate([inputs, inputs]), [*labels, *labels]),
                         arguments={"drop_duplicates": True})  # fmt: skip
    assert sum(whole.sizes.values()) == 60


def test_audit_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FRAME.to_csv(tmp_path / "table.csv", index=False)
    monkeypatch.chdir(tmp_path)

    def rules(**arguments: Any) -> set[str]:
        study = optrial.Study(
            name="table",
            problem={"dataset": {"name": "table.csv", "target": "y", **arguments}, "model": "mlp"},
            batch_size=4,
            budget={"steps": 2},
            seeds=1,
            optimizers=[{"rule": "sgd", "lr": 0.1}],
        )
        return {finding.rule for finding in study.run(restart=True).audit().findings}

    assert "B07" in rules()
    assert "B07" not in rules(drop_duplicates=True)
