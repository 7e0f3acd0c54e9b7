"""Products in lower precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["mixed_precision"]


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that computes products in bfloat16 if that is the precision."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
