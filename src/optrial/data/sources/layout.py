"""Axes of images: samples, channels, rows and columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from optrial.data.arguments import Layout
from optrial.data.dataset import Array, Pair
from optrial.data.source import Source
from optrial.errors import DataError

_AXES = {"nchw": 4, "nhwc": 4, "nhw": 3}
_CHANNELS = (1, 3, 4)
_PIXEL_MAXIMUM = 255


def with_channels(place: str, source: Source, layout: Layout | None) -> Source:
    """Bring images to the shape (n, channels, height, width), and mark bytes as pixels.

    Three axes of bytes are images without a channel axis; of other numbers they are sequences,
    (n, time, features), unless `layout` says otherwise. The channel axis of four is the one with 1,
    3 or 4 entries.

    Args:
        place: origin of the arrays, to begin the error.
        source: arrays of inputs; all but images are returned unchanged.
        layout: order of the axes, if the user names it.

    Raises:
        DataError: the shape does not tell which axis holds the channels, or does not fit `layout`,
            or the splits differ in type.
    """
    splits = {split: (np.asarray(x), y) for split, (x, y) in source.splits.items()}
    first = next(iter(splits.values()))[0]
    chosen = layout or _recognised(place, first)
    if layout is not None and first.ndim != _AXES[layout]:
        raise DataError(
            f"{place}: inputs have shape {first.shape}, which has {first.ndim} axes; layout: "
            f"{layout} needs {_AXES[layout]}"
        )
    if chosen is None:
        return source
    types = {split: x.dtype for split, (x, _) in splits.items()}
    other = next((split for split, dtype in types.items() if dtype != np.uint8), None)
    if other is not None and np.dtype(np.uint8) in types.values():
        raise DataError(
            f"{place}: {other} inputs are of type {types[other]}, those of another split are "
            "bytes, which are pixels from 0 to 255; give all splits the same type and scale"
        )
    notes = list(source.notes)
    if chosen != "nchw" and layout is None:
        shape = " x ".join(map(str, first.shape[1:]))
        axes = "height x width" if chosen == "nhw" else "height x width x channels"
        notes.append(f"inputs of {shape} are read as images, {axes}")
    return replace(
        source,
        splits={split: _moved(pair, chosen) for split, pair in splits.items()},
        pixel_maximum=_PIXEL_MAXIMUM if first.dtype == np.uint8 else source.pixel_maximum,
        notes=notes,
    )


def _recognised(place: str, inputs: Array) -> Layout | None:
    """Return the layout that the shape of images shows; None for other arrays."""
    if inputs.ndim == 3:
        return "nhw" if inputs.dtype == np.uint8 else None
    if inputs.ndim != 4:
        return None
    _, first, second, third = inputs.shape
    if third not in _CHANNELS:
        return "nchw"
    if first not in _CHANNELS:
        return "nhwc"
    # Both may be channels: images of a few pixels are recognised if they are square.
    if (first == second) == (second == third):
        raise DataError(
            f"{place}: inputs have shape {inputs.shape}, in which the channels may be the second "
            "or the last axis; give layout: nchw or layout: nhwc"
        )
    return "nchw" if second == third else "nhwc"


def _moved(pair: Pair, layout: Layout) -> Pair:
    images, targets = pair
    if layout == "nhw" and images.ndim == 3:
        images = images[:, None]
    elif layout == "nhwc" and images.ndim == 4:
        images = np.moveaxis(images, 3, 1)
    return images, targets
