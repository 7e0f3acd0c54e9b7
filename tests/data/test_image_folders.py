"""Folders of images, one folder per class."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from optrial.data import check_dataset, load_dataset
from optrial.errors import DataError

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (12, 6, 5, 3), np.uint8)
GRAYS = RANDOM.integers(0, 256, (12, 6, 5), np.uint8)


def saved(folder: Path, pixels: np.ndarray, split: str = "", extension: str = "png") -> str:
    """Write images of three classes, in an order that sorting keeps."""
    for number, image in enumerate(pixels):
        place = folder / "pictures" / split / "abc"[number // 4]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.{extension}")
    return str(folder / "pictures")


LABELS = np.arange(12) // 4


@pytest.mark.parametrize("pixels", [COLORS, GRAYS])
def test_images_are_divided_and_scaled(pixels: np.ndarray, tmp_path: Path) -> None:
    folder = saved(tmp_path, pixels)
    loaded = load_dataset(folder, {})
    planes = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    train, test, of_train, of_test = train_test_split(
        planes.astype(np.float32) / np.float32(255), LABELS, test_size=0.2, random_state=0
    )
    assert np.array_equal(loaded.splits["train"].inputs, train)
    assert np.array_equal(loaded.splits["test"].inputs, test)
    assert np.array_equal(loaded.splits["train"].targets, of_train)
    assert np.array_equal(loaded.splits["test"].targets, of_test)
    assert [one.name for one in loaded.summary.classes] == ["a", "b", "c"]
    assert f"images are read as {'grayscale' if pixels.ndim == 3 else 'RGB'}" in loaded.notes


@pytest.mark.parametrize("words", [("train", "test", "val"), ("Training", "Testing", "valid")])
def test_folders_of_splits(words: tuple[str, ...], tmp_path: Path) -> None:
    for split in words:
        folder = saved(tmp_path, COLORS, split)
    loaded = load_dataset(folder, {})
    assert list(loaded.sizes.items()) == [("train", 12), ("validation", 12), ("test", 12)]
    assert "12 of 12 test samples have the same inputs as train samples; drop_dup" in str(
        loaded.notes
    )
    assert np.array_equal(loaded.splits["test"].targets, LABELS)
    with pytest.raises(DataError, match="already has splits, so test_fraction"):
        load_dataset(folder, {"test_fraction": 0.5})
    (Path(folder) / "other").mkdir()
    with pytest.raises(DataError, match="it must hold train, test and validation, or one folder"):
        load_dataset(folder, {})


def test_folders_are_classes_whatever_their_number(tmp_path: Path) -> None:
    for number, image in enumerate(COLORS):
        (tmp_path / f"{number:02}").mkdir()
        for copy in range(2):
            Image.fromarray(image).save(tmp_path / f"{number:02}" / f"{copy}.png")
    loaded = load_dataset(str(tmp_path), {"split": "stratified", "test_fraction": 0.5})
    assert [one.name for one in loaded.summary.classes] == [f"{n:02}" for n in range(12)]


def test_sizes(tmp_path: Path) -> None:
    folder = saved(tmp_path, COLORS)
    Image.fromarray(COLORS[0, :3]).save(Path(folder) / "b" / "odd.png")
    with pytest.raises(DataError, match=r"2 sizes, 6x5 and others, such as b/odd\.png; give size"):
        load_dataset(folder, {})
    assert load_dataset(folder, {"size": [4, 8]}).input_shape == (3, 4, 8)
    gray = load_dataset(folder, {"size": [4, 8], "color": "grayscale"})
    assert gray.input_shape == (1, 4, 8)
    (problem,) = check_dataset(folder, {"size": 4})
    assert problem.message == "4: must be two whole numbers above 0, height and width in pixels."


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    folder = saved(tmp_path, COLORS)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    for file in Path(folder).rglob("*.png"):
        with Image.open(file) as picture:
            picture.load()
        picture.save(file, exif=exif)
    expected = np.rot90(COLORS, -1, (1, 2)).transpose(0, 3, 1, 2).astype(np.float32)
    train = train_test_split(expected, test_size=0.2, random_state=0)[0]
    loaded = load_dataset(folder, {"scale": "none"})
    assert np.array_equal(loaded.splits["train"].inputs, train)


def test_other_files_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, COLORS)
    (Path(folder) / "a" / "notes.txt").write_text("none")
    (Path(folder) / "a" / ".DS_Store").write_text("none")
    notes = load_dataset(folder, {}).notes
    assert "ignored 1 file other than images: a/notes.txt" in notes


def test_bad_images_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, COLORS)
    broken = Path(folder) / "c" / "broken.png"
    for content in (b"", b"no image", (Path(folder) / "c" / "08.png").read_bytes()[:60]):
        broken.write_bytes(content)
        with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
            load_dataset(folder, {})
    Image.fromarray(np.arange(30, dtype=np.uint16).reshape(6, 5) * 1000).save(broken)
    with pytest.raises(DataError, match=r"broken\.png has pixels of mode I;16, more than 8 bits"):
        load_dataset(folder, {})


@pytest.mark.parametrize("inside", [[], ["a"], ["train/a", "test/a"]])
def test_folder_without_images_is_refused(inside: list[str], tmp_path: Path) -> None:
    for name in inside:
        (tmp_path / "empty" / name).mkdir(parents=True)
    (tmp_path / "empty").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="holds no images in folders of classes"):
        load_dataset(str(tmp_path / "empty"), {})


def test_images_need_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path, COLORS)

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "optrial.data.sources.image_folders", raising=False)
    with pytest.raises(DataError, match=r"without PIL; .* pip install 'optrial\[images\]'"):
        load_dataset(folder, {})


def test_folder_under_the_name_of_a_dataset(tmp_path: Path, monkeypatch: Any) -> None:
    saved(tmp_path, COLORS)
    (tmp_path / "pictures").rename(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("digits", {}).classes == 10
    assert load_dataset("./digits", {}).classes == 3
