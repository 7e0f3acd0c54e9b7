"""Arrays in ``.npz`` files: the layouts that are read, and what every bad file is answered with."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from optrial.data import load_dataset
from optrial.errors import DataError
from optrial.study import Study
from tests.data.objects import load_objects
from tests.small import small_keys

X = np.arange(40, dtype=np.float64).reshape(20, 2)
Y = np.arange(20) % 3
RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (20, 6, 5), np.uint8)


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("style", ["{}_inputs {}_targets", "x_{} y_{}"])
@pytest.mark.parametrize("splits", [["train"], ["train", "test"], ["train", "validation", "test"]])
def test_npz_with_splits(style: str, splits: list[str], tmp_path: Path) -> None:
    arrays = {}
    for offset, split in enumerate(splits):
        inputs, targets = style.format(split, split).split()
        arrays |= {inputs: X + offset, targets: Y}
    loaded = load_dataset(npz(tmp_path, **arrays), {})
    assert list(loaded.splits) == splits
    for offset, split in enumerate(splits):
        part = loaded.splits[split]
        assert np.array_equal(part.inputs, (X + offset).astype(np.float32))
        assert np.array_equal(part.targets, Y)
    assert (loaded.classes, loaded.input_shape) == (3, (2,))


@pytest.mark.parametrize("names", [("inputs", "targets"), ("x", "y")])
def test_npz_without_splits_is_divided_by_scikit_learn(
    names: tuple[str, str], tmp_path: Path
) -> None:
    path = npz(tmp_path, **dict(zip(names, (X, Y), strict=True)))
    for arguments in ({}, {"test_fraction": 0.5, "random_state": 3}):
        loaded = load_dataset(path, arguments)
        size, seed = arguments.get("test_fraction", 0.2), arguments.get("random_state", 0)
        train, test, *_ = train_test_split(X, Y, test_size=size, random_state=seed)
        assert np.array_equal(loaded.splits["train"].inputs, train)
        assert np.array_equal(loaded.splits["test"].inputs, test)


def test_npz_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz(tmp_path, x=X, y=Y)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("data.npz", {}).name == "data.npz"
    assert load_dataset("./data.npz", {}).sizes == {"train": 16, "test": 4}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": X, "kinds": Y}, "holds the arrays pictures, kinds; name them train_inputs"),
        ({"train_inputs": X}, "name them"),
        ({"test_inputs": X, "test_targets": Y}, "name them"),
        ({"train_inputs": X, "train_targets": Y, "test_input": X, "test_targets": Y}, "test_input"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "name them"),
        ({"x": X, "y": Y, "labels": Y}, "name them"),
        ({"x": X, "y": Y, "val": Y}, "name them"),
        ({"x": X, "y": Y[:-1]}, r"inconsistent numbers of samples: \[20, 19\]"),
        ({"x": np.float64(1), "y": Y}, "x is a single value"),
    ],
)
def test_npz_with_other_arrays_is_refused(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(npz(tmp_path, **arrays), {})


def test_npz_with_splits_takes_no_test_fraction(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=X, y_train=Y)
    with pytest.raises(DataError, match=r"already has splits, so test_fraction 0\.3 has no effect"):
        load_dataset(path, {"test_fraction": 0.3})


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    objects = np.empty(20, dtype=object)
    objects[:] = Bomb()
    np.savez(path, x=objects, y=Y)
    with pytest.raises(DataError, match=r"holds Python objects, .* save arrays"):
        load_dataset(str(path), {})
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


@pytest.mark.parametrize("kept", [0, 10, 200, -30])
def test_damaged_npz_is_refused(kept: int, tmp_path: Path) -> None:
    path = Path(npz(tmp_path, x=X, y=Y))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"data\.npz cannot be read"):
        load_dataset(str(path), {})


def test_flipped_bytes_in_a_compressed_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 4)), y=Y)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


def test_single_array_under_the_name_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(str(path), {})


def test_keras_layout(tmp_path: Path) -> None:
    path = npz(tmp_path, x_train=BYTES, y_train=Y, x_test=BYTES[:4], y_test=Y[:4])
    loaded = load_dataset(path, {})
    assert (loaded.input_shape, loaded.classes) == ((1, 6, 5), 3)
    expected = BYTES[:, None].astype(np.float32) / np.float32(255)
    assert np.array_equal(loaded.splits["train"].inputs, expected)
    assert loaded.arguments["scale"] == "unit"
    assert "inputs of 6 x 5 are read as images, height x width" in loaded.notes
    raw = load_dataset(path, {"scale": "none"})
    assert np.array_equal(raw.splits["train"].inputs, BYTES[:, None])
    normalized = load_dataset(path, {"mean": 0.5, "std": 0.25})
    np.testing.assert_array_equal(
        normalized.splits["test"].inputs, ((expected - np.float32(0.5)) / np.float32(0.25))[:4]
    )


def test_medmnist_layout(tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (20, 28, 28, 3), np.uint8)
    labels = Y[:, None].astype(np.uint8)
    arrays = {f"{split}_images": pixels for split in ("train", "val", "test")}
    arrays |= {f"{split}_labels": labels for split in ("train", "val", "test")}
    loaded = load_dataset(npz(tmp_path, **arrays), {})
    assert list(loaded.splits) == ["train", "validation", "test"]
    assert loaded.input_shape == (3, 28, 28)
    for part in loaded.splits.values():
        assert np.array_equal(part.targets, Y)
        expected = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        assert np.array_equal(part.inputs, expected)


def test_scikit_learn_layout(tmp_path: Path) -> None:
    names = np.array(["a", "b"])
    path = npz(tmp_path, data=X, target=Y, feature_names=names, target_names=names)
    loaded = load_dataset(path, {})
    assert loaded.sizes == {"train": 16, "test": 4}
    assert loaded.notes == ("arrays that are not used: feature_names, target_names",)
    capital = load_dataset(npz(tmp_path, X=X, y=Y), {})
    assert capital.sha256 == loaded.sha256


def test_further_arrays_are_ignored_with_a_note(tmp_path: Path) -> None:
    path = npz(tmp_path, X=X, y=Y, ids=Y, sample_weight=Y, values=X)
    loaded = load_dataset(path, {})
    assert loaded.notes == ("arrays that are not used: ids, sample_weight, values",)
    assert loaded.sha256 == load_dataset(npz(tmp_path, X=X, y=Y), {}).sha256


def test_a_note_names_a_few_of_many_further_arrays(tmp_path: Path) -> None:
    path = npz(tmp_path, X=X, y=Y, **{f"a{n}": Y for n in range(500)})
    assert load_dataset(path, {}).notes == ("arrays that are not used: a0, a1, a2 and 497 more",)


def test_labels_of_bytes_are_text_in_utf_8(tmp_path: Path) -> None:
    words = np.where(Y == 1, "é".encode(), b"a")
    loaded = load_dataset(npz(tmp_path, X=X, y=words), {})
    assert [named.name for named in loaded.summary.classes] == ["a", "é"]
    with pytest.raises(DataError, match=r"train targets hold b'\\xff.*UTF-8"):
        load_dataset(npz(tmp_path, X=X, y=np.where(Y == 1, b"\xff\xfe", b"a")), {})


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((20, 3, 8, 9), None, (3, 8, 9)),
        ((20, 8, 9, 3), None, (3, 8, 9)),
        ((20, 2, 8, 9), None, (2, 8, 9)),  # PyTorch's order, where nothing else is known
        ((20, 3, 4, 4), None, (3, 4, 4)),  # square
        ((20, 4, 4, 3), None, (3, 4, 4)),
        ((20, 3, 8, 3), "nhwc", (3, 3, 8)),
        ((20, 3, 8, 3), "nchw", (3, 8, 3)),
        ((20, 8, 9, 12), "nhwc", (12, 8, 9)),
        ((20, 8, 9), "nhw", (1, 8, 9)),
        ((20, 8, 9), None, (8, 9)),  # a sequence of 8 steps
    ],
)
def test_layout_of_images(
    shape: tuple[int, ...], layout: Any, expected: Any, tmp_path: Path
) -> None:
    values = RANDOM.normal(size=shape)
    path = npz(tmp_path, x_train=values, y_train=Y)
    loaded = load_dataset(path, {"layout": layout} if layout else {})
    assert loaded.input_shape == expected
    whole = loaded.splits["train"].inputs
    if len(shape) == 4 and expected[0] == shape[3] != shape[1]:
        values = np.moveaxis(values, 3, 1)
    if not (layout == "nhwc" and shape[1] == shape[3]):
        assert np.array_equal(whole, values.reshape(20, *expected).astype(np.float32))


def test_layout_that_is_open_is_asked_for(tmp_path: Path) -> None:
    path = npz(tmp_path, x=np.zeros((20, 3, 8, 3)), y=Y)
    with pytest.raises(DataError, match=r"\(20, 3, 8, 3\).* give layout: nchw or layout: nhwc"):
        load_dataset(path, {})
    with pytest.raises(DataError, match="has 4 axes; layout: nhw needs 3"):
        load_dataset(path, {"layout": "nhw"})


def test_damaged_bytes_give_one_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "good.npz", x_train=BYTES, y_train=Y, x_test=BYTES, y_test=Y)
    good = (tmp_path / "good.npz").read_bytes()
    whole = load_dataset(str(tmp_path / "good.npz"), {}).sha256
    for _ in range(150):
        content = bytearray(good)
        for place in RANDOM.integers(0, len(content), 3):
            content[place] = RANDOM.integers(0, 256)
        (tmp_path / "bad.npz").write_bytes(content)
        try:
            loaded = load_dataset(str(tmp_path / "bad.npz"), {})
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert loaded.sha256 == whole


def test_header_that_promises_too_much_is_refused_before_allocation(tmp_path: Path) -> None:
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, shape in (("x", (10**12, 4)), ("y", (10**12,))):
            buffer = io.BytesIO()
            header = {"descr": "<f8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(buffer, header)
            archive.writestr(f"{name}.npy", buffer.getvalue() + bytes(80))
    with pytest.raises(DataError, match="80 bytes where its header says 32000000000000"):
        load_dataset(str(path), {})


@pytest.mark.parametrize("targets", ["labels", None])
def test_one_hot_labels(targets: Any) -> None:
    arguments = {"targets": targets} if targets else {}
    loaded = load_objects({"train": (X, np.eye(3)[Y])}, arguments=arguments)
    assert np.array_equal(loaded.splits["train"].targets, Y)
    assert loaded.notes == ("one-hot targets are read as 3 classes",)
    assert load_objects({"train": (X, np.eye(3)[Y])}, targets="values").regression


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([-1, 1])[Y % 2], ["-1", "1"]),
        (np.array([3.0, 5.0, 9.0])[Y], ["3", "5", "9"]),
        (2**62 + np.arange(2)[Y % 2], [str(2**62), str(2**62 + 1)]),
        (2**63 + np.arange(2, dtype=np.uint64)[Y % 2], [str(2**63), str(2**63 + 1)]),
        (np.array(["b", "a", "c"])[Y], ["a", "b", "c"]),
        (np.array(["b", "a", "c"], object)[Y][:, None], ["a", "b", "c"]),
    ],
)
def test_other_labels_are_numbered_in_order(labels: Any, names: list[str]) -> None:
    raw = {"train": (X, labels), "test": (X[:5], labels[:5])}
    loaded = load_objects(raw)
    assert loaded.classes == len(names)
    expected = [names.index(label if isinstance(label, str) else str(int(label)))
                for label in labels.ravel()]  # fmt: skip
    assert loaded.splits["train"].targets.tolist() == expected
    assert [one.name for one in loaded.summary.classes] == names
    assert [one.counts["train"] for one in loaded.summary.classes] == [
        expected.count(number) for number in range(len(names))
    ]


def test_numbers_stay_what_they_are_for_a_loss_of_the_users() -> None:
    labels = np.array([1, 4, 7])[Y]
    loaded = load_objects({"train": (X, labels)}, targets="any")
    assert np.array_equal(loaded.splits["train"].targets, labels)
    assert loaded.classes == 8


def test_class_without_training_samples_is_refused() -> None:
    raw = {"train": (X, Y), "test": (X, Y + 1)}
    with pytest.raises(
        DataError, match="test has 6 samples of classes without training samples: 3; leave"
    ):
        load_objects(raw)


def test_numbers_that_nearly_all_differ_are_no_classes() -> None:
    raw = {"train": (X, np.arange(20) * 7)}
    with pytest.raises(DataError, match=r"20 different labels in 20 samples; .* such as mse"):
        load_objects(raw)
    assert load_objects(raw, arguments={"targets": "labels"}).classes == 20


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (Y % 2, Y % 2),
        (np.where(Y == 0, -1, 1), Y != 0),
        (np.array(["no", "yes"])[Y % 2], Y % 2),
        ((Y % 2)[:, None], Y % 2),
    ],
)
def test_labels_of_one_logit(labels: Any, expected: Any) -> None:
    loaded = load_objects({"train": (X, labels)}, targets="binary")
    assert np.array_equal(loaded.splits["train"].targets.ravel(), expected)


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_a_single_value_is_no_array_of_samples(name: str, tmp_path: Path) -> None:
    arrays = {"inputs": np.ones((8, 2)), "targets": np.arange(8) % 2} | {name: np.float32(3)}
    np.savez(tmp_path / "single.npz", **arrays)  # type: ignore[arg-type]
    problem = {"dataset": str(tmp_path / "single.npz"), "model": "mlp"}
    study = Study(**small_keys(problem=problem, batch_size=4))
    with pytest.raises(DataError, match=f"{name} is a single value; save one row per sample"):
        study.load_data()
