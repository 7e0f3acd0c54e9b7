"""Global settings of PyTorch, which apply to the whole process, so that no run may change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["kept_settings"]

_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_default_device": (torch.get_default_device, torch.set_default_device),
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.set_float32_matmul_precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "torch.use_deterministic_algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
}


@contextmanager
def kept_settings() -> Iterator[list[str]]:
    """Restore the settings on exit; yield a list that then gets one sentence per change."""
    before = {name: read() for name, (read, _) in _SETTINGS.items()}
    changes: list[str] = []
    try:
        yield changes
    finally:
        for name, (read, write) in _SETTINGS.items():
            if read() != before[name]:
                write(before[name])
                changes.append(
                    f"changes the setting of {name} for every run in this process; restore it, or "
                    "change it once, before any training, when the module is imported"
                )
