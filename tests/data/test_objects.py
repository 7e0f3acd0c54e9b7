"""Objects of a program: every form is sorted into splits, every other is answered clearly."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from optrial import Study
from optrial.data import Dataset, load_dataset
from optrial.errors import DataError, StudyError
from tests.data.objects import load_objects
from tests.small import small_keys

X = np.arange(40, dtype=np.float32).reshape(20, 2)
Y = np.arange(20) % 3
TENSORS = (torch.from_numpy(X), torch.from_numpy(Y))
SAMPLES = TensorDataset(*TENSORS)
FIRST, LAST = Subset(SAMPLES, range(15)), Subset(SAMPLES, range(15, 20))
DIVIDED = {"train": (X[:15], Y[:15]), "test": (X[15:], Y[15:])}


def assert_holds(loaded: Dataset, expected: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    assert list(loaded.splits) == list(expected)
    for split, (inputs, targets) in expected.items():
        assert np.array_equal(loaded.splits[split].inputs, inputs)
        assert np.array_equal(loaded.splits[split].targets, targets)


@pytest.mark.parametrize(
    "raw",
    [
        DIVIDED,
        {"test": FIRST, "train": LAST},
        (X[:15], Y[:15], X[15:], Y[15:]),
        [X[:15].tolist(), Y[:15].tolist(), X[15:].tolist(), Y[15:].tolist()],
        ((X[:15], Y[:15]), (X[15:], Y[15:])),
        (FIRST, LAST),
        [FIRST, (X[15:], Y[15:])],
        {"train": FIRST, "test": (pd.DataFrame(X[15:]), pd.Series(Y[15:]))},
    ],
)
def test_splits_are_taken_as_they_are(raw: Any) -> None:
    expected = DIVIDED
    if isinstance(raw, dict) and raw["train"] is LAST:
        expected = {"train": DIVIDED["test"], "test": DIVIDED["train"]}
    loaded = load_objects(raw)
    assert_holds(loaded, expected)
    assert (loaded.classes, loaded.input_shape) == (3, (2,))


@pytest.mark.parametrize("raw", [(X, Y), TENSORS, SAMPLES, [X.tolist(), Y.tolist()]])
def test_samples_without_splits_are_divided_by_scikit_learn(raw: Any) -> None:
    train, test, of_train, of_test = train_test_split(X, Y, test_size=0.2, random_state=0)
    assert_holds(load_objects(raw), {"train": (train, of_train), "test": (test, of_test)})


@pytest.mark.parametrize("as_frame", [False, True])
def test_a_bunch_of_scikit_learn_is_its_data_and_target(as_frame: bool) -> None:
    bunch = load_iris(as_frame=as_frame)
    inputs, targets = load_iris(return_X_y=True)
    train, test, of_train, of_test = train_test_split(
        inputs.astype(np.float32), targets, test_size=0.2, random_state=0
    )
    assert_holds(load_objects(bunch), {"train": (train, of_train), "test": (test, of_test)})


def test_arguments_apply_as_to_any_dataset() -> None:
    loaded = load_objects(DIVIDED, {"scale": "unit", "split_seed": 1}, validation=True)
    assert loaded.sizes == {"train": 13, "validation": 2, "test": 5}
    assert loaded.splits["train"].inputs.max() == 1
    assert loaded.arguments["scale"] == "unit"


def test_objects_are_left_alone() -> None:
    inputs = X.copy()
    load_objects({"train": (inputs, Y)}, arguments={"scale": "standardize"})
    assert np.array_equal(inputs, X)


class Counted(TorchDataset[Any]):
    """Counts how often each sample is read."""

    def __init__(self) -> None:
        self.read = np.zeros(20, int)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read[index] += 1
        return TENSORS[0][index], int(Y[index])


def test_samples_are_read_once_but_for_a_few() -> None:
    samples = Counted()
    assert_holds(load_objects({"train": samples}), {"train": (X, Y)})
    assert samples.read.tolist() == [2] * 8 + [1] * 12


class Flipped(Counted):
    """Turns the sign of a sample now and then, as random augmentation does."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        inputs, target = super().__getitem__(index)
        return (-inputs if index == 5 and self.read[index] > 1 else inputs), target


