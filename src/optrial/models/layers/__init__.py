"""Layers that can be mapped over a stack of runs, with dropout masks keyed by seed and step."""

from optrial.models.layers.dropout import (
    KeyedDropout,
    drop_threshold,
    keep_mask,
    key_dropout,
    set_mask_key,
)
from optrial.models.layers.recurrent import CELLS, Recurrent
from optrial.models.layers.stackable import make_stackable

__all__ = [
    "CELLS",
    "KeyedDropout",
    "Recurrent",
    "drop_threshold",
    "keep_mask",
    "key_dropout",
    "make_stackable",
    "set_mask_key",
]
