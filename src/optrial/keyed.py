"""Random draws as a pure function of seed, step, purpose and position.

A draw must be the same in every engine, on every device, alone or in a stack, and after a resumed
run. A generator with hidden state cannot guarantee that, so draws are computed by integer hashing.
The same source runs on NumPy arrays and torch tensors.
"""

from __future__ import annotations

import zlib
from typing import Any

__all__ = ["draw32", "evaluation_key", "hash32", "mask_key", "named_key", "signs", "step_key"]

Array = Any  # a NumPy array or a torch tensor

_LOW_32_BITS = 0xFFFFFFFF
_SIGNS = -1  # stream of `signs`
_ODD = 0x9E3779B9  # 2^32 / golden ratio: separates neighbouring seeds, and does not map 0 to 0


def hash32(values: Array) -> Array:
    """Mix 32-bit integers held in int64: Wellons' `lowbias32`, nullprogram.com, 2018.

    The products may wrap around 64 bits; this does not affect their low 32 bits, the only ones
    kept.
    """
    values = (values ^ (values >> 16)) * 0x7FEB352D & _LOW_32_BITS
    values = (values ^ (values >> 15)) * 0x846CA68B & _LOW_32_BITS
    return values ^ (values >> 16)


def mask_key(seed: int, step: int) -> int:
    """Return the 32-bit key of all draws in one training step of one run."""
    return int(step_key(seed, step))


def step_key(seed: Array, step: Array) -> Array:
    """Return `mask_key` of each run: of whole numbers, or int64 arrays that broadcast."""
    return hash32(hash32(seed + _ODD & _LOW_32_BITS) + step & _LOW_32_BITS)


def evaluation_key(seed: int, step: int, split: str) -> int:
    """Return the 32-bit key of all draws when a run is evaluated on a split after a step."""
    return int(named_key(mask_key(seed, step), split))


def named_key(key: Array, name: str) -> Array:
    """Return the 32-bit key of the draws for something with a name, such as a parameter.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array.
        name: its name.
    """
    return hash32(key ^ zlib.crc32(name.encode()))


def draw32(key: Array, stream: int, positions: Array) -> Array:
    """Return independent draws, uniform over 0 to 2^32 − 1, as int64.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array that broadcasts.
        stream: purpose of the draws: 0, 1, ... for the dropout layers of a model, negative numbers
            for everything else. Streams are independent under the same key.
        positions: int64, one per draw.
    """
    stream_key = hash32(key + stream * _ODD & _LOW_32_BITS)
    if hasattr(stream_key, "as_strided"):
        # An identity that torch.compile cannot look through: otherwise it computes the key for
        # every position and takes three times as long to compile.
        stream_key = stream_key.as_strided(stream_key.shape, stream_key.stride())
    return hash32(hash32(positions ^ stream_key) + key & _LOW_32_BITS)


def signs(key: Array, name: str, positions: Array) -> Array:
    """Return independent draws of −1 and 1 with equal probability, as int64.

    Args:
        key: `mask_key` of the run and step, an integer or an int64 array that broadcasts.
        name: name of the parameter that they are for.
        positions: int64, one per draw.
    """
    return 2 * (draw32(named_key(key, name), _SIGNS, positions) >> 31) - 1