def test_random_transforms_are_refused() -> None:
    with pytest.raises(DataError, match=r"sample 5 of test differs when it is read again.*augment"):
        load_objects({"train": Counted(), "test": Flipped()})


class Listed(TorchDataset[Any]):
    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


class Unready(Listed):
    def __getitem__(self, index: int) -> Any:
        raise OSError("no such picture")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X[0], 0)])


PICTURE = type("Image", (), {"__module__": "PIL.Image"})()  # Pillow need not be installed


def test_values_of_samples_are_kept() -> None:
    samples = Listed(*((row, [float(row.sum()), 1.0]) for row in X))
    loaded = load_objects({"train": samples}, targets="values")
    assert np.array_equal(loaded.splits["train"].targets[:, 0], X.sum(axis=1))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "gives a NoneType; it must give {\"train\""),
        ("mnist", "gives a str; it must"),
        (X, "gives a ndarray; it must"),
        (TENSORS[0], "gives a Tensor; it must"),
        ((X,), "gives a tuple; it must"),
        ((X, Y, X), "gives a tuple; it must"),
        ({}, "gives the splits none; it must"),
        ({"x": X, "y": Y}, "gives the splits x, y; it must"),
        ({"train": X}, "gives no pair for train; it must"),
        ({"train": (X, Y), "test": "mnist"}, "gives no pair for test; it must"),
        (Stream(), "gives a Stream; it must"),
        (SimpleNamespace(), "gives a SimpleNamespace; it must"),
        (Listed(), "the data holds no samples; give one or more"),
        (Listed((X[0], 0), X[1]), r"1 of the data is a ndarray; it must be \(input, target\)"),
        (Listed((X[0], 0, 1)), "0 of the data is a tuple; it must be"),
        (Listed({"x": 1, "y": 2}), "0 of the data is a dict; it must be"),
        (Listed((X[0], 0), (X[1][:1], 1)), r"1 of the data has an input of shape \(1,\) and type "
         r"float32, sample 0 of \(2,\) and float32; give all samples the same shape"),
        (Listed((X[0], 0), (np.float64(X[1]), 1)), "1 of the data has an input of .*float64"),
        (Listed((X[0], 0), (X[1], 1.5)), "1 of the data has a target of .*float64, .* int"),
        (Listed((X[0], [0, 1]), (X[1], [1])), r"1 of the data has a target of shape \(1,\)"),
        (Listed((X[0], [[0], [1, 2]])), "cannot be read as an array"),
        (Listed((torch.ones(2, requires_grad=True), 1)), "cannot be read as an array"),
        ({"train": SAMPLES, "test": Unready(1)}, r"sample 0 of test cannot be read \(OSError: no "
         "such picture"),
        (Listed((PICTURE, 1)), r"0 of the data holds a picture; .*ToTensor\(\)"),
    ],
)  # fmt: skip
def test_other_objects_are_refused(raw: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"dataset 'data'.*{message}"):
        load_objects(raw)


def test_order_of_scikit_learn_is_answered() -> None:
    raw = train_test_split(X, Y, test_size=0.25)  # x_train, x_test, y_train, y_test
    with pytest.raises(DataError, match="train has 15 inputs and 5 targets"):
        load_objects(raw)


SOURCE = """
import torch
from torch.utils.data import TensorDataset, Subset
x, y = torch.arange(40.0).reshape(20, 2), torch.arange(20) % 3
samples = TensorDataset(x, y)
def named(): return {"train": Subset(samples, range(15)), "test": Subset(samples, range(15, 20))}
def pair(): return Subset(samples, range(15)), Subset(samples, range(15, 20))
def arrays(): return x[:15], y[:15], x[15:], y[15:]
def whole(): return samples
"""


