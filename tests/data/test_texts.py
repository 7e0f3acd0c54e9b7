"""Texts: tokens, contiguous splits, windows for training and for evaluation, refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optrial.data import BatchOrder, Dataset, load_dataset, some_samples
from optrial.errors import DataError
from optrial.report.samples import table_cells
from tests.tolerance import WHOLE_WINDOWS

DATA = os.environ.get("OPTRIAL_DATA", "")
TEXT = "Größe & Ärger: naïve façade, 12 × 3 = 36 €.\n" * 9


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    Path("more.txt").write_text("And more.\n", encoding="utf-8")


def load(**arguments: Any) -> Dataset:
    return load_dataset("text", {"files": "text.txt", "context": 8} | arguments)


def by_hand(text: str, context: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Windows of the three parts of a text, written without a vectorised step."""
    alphabet = sorted(set(text))
    tokens = [alphabet.index(character) for character in text]
    first, second = int(0.8 * len(tokens)), int(0.9 * len(tokens))
    splits = {}
    for name, part in (
        ("train", tokens[:first]), ("validation", tokens[first:second]), ("test", tokens[second:]),
    ):  # fmt: skip
        inputs, targets = [], []
        for start in range(0, len(part) - 1, context):
            window = part[start : start + context + 1]
            missing = context + 1 - len(window)
            inputs.append((window[:-1] + [0] * missing)[:context])
            targets.append(window[1:] + [-100] * missing)
        splits[name] = np.array(inputs), np.array(targets)
    return splits


@pytest.mark.parametrize("context", [1, 5, 8, 30])
def test_windows_side_by_side_cover_every_split(context: int) -> None:
    loaded = load(context=context)
    assert (loaded.vocabulary, loaded.classes) == (len(set(TEXT)), len(set(TEXT)))
    assert (loaded.kind, loaded.input_shape) == ("positions", (context,))
    for name, (inputs, targets) in by_hand(TEXT, context).items():
        split = loaded.splits[name]
        assert split.inputs.dtype == split.targets.dtype == np.int64
        assert (split.inputs[targets != -100] == inputs[targets != -100]).all()
        assert (split.targets == targets).all()
    held = any((split.targets == -100).any() for split in loaded.splits.values())
    assert loaded.ignored == (-100 if held else None)


def test_bytes_and_characters() -> None:
    raw = TEXT.encode()
    loaded = load(tokens="bytes")
    assert loaded.vocabulary == 256
    assert bytes(loaded.splits["train"].text.astype(np.uint8)) == raw[: int(0.8 * len(raw))]
    assert set(loaded.bytes_per_token.values()) == {1.0}
    of_test = TEXT[int(0.9 * len(TEXT)) :][1:]
    characters = load()
    wanted = len(of_test.encode()) / len(of_test)
    assert characters.bytes_per_token["test"] == pytest.approx(wanted)


def test_training_windows_begin_anywhere_and_end_within_the_text() -> None:
    loaded = load()
    split = loaded.splits["train"]
    size, stride = loaded.batched
    places = len(split.text) - 8
    assert size == places // 8
    assert places - size < size * stride <= places
    order = BatchOrder(size, 4, seed=1, stride=stride)
    seen = set()
    for epoch in range(200):
        steps = range(1 + epoch * order.steps_per_epoch, 1 + (epoch + 1) * order.steps_per_epoch)
        rows = np.sort(np.concatenate([order.indices(step) for step in steps]))
        assert (np.diff(rows) == stride).all()
        assert rows[0] < stride
        seen |= set(rows.tolist())
    assert seen == set(range(size * stride))
    drawn = BatchOrder(size, size, seed=1, sampling="with_replacement", stride=stride)
    assert max(drawn.indices(step).max() for step in range(1, 60)) == size * stride - 1


def test_files_by_split_and_joined() -> None:
    joined = load(files=["text.txt", "more.txt"], tokens="bytes")
    whole = (TEXT + "And more.\n").encode()
    assert bytes(joined.splits["train"].text.astype(np.uint8)) == whole[: int(0.8 * len(whole))]
    files = {"train": ["text.txt"], "test": "more.txt"}
    named = load(files=files)
    assert list(named.splits) == ["train", "test"]
    alphabet = sorted(set(TEXT + "And more.\n"))
    assert "".join(alphabet[t] for t in named.splits["train"].text) == TEXT
    assert named.vocabulary == len(alphabet)


class Words:
    """A tokenizer of one's own: three kinds of characters."""

    vocab_size = 5

    def encode(self, text: str) -> list[int]:
        return [0 if c.isalpha() else 1 if c.isspace() else 2 for c in text]


def negative(text: str) -> list[int]:
    return [-1] * len(text)


def words(text: str) -> list[str]:
    return text.split()


def fails(text: str) -> list[int]:
    raise ValueError(f"no token for {text[0]}")


class Sized(Words):
    """A tokenizer that says how many tokens it knows, as far as that makes sense."""

    def __init__(self, size: object) -> None:
        self.vocab_size = size  # type: ignore[assignment]


class Unsized(Words):
    @property
    def n_vocab(self) -> int:
        raise RuntimeError("not known")


COUNTED, CALLED = Sized(np.int64(7)), Sized(lambda: 6)
TRUE, TOO_MANY = Sized(True), Sized(10**30)


def unsigned(text: str) -> np.ndarray:
    return np.full(len(text), 2**63 + 1, np.uint64)


