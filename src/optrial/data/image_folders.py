"""Folders of images, one folder per class: ``red/1.png``, or ``train/red/1.png``."""

from __future__ import annotations

import importlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import ImageFolderArguments
from optrial.data.dataset import SPLITS
from optrial.data.source import Rows, Source
from optrial.errors import DataError

__all__ = ["read_image_folder"]

_SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_GRAYSCALE_MODES = {"1", "L", "LA"}
_DEEP_MODES = ("I", "F")  # more than 8 bits, which a conversion would cut off
_FILES_SHOWN = 5


def read_image_folder(folder: Path, arguments: ImageFolderArguments) -> Source:
    """Read all images of a folder, as bytes of shape (n, channels, height, width).

    Args:
        folder: holds one folder per class, or the folders ``train`` and maybe ``test`` and
            ``validation`` which do. The names of the class folders are the labels.
        arguments: `size` and `color` are read.

    Raises:
        DataError: pillow is missing, the folder has another form, an image cannot be read, or
            images differ in size and no `size` is given.
    """
    parts = _split_folders(folder)
    ignored: list[Path] = []
    files = {split: list(_files(part, ignored)) for split, part in parts.items()}
    empty = [split for split, listed in files.items() if not listed]
    if empty:
        raise DataError(
            f"{folder} holds no images in folders of classes for {', '.join(empty)}; it must hold "
            "CLASS/IMAGE.png, or train/CLASS/IMAGE.png and test/CLASS/IMAGE.png"
        )
    every = [file for listed in files.values() for file, _ in listed]
    grayscale = arguments.color == "grayscale" or (
        arguments.color is None and all(_mode(file) in _GRAYSCALE_MODES for file in every)
    )
    splits = {split: _read(listed, grayscale, arguments) for split, listed in files.items()}
    _check_sizes(folder, every, splits)
    notes = [f"images are read as {'grayscale' if grayscale else 'RGB'}"]
    if ignored:
        shown = ", ".join(str(file.relative_to(folder)) for file in ignored[:_FILES_SHOWN])
        notes.append(f"{len(ignored)} files are not images and were not read: {shown}")
    return Source(
        {split: (np.stack(images), labels) for split, (images, labels) in splits.items()},
        pixel_maximum=255,
        notes=notes,
    )


def _pillow(module: str) -> Any:
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise DataError(
            "a folder of images needs pillow; install it by pip install 'optrial[images]'"
        ) from error


def _split_folders(folder: Path) -> dict[str, Path]:
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    known = [path for path in inside if path.name.lower() in _SPLIT_FOLDERS]
    if not any(_SPLIT_FOLDERS[path.name.lower()] == "train" for path in known):
        return {"all": folder}
    named = Counter(_SPLIT_FOLDERS[path.name.lower()] for path in known)
    other = [path.name for path in inside if path not in known and not path.name.startswith(".")]
    if other or max(named.values()) > 1:
        listed = ", ".join(path.name for path in inside)
        raise DataError(
            f"{folder} holds the folders {listed}; it must hold train, test and validation, or "
            "one folder per class"
        )
    of_split = {_SPLIT_FOLDERS[path.name.lower()]: path for path in known}
    return {split: of_split[split] for split in SPLITS if split in of_split}


def _files(folder: Path, ignored: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each image of the class folders and its class; other files are added to `ignored`."""
    image = _pillow("Image")
    known = set(image.registered_extensions())
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        if kind.name.startswith("."):
            continue
        for file in sorted(kind.rglob("*")):
            if file.is_dir() or file.name.startswith("."):
                continue
            if file.suffix.lower() in known:
                yield file, kind.name
            else:
                ignored.append(file)


def _mode(file: Path) -> str:
    with _opened(file) as picture:
        return str(picture.mode)


def _opened(file: Path) -> Any:
    image = _pillow("Image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture so large that it may be an attack
            return image.open(file)
    except Exception as error:
        raise _unreadable(file, error) from error


def _read(
    listed: Sequence[tuple[Path, str]], grayscale: bool, arguments: ImageFolderArguments
) -> tuple[list[NDArray[np.uint8]], NDArray[Any]]:
    images = [_pixels(file, grayscale, arguments) for file, _ in listed]
    return images, np.array([kind for _, kind in listed], object)


def _pixels(file: Path, grayscale: bool, arguments: ImageFolderArguments) -> NDArray[np.uint8]:
    """Return one image, upright, as (channels, height, width)."""
    with _opened(file) as picture:
        if picture.mode.startswith(_DEEP_MODES):
            raise DataError(
                f"{file} has pixels of mode {picture.mode}, more than 8 bits; convert it to 8 bits"
            )
        try:
            upright = _pillow("ImageOps").exif_transpose(picture)
            converted = upright.convert("L" if grayscale else "RGB")
            if arguments.size is not None:
                height, width = arguments.size
                bilinear = _pillow("Image").Resampling.BILINEAR
                converted = converted.resize((width, height), bilinear)
            pixels = np.asarray(converted, np.uint8)
        except Exception as error:
            raise _unreadable(file, error) from error
    return pixels[None] if grayscale else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _check_sizes(folder: Path, files: Sequence[Path], splits: dict[str, Rows]) -> None:
    shapes = [image.shape[1:] for images, _ in splits.values() for image in images]
    counts = Counter(shapes)
    if len(counts) > 1:
        (commonest, _), *_ = counts.most_common()
        odd = next(file for file, shape in zip(files, shapes, strict=True) if shape != commonest)
        raise DataError(
            f"{folder}: images have {len(counts)} sizes, {commonest[0]}x{commonest[1]} and others, "
            f"such as {odd.relative_to(folder)}; give size: [height, width] to resize them"
        )


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{file} cannot be read as an image ({reason}); repair or remove it")