@pytest.mark.parametrize("function", ["named", "pair", "arrays", "whole"])
def test_functions_return_the_same_forms(
    function: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = f"objects_of_{function}"
    (tmp_path / f"{module}.py").write_text(SOURCE)
    loaded = load_dataset(f"{module}:{function}", {})
    if function == "whole":
        train, test, of_train, of_test = train_test_split(X, Y, test_size=0.2, random_state=0)
        assert_holds(loaded, {"train": (train, of_train), "test": (test, of_test)})
    else:
        assert_holds(loaded, DIVIDED)


FRAME = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)[::-1]})
LABELS = np.arange(40) % 2


@pytest.mark.parametrize("columns", [["b", "a"], ["a", "c"]])
def test_data_frames_of_other_columns_are_refused(columns: list[str]) -> None:
    test = FRAME.rename(columns={"b": "c"}) if "c" in columns else FRAME
    with pytest.raises(DataError, match=r"test has the columns .*, train .'a', 'b'.; give both"):
        load_objects({"train": (FRAME, LABELS), "test": (test[columns], LABELS)})


def test_what_is_no_plain_array_is_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match=r"a sparse csr_matrix; .* toarray\(\)"):
        load_objects((scipy.sparse.csr_matrix(np.eye(40)), LABELS))
    masked = np.ma.masked_array(np.eye(40), mask=np.eye(40) > 0)
    with pytest.raises(DataError, match=r"masked values; fill them in, .*filled"):
        load_objects((masked, LABELS))


def test_a_data_frame_with_its_target_is_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match=r"a DataFrame; give \(frame.drop\(columns=.*to_csv"):
        load_objects(FRAME.assign(target=LABELS))


def test_data_frames_of_text_or_with_gaps_are_refused_with_a_hint() -> None:
    texts = FRAME.assign(b="text", c=pd.Categorical(["x", "y"] * 20), d=True)
    with pytest.raises(DataError, match=r"the columns b, c are not: encode .*get_dummies.*to_csv"):
        load_objects((texts, LABELS))
    gaps = FRAME.assign(b=FRAME.b.where(FRAME.b > 3))
    with pytest.raises(DataError, match=r"missing values in the columns b; fill .*fillna.*to_csv"):
        load_objects((gaps, LABELS))


def test_data_frames_may_mix_types() -> None:
    frame = pd.get_dummies(FRAME.assign(b=["u", "v"] * 20))
    train = train_test_split(frame.to_numpy(np.float32), test_size=0.2, random_state=0)[0]
    assert np.array_equal(load_objects((frame, LABELS)).splits["train"].inputs, train)


def test_bytes_beside_other_numbers_are_refused() -> None:
    images = np.zeros((40, 8, 8, 3), np.uint8)
    with pytest.raises(DataError, match=r"test inputs are of type float32, .* same type and scale"):
        load_objects({"train": (images, LABELS), "test": ((images / 255).astype("f4"), LABELS)})


def test_a_single_class_is_noted() -> None:
    assert load_objects((FRAME, np.full(40, 7))).notes == (
        "all training samples are of the class 7: nothing to learn",
        "labels 7 are numbered 0 to 0",
    )


def test_one_hot_rows_of_other_widths_are_refused() -> None:
    with pytest.raises(DataError, match="take the argmax of one-hot rows"):
        load_objects({"train": (FRAME, np.eye(3)[LABELS]), "test": (FRAME, np.eye(2)[LABELS])})


def test_missing_targets_are_named() -> None:
    labels = ["u", None] * 20
    with pytest.raises(DataError, match="targets are of type object, such as None; they must be"):
        load_objects((FRAME, labels))


def test_token_numbers_in_arrays_are_declared_beside_them() -> None:
    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(9, 2)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens).mean(1)

    tokens, labels = np.arange(40).reshape(20, 2) % 9, np.arange(20) % 2
    problem = {"model": Table, "dataset": (tokens, labels)}
    with pytest.raises(StudyError, match=r"token numbers, add inputs: tokens to the dataset"):
        Study(**small_keys(batch_size=4) | {"problem": problem}).plan()
    problem["dataset"] = {"name": (tokens, labels), "inputs": "tokens"}
    assert Study(**small_keys(batch_size=4) | {"problem": problem}).plan().runs
