"""Arrays as people keep them: the names in ``.npz`` files, and the axes of images."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optrial.data.dataset import SPLITS
from optrial.data.source import Rows, Source
from optrial.errors import DataError

__all__ = ["Layout", "read_npz", "with_channels"]

Layout = Literal["nchw", "nhwc", "nhw"] | None

_NPZ_LAYOUTS = (
    "train_inputs, train_targets[, test_inputs, test_targets][, validation_...], or "
    "x_train, y_train[, x_test, y_test], or train_images, train_labels, or inputs, targets, or "
    "X, y, or data, target"
)
_INPUTS = ("inputs", "x", "data", "images", "features")
_TARGETS = ("targets", "y", "target", "labels", "label")
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_DESCRIPTIVE = {
    *("feature_names", "target_names", "class_names", "classes", "label_names", "names"),
    *("descr", "filename", "frame", "data_module", "description"),
}
_CHANNELS = (1, 3, 4)
_PIXEL_MAXIMUM = 255


def read_npz(path: Path) -> Source:
    """Read arrays by name; pickled objects are never loaded.

    Args:
        path: holds inputs and targets of ``train``, and maybe ``test`` and ``validation``, or of
            all samples, by the names that Keras, MedMNIST and scikit-learn use; case is ignored.

    Raises:
        DataError: the file is damaged or too large, or its arrays have other names.
    """
    names = _members(path)
    chosen = _split_names(path, names)
    wanted = [name for pair in chosen.values() for name in pair]
    arrays = _loaded(path, wanted)
    splits = {split: (arrays[x], arrays[y]) for split, (x, y) in chosen.items()}
    ignored = [name for name in names if name not in wanted]
    notes = [f"arrays that are not used: {', '.join(ignored)}"] if ignored else []
    return Source(splits, notes=notes)


def _members(path: Path) -> list[str]:
    """Return the names of the arrays, which must fit into memory, from the directory alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # damaged bytes raise whatever the reader of that byte raises
        raise _unreadable(path, error) from error
    size = sum(info.file_size for info in infos)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise DataError(
            f"{path} unpacks to {size / 1e9:,.1f} GB, more than this machine's memory of "
            f"{memory / 1e9:,.1f} GB; keep fewer samples, or a smaller type such as uint8"
        )
    return [info.filename.removesuffix(".npy") for info in infos]


def _loaded(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                _check_header(archive, f"{name}.npy")
        # Opened here, because NumPy leaves a file open that turns out to be no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:
        raise _unreadable(path, error) from error


def _check_header(archive: zipfile.ZipFile, member: str) -> None:
    """Refuse an array whose header promises more than the archive holds, before it is allocated."""
    with archive.open(member) as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if major > 1:
            read = np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        promised = int(np.prod(shape, dtype=object)) * dtype.itemsize
        held = archive.getinfo(member).file_size - file.tell()
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    if promised != held:
        raise ValueError(f"{member} holds {held} bytes where its header says {promised}")


def _split_names(path: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Find the names of inputs and targets of each split, or of ``all`` samples."""
    folded = {name.casefold(): name for name in names}
    chosen = {}
    for split in ("all", *SPLITS):
        pairs = [
            (folded[x], folded[y])
            for x, y in itertools.product(_spelled(split, _INPUTS), _spelled(split, _TARGETS))
            if x in folded and y in folded
        ]
        if pairs:
            chosen[split] = pairs[0]
    used = {name for pair in chosen.values() for name in pair}
    unused = [n for n in names if n not in used and n.casefold() not in _DESCRIPTIVE]
    whole = "all" in chosen
    if unused or not chosen.keys() & {"train", "all"} or (len(chosen) > 1 and whole):
        raise DataError(f"{path} holds the arrays {', '.join(names)}; name them {_NPZ_LAYOUTS}")
    return chosen


def _spelled(split: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Yield the names that inputs or targets of a split may have."""
    for part in parts:
        if split == "all":
            yield part
        else:
            for word in _SPLIT_WORDS[split]:
                yield from (f"{word}_{part}", f"{part}_{word}", f"{part}{word}")


def with_channels(place: str, source: Source, layout: Layout) -> Source:
    """Bring images to the shape (n, channels, height, width), and note that bytes are pixels.

    Three axes of bytes are images without a channel axis; of other numbers they are sequences,
    (n, time, features), unless `layout` says otherwise. Four axes are told by 1, 3 or 4 channels.

    Args:
        place: where the arrays are from, to begin the error.
        source: arrays of inputs; others than images are returned unchanged.
        layout: order of the axes, where the user names it.

    Raises:
        DataError: the shape leaves open where the channels are, or does not fit `layout`.
    """
    first = np.asarray(next(iter(source.splits.values()))[0])
    chosen = layout or _told(place, first)
    axes = {"nchw": 4, "nhwc": 4, "nhw": 3}
    if layout is not None and first.ndim != axes[layout]:
        raise DataError(
            f"{place}: inputs have shape {first.shape}, which has {first.ndim} axes; layout: "
            f"{layout} needs {axes[layout]}"
        )
    if chosen is None:
        return source
    splits = {split: _moved(rows, chosen) for split, rows in source.splits.items()}
    notes = list(source.notes)
    if chosen != "nchw" and layout is None:
        shape = " x ".join(map(str, first.shape[1:]))
        axes_read = "height x width" if chosen == "nhw" else "height x width x channels"
        notes.append(f"inputs of {shape} are read as images, {axes_read}")
    pixels = first.dtype == np.uint8
    types = {split: np.asarray(inputs).dtype for split, (inputs, _) in splits.items()}
    other = next((split for split, dtype in types.items() if dtype != np.uint8), None)
    if other is not None and np.dtype(np.uint8) in types.values():
        raise DataError(
            f"{place}: {other} inputs are of type {types[other]}, those of another split are "
            "bytes, which are pixels from 0 to 255; give all splits the same type and scale"
        )
    maximum = _PIXEL_MAXIMUM if pixels else source.pixel_maximum
    return replace(source, splits=splits, pixel_maximum=maximum, notes=notes)


def _told(place: str, inputs: NDArray[Any]) -> Layout:
    """Return the layout of images by their shape; None for other arrays."""
    if inputs.ndim == 3:
        return "nhw" if inputs.dtype == np.uint8 else None
    if inputs.ndim != 4:
        return None
    _, first, second, third = inputs.shape
    if third not in _CHANNELS:
        return "nchw"
    if first not in _CHANNELS:
        return "nhwc"
    # Both may be channels; images of a few pixels are told by being square.
    if (first == second) == (second == third):
        raise DataError(
            f"{place}: inputs have shape {inputs.shape}, in which the channels may be the second "
            "or the last axis; give layout: nchw or layout: nhwc"
        )
    return "nchw" if second == third else "nhwc"


def _moved(rows: Rows, layout: Literal["nchw", "nhwc", "nhw"]) -> Rows:
    inputs, targets = rows
    images = np.asarray(inputs)
    if layout == "nhw" and images.ndim == 3:
        images = images[:, None]
    elif layout == "nhwc" and images.ndim == 4:
        images = np.moveaxis(images, 3, 1)
    return images, targets


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = str(error).split("\n", 1)[0] or type(error).__name__
    return DataError(f"{path} cannot be read ({reason}); write it again, or name another file")
