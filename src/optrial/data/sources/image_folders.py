"""Folders of images, one folder per class: ``red/1.png``, or ``train/red/1.png``."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from optrial.data.arguments import ImageFolderArguments
from optrial.data.dataset import SPLITS
from optrial.data.fitting import require_memory
from optrial.data.source import Request, Source
from optrial.errors import DataError, counted

_SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_GRAYSCALE_MODES = {"1", "L", "LA"}
_DEEP_MODES = ("I", "F")  # more than 8 bits, which a conversion would cut off
_PIXEL_BYTES = 1 + 1 + 4  # of a channel: as read, together in one array, and as float32
_DECODED_BYTES = 2 * 4  # of a pixel, all channels: as decoded, and turned or converted
_FILES_SHOWN = 5

Pixels = NDArray[np.uint8]


def read_image_folder(request: Request[ImageFolderArguments]) -> Source:
    """Read all images of a folder, as bytes of shape (n, channels, height, width).

    The folder holds one folder per class, or the folders ``train``, ``test`` and ``validation``,
    which hold the class folders. The names of the class folders are the labels.

    Raises:
        DataError: the folder has another form, an image cannot be read, or images differ in size
            and no `size` is given.
    """
    folder, arguments = request.path, request.arguments
    ignored: list[Path] = []
    files = {split: list(_files(part, ignored)) for split, part in _split_folders(folder).items()}
    empty = [split for split, images in files.items() if not images]
    if empty:
        raise DataError(
            f"{folder} holds no images in folders of classes for {', '.join(empty)}; it must hold "
            "CLASS/IMAGE.png, or train/CLASS/IMAGE.png and test/CLASS/IMAGE.png"
        )
    paths = [file for images in files.values() for file, _ in images]
    headers = {file: _header(file) for file in paths}
    grayscale = arguments.color == "grayscale" or (
        arguments.color is None
        and all(header.mode in _GRAYSCALE_MODES for header in headers.values())
    )
    _check_memory(folder, headers, 1 if grayscale else 3, arguments.size)
    pixels = {file: _pixels(file, grayscale, arguments.size) for file in paths}
    _check_sizes(folder, pixels)
    notes = [f"images are read as {'grayscale' if grayscale else 'RGB'}"]
    if ignored:
        shown = ", ".join(str(file.relative_to(folder)) for file in ignored[:_FILES_SHOWN])
        notes.append(f"ignored {counted(len(ignored), 'file')} other than images: {shown}")
    splits = {
        split: (np.stack([pixels[file] for file, _ in images]), _labels(images))
        for split, images in files.items()
    }
    return Source(splits, pixel_maximum=255, notes=notes)


def _split_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each split, or the folder itself for ``all`` samples."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    known = [path for path in inside if path.name.lower() in _SPLIT_FOLDERS]
    named = Counter(_SPLIT_FOLDERS[path.name.lower()] for path in known)
    if "train" not in named:
        return {"all": folder}
    other = [path for path in inside if path not in known and not path.name.startswith(".")]
    if other or max(named.values()) > 1:
        names = ", ".join(path.name for path in inside)
        raise DataError(
            f"{folder} holds the folders {names}; it must hold train, test and validation, or one "
            "folder per class"
        )
    of_split = {_SPLIT_FOLDERS[path.name.lower()]: path for path in known}
    return {split: of_split[split] for split in SPLITS if split in of_split}


def _files(folder: Path, ignored: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each image of the class folders with its class; add other files to `ignored`."""
    extensions = Image.registered_extensions()
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if class_folder.name.startswith("."):
            continue
        for file in sorted(class_folder.rglob("*")):
            if file.is_dir() or file.name.startswith("."):
                continue
            if file.suffix.lower() in extensions:
                yield file, class_folder.name
            else:
                ignored.append(file)


@dataclass(frozen=True)
class _Header:
    """Properties of an image, from its first bytes."""

    mode: str
    pixels: int


def _header(file: Path) -> _Header:
    with _opened(file) as picture:
        return _Header(picture.mode, math.prod(picture.size))


def _check_memory(
    folder: Path, headers: Mapping[Path, _Header], channels: int, size: tuple[int, int] | None
) -> None:
    """Refuse images that do not fit into memory, one alone or all together, before any is decoded.

    Args:
        folder: of the images, for the message.
        headers: of all images.
        channels: of each pixel as it is kept.
        size: height and width of the images that are kept; None for their own.
    """
    largest = max(headers, key=lambda file: headers[file].pixels)
    require_memory(str(largest), _DECODED_BYTES * headers[largest].pixels)
    pixels = [math.prod(size) if size else header.pixels for header in headers.values()]
    require_memory(str(folder), _PIXEL_BYTES * channels * sum(pixels))


def _opened(file: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture so large that it may be an attack
            return Image.open(file)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        reason = str(error).split(",", 1)[0]
        raise DataError(f"{file} is too large ({reason}); make it smaller or remove it") from error
    except Exception as error:
        raise _unreadable(file, error) from error


def _labels(images: Sequence[tuple[Path, str]]) -> NDArray[np.object_]:
    return np.array([label for _, label in images], object)


def _pixels(file: Path, grayscale: bool, size: tuple[int, int] | None) -> Pixels:
    """Return one image, upright, as (channels, height, width)."""
    with _opened(file) as picture:
        if picture.mode.startswith(_DEEP_MODES):
            raise DataError(
                f"{file} has pixels of mode {picture.mode}, more than 8 bits; convert it to 8 bits"
            )
        try:
            image = ImageOps.exif_transpose(picture).convert("L" if grayscale else "RGB")
            if size is not None:
                height, width = size
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.uint8)
        except Exception as error:
            raise _unreadable(file, error) from error
    return pixels[None] if grayscale else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _check_sizes(folder: Path, pixels: dict[Path, Pixels]) -> None:
    counts = Counter(image.shape[1:] for image in pixels.values())
    if len(counts) > 1:
        (commonest, _), *_ = counts.most_common()
        odd = next(file for file, image in pixels.items() if image.shape[1:] != commonest)
        raise DataError(
            f"{folder}: images have {len(counts)} sizes, {commonest[0]}x{commonest[1]} and others, "
            f"such as {odd.relative_to(folder)}; give size: [height, width] to resize them"
        )


def _unreadable(file: Path, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(f"{file} cannot be read as an image ({reason}); repair or remove it")
