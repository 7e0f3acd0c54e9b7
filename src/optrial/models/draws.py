"""Random draws of user code and of initial weights, seeded through the global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

__all__ = ["seeded_draws"]


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """Seed the global generators of PyTorch, NumPy and Python; restore their states afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        _seed_torch(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _seed_torch(seed: int) -> None:
    """Seed the generators of PyTorch.

    Until an accelerator is in use, `torch.manual_seed` formats the stack several times for errors
    of the devices, which takes longer than a step of a small model.
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