def test_a_tokenizer_of_ones_own() -> None:
    loaded = load(tokens=f"{__name__}:Words")
    assert loaded.vocabulary == 5
    assert loaded.splits["train"].text[:7].tolist() == [0, 0, 0, 0, 0, 1, 2]
    of_test = TEXT[TEXT.index(" ", int(0.9 * len(TEXT))) :]
    assert loaded.bytes_per_token["test"] == pytest.approx(len(of_test.encode()) / len(of_test))
    assert load(tokens=f"{__name__}:Words", vocabulary=40).classes == 40
    assert load(tokens=f"{__name__}:TRUE", vocabulary=40).classes == 40
    assert load(tokens=f"{__name__}:COUNTED").vocabulary == 7
    assert load(tokens=f"{__name__}:CALLED").vocabulary == 6


def whole_words(text: str) -> list[int]:
    return [sorted(set(TEXT.split())).index(word) for word in text.split()]


def test_splits_end_between_words_for_a_tokenizer_of_ones_own() -> None:
    loaded = load(tokens=f"{__name__}:whole_words", context=3)
    words = whole_words(TEXT)
    pieces = [
        np.append(split.inputs.ravel(), split.targets.ravel()[-1:])
        for split in load(tokens=f"{__name__}:whole_words", context=1).splits.values()
    ]
    assert np.concatenate(pieces).tolist() == words
    assert list(loaded.splits) == ["train", "validation", "test"]
    Path("text.txt").write_text("x" * 400, encoding="utf-8")
    assert len(load(tokens=f"{__name__}:Words").splits["train"].text) == 320


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"context": 400}, "the train split has 316 tokens, and a window of context 400 needs 401"),
        ({"context": 45}, "the validation split has 40 tokens"),
        ({"test_fraction": 0.01}, "the test split has 4 tokens"),
        ({"files": "none.txt"}, "none.txt cannot be read (No such file"),
        ({"files": "."}, ". cannot be read (Is a directory)"),
        ({"files": ["text.txt", "empty.txt"]}, "empty.txt is empty"),
        ({"files": "latin.txt"}, "not UTF-8 (byte 1 is 0xe9); convert it, or read it as tokens"),
        ({"files": []}, "files: []: must be a file, a list of files"),
        ({"files": {"test": "more.txt"}}, "must be a file, a list of files, or {train: FILES"),
        ({"files": {"train": "text.txt"}, "test_fraction": 0.1}, "test_fraction has no effect"),
        ({"tokens": "words"}, "must be bytes, characters or module:name of a tokenizer"),
        ({"vocabulary": 10}, "applies to your own tokenizer"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leave nothing to train on"),
        ({"scale": "unit"}, "the data are tokens, to which scale does not apply; remove scale"),
        ({"tokens": f"{__name__}:Words", "vocabulary": 2}, "returned the token 2"),
        ({"tokens": f"{__name__}:negative"}, "returned the negative token -1"),
        ({"tokens": f"{__name__}:TRUE"}, "has vocab_size True, which is not a number of tokens"),
        ({"tokens": f"{__name__}:TOO_MANY"}, "000, which is not a number of tokens from 1 to"),
        ({"tokens": f"{__name__}:Unsized"}, "failed: RuntimeError: not known"),
        ({"tokens": f"{__name__}:unsigned"}, "returned the token 9223372036854775809; number fro"),
        ({"tokens": f"{__name__}:words"}, "it must return a list of whole numbers"),
        ({"tokens": f"{__name__}:fails"}, "failed: ValueError: no token for G"),
        ({"tokens": "no.such:thing"}, "the tokenizer 'no.such:thing' failed"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused(arguments: dict[str, Any], says: str) -> None:
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes("génie".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        load(**arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_files_without_end_are_refused(name: str) -> None:
    os.mkfifo("pipe")
    with pytest.raises(DataError, match="is a pipe or a device; name a file"):
        load(files=name)


def test_the_text_that_ships_with_optrial() -> None:
    loaded = load_dataset("coriolanus", {"test_fraction": 0.0})
    assert list(loaded.splits) == ["train", "validation"]
    assert sum(loaded.sizes.values()) == pytest.approx(63_889 / 64, rel=WHOLE_WINDOWS)


@pytest.mark.skipif(not DATA, reason="OPTRIAL_DATA is not set: the folder of published files")
def test_tiny_shakespeare() -> None:
    loaded = load_dataset("tiny-shakespeare", {"test_fraction": 0.0}, data_dir=Path(DATA))
    assert loaded.vocabulary == 65
    assert len(loaded.splits["train"].text) == int(0.9 * 1_115_394)


@pytest.mark.parametrize(
    ("dataset", "arguments", "first"),
    [
        ("coriolanus", {"context": 8}, ["First Ci", "irst Cit"]),
        ("coriolanus", {"context": 14, "tokens": "bytes"}, ["First Citizen:", "irst Citizen:↵"]),
        ("copy", {"length": 2, "random_state": 3}, None),
        ("modular-addition", {"modulus": 11}, None),
    ],
)
def test_samples_are_texts(
    dataset: str, arguments: dict[str, Any], first: list[str] | None
) -> None:
    loaded = load_dataset(dataset, arguments)
    header, rows = table_cells(*some_samples(loaded, "train", 5))
    assert header == ["input", "target"]
    assert len(rows) == 5
    if first:
        assert rows[0] == first
    elif dataset == "copy":
        for inputs, targets in rows:
            assert targets == f"··{inputs[:2]}"
            assert inputs[2] == "|"
    else:
        for inputs, targets in rows:
            a, b = map(int, inputs.rstrip("=").split("+"))
            assert targets == f"···{(a + b) % 11}"
